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
