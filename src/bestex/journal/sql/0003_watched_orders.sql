-- Watched orders, orders that belong to another, and what triggers keep beside the log.
-- Applied once, inside a transaction, under the migration lock.

-- A watched order rests: nobody executes it, so nobody holds its lease. Earlier releases had none.
alter table bestex.orders add column resting boolean not null default false;
alter table bestex.orders add column parent_id uuid;  -- the sliced order or the entry that it belongs to

-- There may be a million resting ones: who looks for work must not wade through them. Neither column changes in a
-- market order's life: such an update would write every index anew.
drop index bestex.orders_unsettled;
create index orders_unsettled on bestex.orders (id) where not settled and not resting;
create index orders_resting on bestex.orders (id) where resting;
create index orders_parent on bestex.orders (parent_id, id) where parent_id is not null;

-- The best price that a pair's sellers or buyers have met since a time, until a later one that was better.
create table bestex.high_waters (
    pair       text    not null,
    sells_base boolean not null,
    at_us      bigint  not null,  -- Unix microseconds
    price      numeric not null,  -- quote token per base token
    primary key (pair, sells_base, at_us)
);

-- Pools that were seen, and what was thought of them.
create table bestex.launches (
    mint    text   not null,
    pool    text   not null,
    seen_us bigint not null,  -- Unix microseconds
    record  json   not null,
    primary key (mint, pool)
);
create index launches_seen on bestex.launches (seen_us);

-- Callers' dead-man switches.
create table bestex.dead_men (
    caller      text    not null primary key,
    due_us      bigint  not null,  -- Unix microseconds
    keeps_stops boolean not null
);
