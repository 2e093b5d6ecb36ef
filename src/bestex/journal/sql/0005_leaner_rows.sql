-- Rows that cost less to write: text that was checked where it was made, and no view while it changes with every event.
-- Applied once, inside a transaction, under the migration lock. Earlier releases may run while it is applied; they wait.

-- JSON as text: the engine encodes it, and the server need not parse it to keep it. The log is rewritten once.
alter table bestex.events alter column detail type text using detail::text;

-- The view stands in the row of an order that rests or is settled. Any other's is the fold of its events.
alter table bestex.orders alter column view type text using view::text, alter column view drop not null;

-- While it executes, an order's row is small, and its next version finds room on the same page.
alter table bestex.orders set (fillfactor = 50);

-- The log only grows: there is nothing to vacuum but what is to be frozen. A vacuum would also note the small room left
-- at the end of each page, and new rows would go there, all over the log: a page read and written whole for each.
alter table bestex.events set (autovacuum_vacuum_insert_threshold = -1);

-- Of 5,000,000 orders a fifth, the default, is too long to wait: what they left behind is room for others.
alter table bestex.orders set (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 20000);
