-- The journal: the event log, its head, the projection, and who may write.
-- Applied once, inside a transaction, under the migration lock.

create schema if not exists bestex;

-- Which status may follow which; '' stands for "no event yet". Filled from domain/lifecycle.py at every start.
create table bestex.lifecycle (
    before text not null,
    after  text not null,
    primary key (before, after)
);

-- Engines alive over this database. An engine's leases last as long as its row is fresh.
create table bestex.engines (
    id            uuid primary key,
    mode          text        not null,  -- 'inline': executes the orders that it accepts
    about         text        not null,  -- host and process, for a person to read
    started_at    timestamptz not null default clock_timestamp(),
    seen_at       timestamptz not null default clock_timestamp(),  -- the last sign of life
    backend_pid   integer     not null,  -- of the connection that gives the signs
    backend_start timestamptz not null
);

-- One row per engine that may append; an engine without its row is fenced out.
-- Keeps the last commit's answer, so that a commit whose answer was lost can be asked for again.
create table bestex.writers (
    engine_id      uuid primary key references bestex.engines (id) on delete cascade,
    last_commit    bigint not null default 0,  -- 1, 2, 3 ... within the engine
    first_position bigint not null default 0,
    refused        uuid[] not null default '{}',
    reasons        text[] not null default '{}'
);

-- The position of the last event. Its row lock orders all commits.
create table bestex.log_head (
    one      boolean primary key default true check (one),
    position bigint not null
);
insert into bestex.log_head (position) values (0);

-- The truth. `detail` is kept to the byte as watchers get it; `sealed` is for the engine alone.
create table bestex.events (
    position bigint      not null primary key,  -- in commit order, without a gap
    order_id uuid        not null,
    seq      integer     not null check (seq > 0),
    status   text        not null,
    attempt  integer     not null check (attempt >= 0),
    at       timestamptz not null,
    detail   json        not null,
    sealed   bytea,
    unique (order_id, seq)
);

-- The projection: every order's current state, written in the append that changes it.
create table bestex.orders (
    id              uuid    primary key,
    kind            text    not null,
    pair            text    not null,
    caller          text    not null,
    idempotency_key text,
    client_order_id text,
    request_hash    bytea   not null,
    status          text    not null,
    seq             integer not null,
    attempt         integer not null,
    ended           text,           -- the status it ended with; null while open
    lease_owner     uuid,           -- the engine that executes it
    lease_epoch     integer not null,
    view            json    not null  -- as the API shows it
) with (fillfactor = 70);           -- room for the updates of a page's orders on the same page

create unique index orders_idempotency_key on bestex.orders (caller, idempotency_key)
    where idempotency_key is not null;
create unique index orders_client_order_id on bestex.orders (caller, client_order_id)
    where client_order_id is not null;
create index orders_open on bestex.orders (id) where ended is null;
create index orders_unfilled on bestex.orders (ended, id) where ended <> 'confirmed';
create index orders_pair on bestex.orders (pair, id);
