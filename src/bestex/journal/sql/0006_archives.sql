-- What leaves the database for files: where the log's archives end, and what is kept of the orders that left.
-- Applied once, inside a transaction, under the migration lock. Earlier releases may run while it is applied.

-- One row for each archive, written when its file is whole and on disk, before anything is removed.
create table bestex.checkpoints (
    number      integer     primary key,       -- 1, 2, 3 ...
    position    bigint      not null unique,   -- of the last row of the log that the file has
    hash        bytea       not null,          -- of that row
    at          timestamptz not null,          -- that row's time
    file        text        not null,          -- its name
    bytes       bigint      not null,          -- its size
    digest      bytea       not null,          -- its SHA-256
    recorded_at timestamptz not null default clock_timestamp(),
    orders      bigint      not null default 0,  -- that have left so far
    events      bigint      not null default 0,
    -- The rows up to the position that stay, because their orders do: how many, and a hash over all of them. Null while
    -- what the file has is still being removed.
    kept_rows   bigint,
    kept_hash   bytea,
    -- The last order that left and is forgotten, keys and all; null: none is.
    forgotten_to uuid,
    forgotten    boolean     not null default false  -- all of them are
);

-- What is kept of an order that left: whose its keys are, and where it is.
create table bestex.archived (
    order_id        uuid        primary key,
    archive         integer     not null,  -- the checkpoint's number
    seq             integer     not null,  -- of its last event
    accepted_at     timestamptz not null,
    caller          text        not null,
    idempotency_key text,
    client_order_id text,
    request_hash    bytea       not null
);
create unique index archived_idempotency_key on bestex.archived (caller, idempotency_key)
    where idempotency_key is not null;
create unique index archived_client_order_id on bestex.archived (caller, client_order_id)
    where client_order_id is not null;

-- Up to where rows may be missing, because they were archived. The append function looks for keys among archived orders
-- once this is not 0.
alter table bestex.log_head add column archived_to bigint not null default 0;
