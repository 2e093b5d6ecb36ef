-- The append function. Replaced at every start, so that it is always this release's.
--
-- Takes one group commit's rows and stores each order's rows all or none:
--   n_* one element per new order, u_* one per order that exists, e_* one per event,
--   an order's events side by side and in order. What is missing at the end of n_view, n_unfilled, n_parent,
--   n_carrier, u_view, u_unfilled, u_takes, u_pair, u_run_after, u_fence, u_fence_epoch and e_sealed is null.
-- An order is refused when it has moved on or its lease is another's ('moved'), when its idempotency key or
-- client order id is taken, if by an archived order ('duplicate'), or when its events do not follow the lifecycle ('illegal').
-- Nobody holds the lease of an order that is watched; with u_takes the engine takes it, under the next epoch.
-- With u_pair its pair becomes another: a sniper has found what it buys.
-- A new order with n_carrier is a companion of that order's rows: it is stored only if they are ('carrier'), and
-- refused without harm to them when it is there already; if it is illegal, so are they.
-- The events of the others get the positions first_position, first_position + 1, ... in the order given, and hashes:
-- each over the row's bytes and the hash before it, as domain/log_hash.py says.
-- Called again with the commit number of its last call it changes nothing and gives that call's answer.
--
-- With u_run_after the order is handed back: nobody holds it, and nobody takes it up before that time.
-- With u_fence the rows are stored only while the engine owns that book under that epoch.
-- A writer that does not execute holds no lease: what it accepts or fires is nobody's until a worker claims it. Writers
-- over a shared database notify `bestex_log` of the log's new end, and `bestex_work` of orders that wait for a worker.
--
-- {append} is this release's own name for it: processes of two releases may run side by side.
--
-- n_first and n_last, u_first and u_last say where in e_* an order's events begin and end. A view is given of an order that rests or is settled.
--
-- Lock order: the writer's row, the head of the log, orders. Under the head's lock nobody else writes orders' states,
-- so what this transaction did not write was refused. The plans are kept for the life of a connection: it must be one
-- of `PostgresStore`, where those made while the tables are small are those that serve for ever.

create or replace function bestex.{append}(
    p_engine uuid, p_commit bigint,
    n_id uuid[], n_kind text[], n_pair text[], n_caller text[], n_key text[], n_client text[], n_hash bytea[],
    n_first integer[], n_last integer[], n_epoch integer[], n_settled boolean[], n_view text[], n_unfilled text[],
    n_parent uuid[], n_carrier uuid[],
    u_id uuid[], u_base integer[], u_from text[], u_first integer[], u_last integer[], u_epoch integer[],
    u_settled boolean[], u_view text[], u_unfilled text[], u_takes boolean[], u_pair text[], u_run_after bigint[],
    u_fence text[], u_fence_epoch integer[],
    e_id uuid[], e_seq integer[], e_status text[], e_attempt integer[], e_at_us bigint[], e_detail text[],
    e_sealed bytea[],
    out first_position bigint, out refused uuid[], out reasons text[], out head_hash bytea
)
language plpgsql
as $$
declare
    writer   bestex.writers%rowtype;
    executes boolean;
    head     bigint;
    events   integer := cardinality(e_id);
    updated  integer := cardinality(u_id);
    created  integer := cardinality(n_id);
    stored   integer;
    illegal  uuid[] := '{}';
    accepted text[];
    archives boolean;
    hashes   bytea[];
begin
    select * into writer from bestex.writers w where w.engine_id = p_engine for update;
    if not found then
        raise exception 'engine % has lost its place to another', p_engine using errcode = 'BX001';
    end if;
    if writer.last_commit = p_commit then
        first_position := writer.first_position;
        refused := writer.refused;
        reasons := writer.reasons;
        head_hash := writer.hash;
        return;
    end if;
    if writer.last_commit + 1 <> p_commit then
        raise exception 'commit % cannot follow commit %', p_commit, writer.last_commit using errcode = 'BX002';
    end if;

    executes := writer.mode in ('inline', 'worker');
    select position, hash, archived_to > 0 into head, head_hash, archives from bestex.log_head for update;
    first_position := head + 1;
    refused := '{}';
    reasons := '{}';

    -- Is anything wrong with the events? Which orders' they are is asked only then.
    if exists (select from (select e_status[n - 1], e_status[n] from generate_series(2, events) n
                             where e_id[n] = e_id[n - 1]
                            union select u_from[n], e_status[u_first[n]] from generate_series(1, updated) n
                            union select '', e_status[n_first[n]] from generate_series(1, created) n) t (before, after)
                where not exists (select from bestex.lifecycle l where l.before = t.before and l.after = t.after))
        or (select count(*) filter (where e_id[n] is distinct from e_id[n - 1]) <> updated + created
                   or bool_or(e_id[n] = e_id[n - 1] and e_seq[n] <> e_seq[n - 1] + 1)
              from generate_series(1, events) n)
        or exists (select from generate_series(1, updated) n
                    where e_id[u_first[n]] is distinct from u_id[n] or e_seq[u_first[n]] <> u_base[n] + 1
                       or e_id[u_last[n]] is distinct from u_id[n])
        or exists (select from generate_series(1, created) n
                    where e_id[n_first[n]] is distinct from n_id[n] or e_seq[n_first[n]] <> 1
                       or e_id[n_last[n]] is distinct from n_id[n])
    then
        with e as (
            select t.id, t.seq, t.status,
                   lag(t.id) over (order by t.ord) as last_id,
                   lag(t.seq) over (order by t.ord) as last_seq,
                   lag(t.status) over (order by t.ord) as last_status
              from unnest(e_id, e_seq, e_status) with ordinality as t (id, seq, status, ord)),
        -- An order's first event builds on what its row names; a new order's on nothing.
        r as (
            select u.id, u.base, u.came_from from unnest(u_id, u_base, u_from) as u (id, base, came_from)
            union all
            select n.id, 0, '' from unnest(n_id) as n (id))
        select coalesce(array_agg(distinct i.id), '{}') into illegal
          from (select e.id from e left join r on r.id = e.id
                 where case when e.last_id = e.id
                            then e.seq <> e.last_seq + 1
                                or not exists (select from bestex.lifecycle l
                                                where l.before = e.last_status and l.after = e.status)
                            else r.id is null or e.seq <> r.base + 1
                                or not exists (select from bestex.lifecycle l
                                                where l.before = r.came_from and l.after = e.status) end
                union all
                select r.id from r where not exists (select from e where e.id = r.id)) i;
        select illegal || coalesce(array_agg(n.carrier), '{}') into illegal
          from unnest(n_id, n_carrier) as n (id, carrier)
         where n.id = any (illegal) and n.carrier <> all (illegal);
        refused := illegal;
        reasons := array_fill('illegal'::text, array[cardinality(illegal)]);
    end if;

    -- Updates before new orders: a companion depends on what becomes of its carrier.
    if updated > 0 then
        update bestex.orders o
           set status = e_status[u_last[n]], seq = e_seq[u_last[n]], attempt = e_attempt[u_last[n]],
               unfilled = u_unfilled[n], settled = u_settled[n], resting = e_status[u_last[n]] = 'watching',
               view = u_view[n],
               pair = coalesce(u_pair[n], o.pair),
               lease_owner = case when e_status[u_last[n]] = 'watching' or u_run_after[n] is not null then null
                                  when u_takes[n] then case when executes then p_engine end
                                  else o.lease_owner end,
               lease_epoch = case when u_takes[n] then u_epoch[n] else o.lease_epoch end,
               run_after = to_timestamp(u_run_after[n] / 1000000::float8)
          from generate_series(1, updated) n
         where o.id = u_id[n] and o.seq = u_base[n] and o.status = u_from[n]
           and case when u_takes[n] then o.lease_owner is null and o.lease_epoch + 1 = u_epoch[n]
                    else u_epoch[n] is null or (o.lease_epoch = u_epoch[n] and o.lease_owner = p_engine) end
           and (u_fence[n] is null or exists (select from bestex.book_leases b where b.key = u_fence[n]
                                                 and b.owner = p_engine and b.epoch = u_fence_epoch[n]))
           and u_id[n] <> all (illegal);
        get diagnostics stored = row_count;
        if stored < updated then
            select refused || coalesce(array_agg(u.id), '{}'),
                   reasons || array_fill('moved'::text, array[count(u.id)::integer])
              into refused, reasons
              from unnest(u_id) as u (id)
             where u.id <> all (illegal)
               and not exists (select from bestex.orders o
                                where o.id = u.id and o.xmin = pg_current_xact_id()::xid);
        end if;
    end if;

    if created > 0 then
        insert into bestex.orders (id, kind, pair, caller, idempotency_key, client_order_id, request_hash,
                                   status, seq, attempt, unfilled, settled, resting, lease_owner, lease_epoch,
                                   parent_id, priority, view)
        select n_id[n], n_kind[n], n_pair[n], n_caller[n], n_key[n], n_client[n], n_hash[n],
               e_status[n_last[n]], e_seq[n_last[n]], e_attempt[n_last[n]], n_unfilled[n], n_settled[n],
               e_status[n_last[n]] = 'watching',
               case when executes and n_epoch[n] is not null and e_status[n_last[n]] <> 'watching' then p_engine end,
               coalesce(n_epoch[n], 0), n_parent[n],
               case n_kind[n] when 'sniper' then 1 when 'stop' then 2 when 'trailingStop' then 2 when 'exits' then 2
                              when 'takeProfit' then 3 when 'limit' then 4
                              else case when n_parent[n] is null then 5 else 6 end end,
               n_view[n]
          from generate_series(1, created) n
         where n_id[n] <> all (illegal) and (n_carrier[n] is null or n_carrier[n] <> all (refused))
           and not (archives and (
               exists (select from bestex.archived a where a.order_id = n_id[n])
               or exists (select from bestex.archived a where a.caller = n_caller[n] and a.idempotency_key = n_key[n])
               or exists (select from bestex.archived a where a.caller = n_caller[n] and a.client_order_id = n_client[n])
           ))
        on conflict do nothing;
        get diagnostics stored = row_count;
        if stored < created then
            select refused || coalesce(array_agg(n.id), '{}'),
                   reasons || coalesce(array_agg(case when n.carrier = any (refused) then 'carrier'
                                                      else 'duplicate' end), '{}')
              into refused, reasons
              from unnest(n_id, n_carrier) as n (id, carrier)
             where n.id <> all (illegal)
               and not exists (select from bestex.orders o
                                where o.id = n.id and o.xmin = pg_current_xact_id()::xid);
        end if;
    end if;

    accepted := e_status;
    if refused <> '{}' then
        select coalesce(array_agg(e.id), '{}'), array_agg(e.seq), array_agg(e.status), array_agg(e.attempt),
               array_agg(e.at_us), array_agg(e.detail), array_agg(e.sealed), count(*)
          into e_id, e_seq, e_status, e_attempt, e_at_us, e_detail, e_sealed, events
          from unnest(e_id, e_seq, e_status, e_attempt, e_at_us, e_detail, e_sealed)
               as e (id, seq, status, attempt, at_us, detail, sealed)
         where e.id <> all (refused);
    end if;

    for n in 1 .. events loop
        head_hash := sha256(head_hash || convert_to(
            concat_ws(' ', head + n, e_id[n], e_seq[n], e_status[n], e_attempt[n], e_at_us[n],
                      octet_length(e_detail[n]), e_detail[n]), 'UTF8') || coalesce(e_sealed[n], ''));
        hashes[n] := head_hash;
    end loop;

    insert into bestex.events (position, order_id, seq, status, attempt, at, detail, sealed, hash)
    select head + n, e_id[n], e_seq[n], e_status[n], e_attempt[n], to_timestamp(e_at_us[n] / 1000000::float8),
           e_detail[n], e_sealed[n], hashes[n]
      from generate_series(1, events) n;

    update bestex.log_head set position = head + events, hash = head_hash;
    update bestex.writers w
       set last_commit = p_commit, first_position = {append}.first_position,
           refused = {append}.refused, reasons = {append}.reasons, hash = {append}.head_hash
     where w.engine_id = p_engine;

    if writer.mode <> 'inline' and events > 0 then
        perform pg_notify('bestex_log', (head + events)::text);
        if (not executes and 't' = any (u_takes))
            or exists (select from generate_series(1, created) n
                        where accepted[n_last[n]] = 'pending' and (n_epoch[n] is null or not executes)) then
            perform pg_notify('bestex_work', '');
        end if;
    end if;
end
$$;
