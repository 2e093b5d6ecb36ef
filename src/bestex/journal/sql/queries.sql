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

-- name: feed_of
-- A stretch of the log, read by position whatever the plan would be: "is true" keeps the ids from an index of theirs,
-- which costs a look for every one of them. The inner select has them read once, not for every row.
select position, order_id, seq, status, attempt, (extract(epoch from at) * 1000000)::bigint as at_us, detail, sealed
  from bestex.events where position > $1 and position <= $2 and (order_id = any ((select $3::text::uuid[])::uuid[])) is true
 order by position

-- name: head
select journal_id, position, hash, archived_to from bestex.log_head

-- name: hash_at
-- The last row of an archive keeps its hash.
select hash from bestex.events where position = $1
union all
select hash from bestex.checkpoints where position = $1
 limit 1

-- name: halted
select reason, cause, (extract(epoch from since) * 1000000)::bigint as since_us from bestex.halt

-- name: halt
-- One in force stays as it is. But a journal that is behind goes before the others, which may be resumed; and its
-- having been reconciled goes before all. Every process is told.
with halted as (
    insert into bestex.halt as h (reason, cause) values ($1, $2)
        on conflict (one) do update set reason = excluded.reason, cause = excluded.cause, since = excluded.since
     where excluded.cause = 'reconciled' or (excluded.cause = 'journal_behind' and h.cause <> 'journal_behind')
    returning one)
select pg_notify('bestex_halt', '') from halted

-- name: resume
-- Not where the journal is behind: any process may find that between another's look at the halt and this.
with resumed as (delete from bestex.halt where cause <> 'journal_behind' returning one)
select pg_notify('bestex_halt', '') from resumed

-- name: unsettled
select count(*) from bestex.orders where not settled and not resting

-- name: resting
-- Watched orders, a page at a time. From an id on, never from none: a plan that is kept must go straight there.
select view, lease_epoch from bestex.orders where resting and id > $1 order by id limit $2

-- name: resting_pairs
-- From one pair's first entry in the index to the next pair's: as many steps as there are pairs, not orders.
with recursive pairs (pair) as (
    (select pair from bestex.orders where resting order by pair limit 1)
    union all
    select (select o.pair from bestex.orders o where o.resting and o.pair > p.pair order by o.pair limit 1)
      from pairs p where p.pair is not null)
select pair from pairs where pair is not null

-- name: resting_of
-- A pair's watched orders, a page at a time.
select view, lease_epoch from bestex.orders where resting and pair = $1 and id > $2 order by id limit $3

-- name: resting_these
select view, lease_epoch from bestex.orders where resting and id = any ($1::uuid[]) order by id

-- name: leases_of_resting
select id, lease_epoch from bestex.orders where resting and id = any ($1::uuid[]) order by id

-- name: count_resting
select count(*) from bestex.orders where resting

-- name: reserve_room
select waiting, open, watched, there_wait, there_are_open, there_are_watched
  from bestex.reserve_room($1, $2, $3, $4, $5, $6, $7, $8, $9)

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
union
select order_id, request_hash from bestex.archived
 where caller = $1 and (idempotency_key = $2 or client_order_id = $3)
 order by id limit 2

-- name: archived
-- What is kept of an order that left. While it is being removed, it is in both places.
select (extract(epoch from a.accepted_at) * 1000000)::bigint as accepted_us, a.archive, c.file
  from bestex.archived a join bestex.checkpoints c on c.number = a.archive where a.order_id = $1

-- name: archived_until
select (extract(epoch from at) * 1000000)::bigint as at_us from bestex.checkpoints order by number desc limit 1

-- name: held
-- Unsettled orders under an engine's lease, a page at a time.
select id, lease_epoch, seq from bestex.orders
 where not settled and not resting and lease_owner = $1 and ($2::uuid is null or id > $2)
 order by id limit $3

-- name: claim
-- Leases of unsettled orders that no living engine holds, oldest first. Materialized: looked for once, so that no plan
-- locks more orders than it takes. None before this engine has met the server that is asked: see `sign_of_life`.
with free as materialized (
    select c.id from bestex.orders c
     where not c.settled and not c.resting
       and exists (select from bestex.engines e where e.id = $1 and e.server_started = pg_postmaster_start_time())
       and (c.lease_owner is null or c.lease_owner <> $1 and not exists (
           select from bestex.engines e
            where e.id = c.lease_owner and e.seen_at > clock_timestamp() - $2::interval))
     order by c.id limit $3 for update skip locked)
update bestex.orders o
   set lease_owner = $1, lease_epoch = o.lease_epoch + 1
  from free where o.id = free.id
returning o.id, o.lease_epoch

-- name: claim_waiting
-- Leases of orders that nobody holds and that are due, the most urgent first, with their histories; up to a priority.
-- A history is as old as the question, the lease is not: `last_seq` tells where they do not fit together.
with alive as materialized (
    select from bestex.engines e
     where e.id = $1 and e.seen_at > clock_timestamp() - $2::interval
       and e.server_started = pg_postmaster_start_time()),
free as materialized (
    select c.id, c.priority from bestex.orders c
     where c.lease_owner is null and not c.settled and not c.resting
       and (c.run_after is null or c.run_after <= clock_timestamp())
       and c.priority <= $4::smallint and exists (select from alive)
     order by c.priority, c.id limit $3 for update skip locked),
taken as (
    update bestex.orders o
       set lease_owner = $1, lease_epoch = o.lease_epoch + 1, run_after = null
      from free where o.id = free.id
    returning o.id, o.lease_epoch, o.seq, free.priority)
select t.lease_epoch, t.seq as last_seq, e.*
  from taken t
 cross join lateral (
       select position, order_id, seq, status, attempt, (extract(epoch from at) * 1000000)::bigint as at_us, detail,
              sealed
         from bestex.events where order_id = t.id order by seq) e
 order by t.priority, t.id, e.seq

-- name: claim_these
-- The same of those named.
with alive as materialized (
    select from bestex.engines e
     where e.id = $1 and e.seen_at > clock_timestamp() - $2::interval
       and e.server_started = pg_postmaster_start_time()),
free as materialized (
    select c.id, c.priority from bestex.orders c
     where c.id = any ($3::uuid[]) and c.lease_owner is null and not c.settled and not c.resting
       and (c.run_after is null or c.run_after <= clock_timestamp()) and exists (select from alive)
     order by c.id for update skip locked),
taken as (
    update bestex.orders o
       set lease_owner = $1, lease_epoch = o.lease_epoch + 1, run_after = null
      from free where o.id = free.id
    returning o.id, o.lease_epoch, o.seq, free.priority)
select t.lease_epoch, t.seq as last_seq, e.*
  from taken t
 cross join lateral (
       select position, order_id, seq, status, attempt, (extract(epoch from at) * 1000000)::bigint as at_us, detail,
              sealed
         from bestex.events where order_id = t.id order by seq) e
 order by t.priority, t.id, e.seq

-- name: hand_back
-- Let go of leases, and have somebody look.
with let_go as (
    update bestex.orders o
       set lease_owner = null,
           priority = case when o.status in ('submitted', 'confirmed') then 0 else o.priority end
      from unnest($2::uuid[], $3::integer[]) as l (id, epoch)
     where o.id = l.id and o.lease_owner = $1 and o.lease_epoch = l.epoch and not o.settled
    returning o.id)
select pg_notify('bestex_work', '') from let_go limit 1

-- name: hand_back_held
-- Let go of some of an engine's leases, and have somebody look. What is locked is left for the next call: whoever waits
-- for a lock while holding others can meet one that does the same.
with held as materialized (
    select c.id from bestex.orders c
     where c.lease_owner = $1 and not c.settled and not c.resting
     order by c.id limit $2 for update skip locked),
let_go as (
    update bestex.orders o
       set lease_owner = null,
           priority = case when o.status in ('submitted', 'confirmed') then 0 else o.priority end
      from held where o.id = held.id
    returning o.id, o.kind, o.pair, o.priority),
told as materialized (select pg_notify('bestex_work', '') from (select from let_go limit 1) one)
select let_go.* from let_go left join told on true

-- name: silent_engines
select id, case when isfinite(seen_at) then (extract(epoch from seen_at) * 1000000)::bigint else 0 end as seen_us
  from bestex.engines where seen_at <= clock_timestamp() - $1::interval

-- name: free_orders_of_the_dead
-- Take leases from engines that are not alive, for nobody, and have somebody look. The epoch is raised at once: what
-- such an engine still appends should it go on is refused. A page at a time, from an id on.
with alive as materialized (
    select array(select e.id from bestex.engines e where e.seen_at > clock_timestamp() - $1::interval) as ids),
left_behind as materialized (
    select c.id from bestex.orders c
     where not c.settled and not c.resting and c.id > $2
       and c.lease_owner is not null and c.lease_owner <> all ((select ids from alive)::uuid[])
     order by c.id limit $3 for update skip locked),
let_go as (
    update bestex.orders o
       set lease_owner = null, lease_epoch = o.lease_epoch + 1,
           priority = case when o.status in ('submitted', 'confirmed') then 0 else o.priority end
      from left_behind where o.id = left_behind.id
    returning o.id, o.kind, o.pair, o.priority),
told as materialized (select pg_notify('bestex_work', '') from (select from let_go limit 1) one)
select let_go.* from let_go left join told on true order by let_go.id

-- name: forget_engines
delete from bestex.engines e
 where e.seen_at <= clock_timestamp() - $1::interval
   and not exists (select from bestex.orders o where not o.settled and not o.resting and o.lease_owner = e.id)

-- name: renew_books
-- One watcher's leases, and how many watchers there are: each has a row of its own, by whose key it is none's book.
with here as (
    insert into bestex.book_leases as b (key, owner, epoch, until)
    values ('watcher ' || $1::uuid, $1::uuid, 0, clock_timestamp() + $2::interval)
        on conflict (key) do update set until = excluded.until
    returning b.key),
renewed as (
    update bestex.book_leases b set until = clock_timestamp() + $2::interval
      from here where b.owner = $1::uuid and b.key <> here.key
    returning b.key, b.epoch)
select (select coalesce(array_agg(key order by key), '{}') from renewed) as keys,
       (select coalesce(array_agg(epoch order by key), '{}') from renewed) as epochs,
       (select count(*) from bestex.book_leases b
         where b.key like 'watcher %' and b.owner <> $1::uuid and b.until > clock_timestamp()) as others

-- name: claim_books
-- Those that are nobody's, or whose lease ran out.
with free as materialized (
    select b.key from bestex.book_leases b
     where b.key = any ($3::text[]) and (b.owner is null or b.until < clock_timestamp())
     order by b.key limit $4 for update skip locked)
update bestex.book_leases b
   set owner = $1, epoch = b.epoch + 1, until = clock_timestamp() + $2::interval
  from free where b.key = free.key
returning b.key, b.epoch

-- name: claim_new_books
-- Those that have no row yet.
insert into bestex.book_leases (key, owner, epoch, until)
select w.key, $1, 1, clock_timestamp() + $2::interval
  from unnest($3::text[]) as w (key)
 where not exists (select from bestex.book_leases b where b.key = w.key)
 order by w.key limit $4
    on conflict (key) do nothing
returning key, epoch

-- name: let_go_of_books
update bestex.book_leases set owner = null, until = clock_timestamp() where owner = $1 and key = any ($2::text[])

-- name: drop_books
-- Their next epoch is 1 again: what was to fire under an earlier one rested then, and nothing does now.
delete from bestex.book_leases b
 where b.owner = $1 and b.key = any ($2::text[])
   and not exists (select from bestex.orders o where o.resting and o.pair = b.key)

-- name: leave_books
with gone as (
    delete from bestex.book_leases where key = 'watcher ' || $1::uuid)
update bestex.book_leases set owner = null, until = clock_timestamp()
 where owner = $1::uuid and key <> 'watcher ' || $1::uuid

-- name: bury_watchers
-- The rows of watchers that have been silent for long, and of pairs' books that nobody has and in which nothing waits:
-- what `drop_books` says of their epochs holds here too.
delete from bestex.book_leases
 where key in (select b.key from bestex.book_leases b
                where b.until < clock_timestamp() - interval '1 minute'
                  and (b.key like 'watcher %'
                       or b.key like '%/%' and not exists (select from bestex.orders o where o.resting and o.pair = b.key))
                for update skip locked)

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

-- name: server_started
select pg_postmaster_start_time()

-- name: sign_of_life
-- To a server that the engine has met: it knows that the journal there has all that was published.
update bestex.engines e
   set seen_at = clock_timestamp(), backend_pid = a.pid, backend_start = a.backend_start,
       server_started = pg_postmaster_start_time()
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
delete from bestex.dead_men where caller = $1 and ($2::bigint is null or due_us = $2)

-- name: dead_men
select caller, due_us, keeps_stops from bestex.dead_men order by caller
