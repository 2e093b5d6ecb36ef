-- What several processes need over one database: who executes, orders that nobody holds yet, and the books' leases.
-- Applied once, inside a transaction, under the migration lock. Earlier releases may run while it is applied.

-- Which append function a process calls: an earlier release's lives until nobody calls it any more.
alter table bestex.engines add column append_function text not null default 'append';

-- 'inline': executes what it accepts; 'api': executes nothing; 'worker': executes what it claims; 'watcher': fires.
alter table bestex.writers add column mode text not null default 'inline';

-- Orders that nobody holds, in the order in which they are claimed. Neither column changes while an order executes.
alter table bestex.orders add column priority smallint not null default 5;  -- the smallest first
alter table bestex.orders add column run_after timestamptz;                 -- nobody takes it up before
create index orders_unheld on bestex.orders (priority, id)
    where lease_owner is null and not settled and not resting;

-- Watched orders by what fires them.
create index orders_resting_pair on bestex.orders (pair, id) where resting;

-- Who fires a pair's orders: one owner until a time, under an epoch that every change of owner raises.
create table bestex.book_leases (
    key   text primary key,     -- a pair's name, or what the snipers and the switches have instead
    owner uuid,                 -- an engine's id; null: nobody's
    epoch integer     not null,
    until timestamptz not null
);

-- Room that apis have reserved for orders they are about to accept, so that all of them together keep the bounds.
create table bestex.intake_room (
    engine_id  uuid primary key references bestex.engines (id) on delete cascade,
    waiting    integer     not null default 0,  -- orders
    open       integer     not null default 0,
    watched    integer     not null default 0,
    granted_at timestamptz not null
);

-- Reserve room for one engine, in place of what it had: of what is left of each bound its share among the engines that
-- reserve, and never more than the others have not reserved. What was counted and what is reserved together never exceed
-- a bound: an order that is stored later than the count is covered by its engine's reservation, which is still there.
-- p_held_* is what the engine may still use, or is storing, until it has the answer: so much stays reserved till it asks
-- again, though it gets less.
-- With p_watched_max null its room for watched orders stays, and they are not counted: that may take long.
create function bestex.reserve_room(
    p_engine uuid, p_waiting integer, p_open integer, p_watched integer, p_watched_max integer,
    p_held_waiting integer, p_held_open integer, p_held_watched integer, p_lasts interval,
    out waiting integer, out open integer, out watched integer,
    out there_wait integer, out there_are_open integer, out there_are_watched integer
)
language plpgsql
set search_path = bestex, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
    others record;
    mine   intake_room%rowtype;
    room   integer;
begin
    -- One at a time; each statement below sees what was committed before it.
    perform pg_advisory_xact_lock(hashtext('bestex.intake_room'));
    insert into intake_room as r (engine_id, granted_at)
    select e.id, clock_timestamp() from engines e where e.id = p_engine
        on conflict (engine_id) do update
       set granted_at = excluded.granted_at,
           watched = case when r.granted_at > clock_timestamp() - p_lasts then r.watched else 0 end
    returning * into mine;
    if not found then  -- it has lost its place
        waiting := 0;
        open := 0;
        watched := 0;
        there_wait := 0;
        there_are_open := 0;
        return;
    end if;
    select count(*) as engines, coalesce(sum(r.waiting), 0)::integer as waiting,
           coalesce(sum(r.open), 0)::integer as open, coalesce(sum(r.watched), 0)::integer as watched
      into others
      from intake_room r where r.engine_id <> p_engine and r.granted_at > clock_timestamp() - p_lasts;

    select count(*) into there_wait from (
        select from orders where lease_owner is null and not settled and not resting limit p_waiting) o;
    room := p_waiting - there_wait;
    waiting := greatest(0, least(ceil(room / (others.engines + 1.0)), room - others.waiting));

    select count(*) into there_are_open from (
        select from orders o where not o.settled and not o.resting and o.status <> 'confirmed' limit p_open) o;
    room := p_open - there_are_open;
    open := greatest(0, least(ceil(room / (others.engines + 1.0)), room - others.open));

    -- An order takes one of each: two engines must not have one each of the last.
    waiting := least(waiting, open);
    open := waiting;

    watched := mine.watched;
    if p_watched_max is not null then
        select count(*) into there_are_watched from (select from orders where resting limit p_watched) o;
        room := p_watched - there_are_watched;
        watched := greatest(0, least(ceil(room / (others.engines + 1.0)), room - others.watched, p_watched_max));
    end if;

    update intake_room r
       set waiting = greatest(reserve_room.waiting, p_held_waiting), open = greatest(reserve_room.open, p_held_open),
           watched = greatest(reserve_room.watched, p_held_watched)
     where r.engine_id = p_engine;
end
$$;
