-- The log's hash chain, the log's identity, orders that wait for finality, and the halt.
-- Applied once, inside a transaction, under the migration lock.

-- Which log this is: a head published outside the database names it.
alter table bestex.log_head add column journal_id uuid not null default gen_random_uuid();
-- The hash of the last row; domain/log_hash.py says what it is taken over.
alter table bestex.log_head add column hash bytea not null default decode(repeat('00', 32), 'hex');

alter table bestex.events add column hash bytea;

do $$
declare
    entry record;
    link  bytea := decode(repeat('00', 32), 'hex');
begin
    for entry in select * from bestex.events order by position loop
        link := sha256(link || convert_to(concat_ws(
            ' ', entry.position, entry.order_id, entry.seq, entry.status, entry.attempt,
            (extract(epoch from entry.at) * 1000000)::bigint, octet_length(entry.detail::text), entry.detail::text),
            'UTF8') || coalesce(entry.sealed, ''));
        update bestex.events set hash = link where position = entry.position;
    end loop;
    update bestex.log_head set hash = link;
end
$$;

alter table bestex.events alter column hash set not null;

-- The last commit's answer names the head it led to.
alter table bestex.writers add column hash bytea not null default '';

-- An order is settled when nothing is left to do for it: ended, and if it executed, finalized or lost for good.
-- `unfilled` takes the place of `ended`. No index has a column that changes twice in an order's life: such an update
-- writes every index anew.
alter table bestex.orders add column settled boolean not null default false;
alter table bestex.orders add column unfilled text;  -- the status it ended with, when it did not execute
update bestex.orders set unfilled = ended, settled = true where ended <> 'confirmed';
drop index bestex.orders_open;
drop index bestex.orders_unfilled;
alter table bestex.orders drop column ended;
create index orders_unsettled on bestex.orders (id) where not settled;
create index orders_unfilled on bestex.orders (unfilled, id) where unfilled is not null;

-- A row while nothing may be signed.
create table bestex.halt (
    one    boolean primary key default true check (one),
    reason text        not null,
    cause  text        not null,  -- 'operator', 'journal_behind', 'reconciled'
    since  timestamptz not null default clock_timestamp()
);
