-- Every query of the journal by name: `-- name: NAME` begins one. Used in postgres.py, trigger_store.py, engines.py and
-- evidence.py. {shown} is what shows an order, see queries.py.

-- name: append
-- The one round trip of a group commit; see functions.sql.
select first_position, refused, reasons, head_hash
  from bestex.{append}(
       $1, $2,
       $3::text::uuid[], $4, $5, $6, $7, $8, $9,
       $10::text::integer[], $11::text::integer[], $12::text::integer[], $13::text::boolean[], $14, $15,
       $16::text::uuid[], $17::text::uuid[],
       $18::text::uuid[], $19::text::integer[], $20::text::text[], $21::text::integer[], $22::text::integer[],
       $23::text::integer[],
       $24::text::boolean[], $25, $26, $27::text::boolean[], $28, $29::text::bigint[],
       $30, $31::text::integer[],
       $32::text::uuid[], $33::text::integer[], $34::text::text[], $35::text::integer[], $36::text::bigint[], $37,
       $38)

-- name: events_of_order
select position, order_id, seq, status, attempt, (extract(epoch from at) * 1000000)::bigint as at_us, detail, sealed
  from bestex.events where order_id = $1 and seq > $2 order by seq

-- name: events_of_orders
-- The whole history of many orders at once, for recovery.
select position, order_id, seq, status, attempt, (extract(epoch from at) * 1000000)::bigint as at_us, detail, sealed
  from bestex.events where order_id = any ($1::uuid[]) order by order_id, seq

-- name: feed
select position, order_id, seq, status, attempt, (extract(epoch from at) * 1000000)::bigint as at_us, detail, sealed
  from bestex.events where position > $1 order by position limit $2

-- name: head
select journal_id, position, hash from bestex.log_head

-- name: hash_at
select hash from bestex.events where position = $1

-- name: halted
select reason, cause, (extract(epoch from since) * 1000000)::bigint as since_us from bestex.halt

-- name: halt
-- One in force stays as it is. But a journal that is behind goes before the others, which may be resumed; and its
-- having been reconciled goes before all.
insert into bestex.halt as h (reason, cause) values ($1, $2)
    on conflict (one) do update set reason = excluded.reason, cause = excluded.cause, since = excluded.since
 where excluded.cause = 'reconciled' or (excluded.cause = 'journal_behind' and h.cause <> 'journal_behind')

-- name: resume
delete from bestex.halt

-- name: unsettled
select count(*) from bestex.orders where not settled and not resting

-- name: resting
-- Watched orders, a page at a time. From an id on, never from none: a plan that is kept must go straight there.
select view, lease_epoch from bestex.orders where resting and id > $1 order by id limit $2

-- name: leases_of_resting
select id, lease_epoch from bestex.orders where resting and id = any ($1::uuid[]) order by id

-- name: count_resting
select count(*) from bestex.orders where resting

-- name: order
select {shown}, lease_owner, lease_epoch from bestex.orders o where id = $1

-- name: orders_newest
select id, {shown} from bestex.orders o
 where ($1::uuid is null or id < $1)
   and ($2::text is null or pair = $2) and ($3::text is null or kind = $3)
 order by id desc limit $4

-- name: orders_open
select id, {shown} from bestex.orders o
 where not settled and not resting and status = $5 and ($1::uuid is null or id < $1)
   and ($2::text is null or pair = $2) and ($3::text is null or kind = $3)
 order by id desc limit $4

-- name: orders_resting
select id, {shown} from bestex.orders o
 where resting and ($1::uuid is null or id < $1)
   and ($2::text is null or pair = $2) and ($3::text is null or kind = $3)
 order by id desc limit $4

-- name: orders_unfilled
select id, {shown} from bestex.orders o
 where unfilled = $5 and ($1::uuid is null or id < $1)
   and ($2::text is null or pair = $2) and ($3::text is null or kind = $3)
 order by id desc limit $4

-- name: orders_confirmed
select id, {shown} from bestex.orders o
 where status = 'confirmed' and ($1::uuid is null or id < $1)
   and ($2::text is null or pair = $2) and ($3::text is null or kind = $3)
 order by id desc limit $4

-- name: orders_of_parent
-- In whatever status: another's are few.
select id, {shown} from bestex.orders o
 where parent_id = $5 and ($1::uuid is null or id < $1)
   and ($2::text is null or pair = $2) and ($3::text is null or kind = $3) and ($6::text is null or status = $6)
 order by id desc limit $4

-- name: children
select id, {shown} from bestex.orders o where parent_id = $1 order by id

-- name: keys
-- Whose the idempotency key and the client order id are.
select id, request_hash from bestex.orders
 where caller = $1 and (idempotency_key = $2 or client_order_id = $3)
 order by id limit 2

-- name: held
-- Unsettled orders under an engine's lease, a page at a time.
select id, lease_epoch, seq from bestex.orders
 where not settled and not resting and lease_owner = $1 and ($2::uuid is null or id > $2)
 order by id limit $3

-- name: claim
-- Leases of unsettled orders that no living engine holds, oldest first. Materialized: looked for once, so that no plan
-- locks more orders than it takes.
with free as materialized (
    select c.id from bestex.orders c
     where not c.settled and not c.resting
       and (c.lease_owner is null or c.lease_owner <> $1 and not exists (
           select from bestex.engines e
            where e.id = c.lease_owner and e.seen_at > clock_timestamp() - $2::interval))
     order by c.id limit $3 for update skip locked)
update bestex.orders o
   set lease_owner = $1, lease_epoch = o.lease_epoch + 1
  from free where o.id = free.id
returning o.id, o.lease_epoch

-- name: claim_waiting
-- Leases of orders that nobody holds and that are due, the most urgent first.
with free as materialized (
    select c.id, c.priority from bestex.orders c
     where c.lease_owner is null and not c.settled and not c.resting
       and (c.run_after is null or c.run_after <= clock_timestamp())
     order by c.priority, c.id limit $2 for update skip locked)
update bestex.orders o
   set lease_owner = $1, lease_epoch = o.lease_epoch + 1, run_after = null
  from free where o.id = free.id
returning o.id, o.lease_epoch, free.priority

-- name: claim_these
-- The same of those named.
with free as materialized (
    select c.id, c.priority from bestex.orders c
     where c.id = any ($2::uuid[]) and c.lease_owner is null and not c.settled and not c.resting
       and (c.run_after is null or c.run_after <= clock_timestamp())
     order by c.id for update skip locked)
update bestex.orders o
   set lease_owner = $1, lease_epoch = o.lease_epoch + 1, run_after = null
  from free where o.id = free.id
returning o.id, o.lease_epoch, free.priority

-- name: hand_back
-- Let go of leases, and have somebody look.
with let_go as (
    update bestex.orders o set lease_owner = null
      from unnest($2::uuid[], $3::integer[]) as l (id, epoch)
     where o.id = l.id and o.lease_owner = $1 and o.lease_epoch = l.epoch and not o.settled
    returning o.id)
select pg_notify('bestex_work', '') from let_go limit 1

-- name: engines
-- All engines, with what tells the living from the dead.
select id, mode, about, seen_at, seen_at < clock_timestamp() - $1::interval as silent,
       backend_start >= pg_postmaster_start_time() and not exists (
           select from pg_stat_activity a
            where a.pid = e.backend_pid and a.backend_start = e.backend_start) as disconnected
  from bestex.engines e

-- name: bury_engine
delete from bestex.engines where id = $1

-- name: enrol_engine
insert into bestex.engines (id, mode, about, append_function, backend_pid, backend_start)
select $1, $2, $3, '{append}', pid, backend_start from pg_stat_activity where pid = pg_backend_pid()

-- name: enrol_writer
insert into bestex.writers (engine_id, mode) values ($1, $2)

-- name: sign_of_life
update bestex.engines e
   set seen_at = clock_timestamp(), backend_pid = a.pid, backend_start = a.backend_start
  from pg_stat_activity a
 where e.id = $1 and a.pid = pg_backend_pid()

-- name: schema_version
select max(version) from bestex.migrations

-- name: audit_log
-- Whole rows as they are stored, for the audit. A time that is none comes as 0: no row was written with it.
select position, order_id::text, seq, status, attempt,
       case when isfinite(at) then (extract(epoch from at) * 1000000)::bigint else 0 end,
       convert_to(detail, 'UTF8'), coalesce(sealed, ''), hash
  from bestex.events order by position

-- name: audit_orders
select id::text, kind, pair, client_order_id, status, seq, attempt, unfilled, settled,
       coalesce(convert_to(view, 'UTF8'), ''),
       resting, parent_id::text
  from bestex.orders

-- name: forget_high_waters
-- Those that these marks are no worse than.
delete from bestex.high_waters h
 using unnest($1::text[], $2::boolean[], $3::bigint[], $4::text[]::numeric[]) as m (pair, sells_base, at_us, price)
 where h.pair = m.pair and h.sells_base = m.sells_base and h.at_us <= m.at_us
   and case when h.sells_base then h.price <= m.price else h.price >= m.price end

-- name: keep_high_waters
-- Those that no later one is no worse than.
insert into bestex.high_waters (pair, sells_base, at_us, price)
select m.pair, m.sells_base, m.at_us, m.price
  from unnest($1::text[], $2::boolean[], $3::bigint[], $4::text[]::numeric[]) as m (pair, sells_base, at_us, price)
 where not exists (
       select from bestex.high_waters h
        where h.pair = m.pair and h.sells_base = m.sells_base and h.at_us >= m.at_us
          and case when h.sells_base then h.price >= m.price else h.price <= m.price end)
    on conflict (pair, sells_base, at_us) do update
   set price = case when excluded.sells_base then greatest(high_waters.price, excluded.price)
                    else least(high_waters.price, excluded.price) end

-- name: high_waters
select pair, sells_base, at_us, price::text from bestex.high_waters order by at_us, pair, sells_base

-- name: keep_launch
insert into bestex.launches (mint, pool, seen_us, record) values ($1, $2, $3, $4)
    on conflict (mint, pool) do update set seen_us = excluded.seen_us, record = excluded.record

-- name: launches
-- With all that were seen in the same microsecond as the last: the next page begins before it.
select record from bestex.launches where seen_us < $1
 order by seen_us desc fetch first $2 rows with ties

-- name: launches_of_mint
select record from bestex.launches where seen_us < $1 and mint = $3
 order by seen_us desc fetch first $2 rows with ties

-- name: set_dead_man
insert into bestex.dead_men (caller, due_us, keeps_stops) values ($1, $2, $3)
    on conflict (caller) do update set due_us = excluded.due_us, keeps_stops = excluded.keeps_stops

-- name: drop_dead_man
delete from bestex.dead_men where caller = $1

-- name: dead_men
select caller, due_us, keeps_stops from bestex.dead_men order by caller
