-- What archiving asks of the journal; used in archive.py.

-- name: checkpoints
select number, position, hash, (extract(epoch from at) * 1000000)::bigint as at_us, file, bytes, digest, kept_rows,
       kept_hash, forgotten_to::text, orders, events
  from bestex.checkpoints order by number

-- name: last_checkpoint
select number, position, hash, (extract(epoch from at) * 1000000)::bigint as at_us, file, bytes, digest, kept_rows,
       kept_hash, forgotten_to::text
  from bestex.checkpoints order by number desc limit 1

-- name: audit_archived
select order_id::text from bestex.archived

-- name: row_at
select hash, (extract(epoch from at) * 1000000)::bigint as at_us from bestex.events where position = $1

-- name: first_younger
-- The first row of a stretch of the log that is not older than a time.
select position from bestex.events
 where position > $1 and position <= $2 and at >= timestamptz 'epoch' + $3::bigint * interval '1 microsecond'
 order by position limit 1

-- name: orders_told
-- The orders that the log up to a position tells of. All rows up to an archive's end that are still here are those of
-- orders that stayed, and the stretch that is to leave: never the whole log.
create temporary table told as
select t.order_id, t.seq, t.last, t.events, o.parent_id, coalesce(o.parent_id, t.order_id) as family
  from (select order_id, max(seq) as seq, max(position) as last, count(*) as events
          from bestex.events where position <= {position} group by order_id) t
  left join bestex.orders o on o.id = t.order_id

-- name: families
-- A family has the name of the order that all of it belongs to.
update told t set family = p.family from told p where p.order_id = t.family and p.family <> t.family

-- name: orders_leaving
-- Those for which nothing is left to do, with all their events up to there.
create temporary table leaving as
select t.order_id, t.seq, t.events, t.parent_id, t.family
  from told t join bestex.orders o on o.id = t.order_id and o.seq = t.seq
 where o.settled and not o.resting

-- name: families_stay
-- An order stays while the one that it belongs to does, or one that belongs to it.
delete from leaving l
 where (l.parent_id is not null and exists (select from bestex.orders p where p.id = l.parent_id)
        and not exists (select from leaving k where k.order_id = l.parent_id))
    or exists (select from bestex.orders c where c.parent_id = l.order_id
                  and not exists (select from leaving k where k.order_id = c.id))

-- name: leaving
select count(l.order_id) as orders, coalesce(sum(l.events), 0)::bigint as events,
       count(*) - count(l.order_id) as staying_orders,
       coalesce(sum(t.events) filter (where l.order_id is null), 0)::bigint as staying_events
  from told t left join leaving l on l.order_id = t.order_id

-- name: archive_carried
-- Rows of earlier archives' stretches: of orders that this one tells of, so that their histories are whole in it, and
-- of those that belong together with them.
select position, order_id::text, seq, status, attempt, (extract(epoch from at) * 1000000)::bigint,
       convert_to(detail, 'UTF8'), coalesce(sealed, ''), hash
  from bestex.events e
 where position <= $1
   and order_id in (
       select t.order_id from told t
        where t.family in (select f.family from told f where f.last > $1
                            union all select l.family from leaving l))
 order by position

-- name: archive_log
select position, order_id::text, seq, status, attempt,
       case when isfinite(at) then (extract(epoch from at) * 1000000)::bigint else 0 end,
       convert_to(detail, 'UTF8'), coalesce(sealed, ''), hash
  from bestex.events where position > $1 and position <= $2 order by position

-- name: archive_orders
select o.id::text, kind, pair, client_order_id, status, o.seq, attempt, unfilled, settled,
       coalesce(convert_to(view, 'UTF8'), ''), resting, o.parent_id::text
  from leaving l join bestex.orders o on o.id = l.order_id order by o.id

-- name: record_checkpoint
insert into bestex.checkpoints (number, position, hash, at, file, bytes, digest)
values ($1, $2, $3, timestamptz 'epoch' + $4::bigint * interval '1 microsecond', $5, $6, $7)

-- name: keep_keys
insert into bestex.archived (order_id, archive, seq, accepted_at, caller, idempotency_key, client_order_id, request_hash)
select l.order_id, $1, l.seq, e.at, o.caller, o.idempotency_key, o.client_order_id, o.request_hash
  from leaving l
  join bestex.orders o on o.id = l.order_id
  join bestex.events e on e.order_id = l.order_id and e.seq = 1
    on conflict (order_id) do nothing

-- name: archived_to
-- From here on every append looks for keys among archived orders, too. It waits for the append that is under way.
update bestex.log_head set archived_to = $1 where archived_to < $1

-- name: remove_orders
-- The next families, each order with all its events; not one that has moved on since. In one statement: an archive that
-- is stopped holds no lock.
with next as materialized (
    select distinct family from leaving where family > $2 order by family limit $3),
wanted as materialized (
    select l.order_id, l.seq from leaving l join next n on n.family = l.family),
gone as (
    delete from bestex.orders o using wanted w
     where o.id = w.order_id and o.seq = w.seq and o.settled and not o.resting
    returning o.id),
rows_gone as (
    delete from bestex.events e using gone g where e.order_id = g.id returning 1),
counted as (
    select (select count(*) from gone) as orders, (select count(*) from rows_gone) as events),
noted as (
    update bestex.checkpoints c set orders = c.orders + n.orders, events = c.events + n.events
      from counted n where c.number = $1)
select (select family from next order by family desc limit 1) as last, orders, events from counted

-- name: forget_keys_of_stayed
-- An order that has moved on since it was listed has stayed.
delete from bestex.archived a using leaving l, bestex.orders o
 where a.order_id = l.order_id and o.id = l.order_id and a.archive = $1

-- name: kept_rows
select position, order_id::text, seq, status, attempt,
       case when isfinite(at) then (extract(epoch from at) * 1000000)::bigint else 0 end,
       convert_to(detail, 'UTF8'), coalesce(sealed, ''), hash
  from bestex.events where position <= $1 order by position

-- name: finish_checkpoint
update bestex.checkpoints set kept_rows = $2, kept_hash = $3 where number = $1

-- name: forgettable
-- The archives whose orders' keys have been kept for long enough.
select number from bestex.checkpoints
 where not forgotten and kept_hash is not null and recorded_at < clock_timestamp() - $1::interval
 order by number

-- name: forget_keys
with next as materialized (
    select order_id from bestex.archived where archive = $1 order by order_id limit $2),
gone as (
    delete from bestex.archived a using next n where a.order_id = n.order_id returning a.order_id),
noted as (
    update bestex.checkpoints c
       set forgotten_to = g.last
      from (select order_id as last from gone order by order_id desc limit 1) g
     where c.number = $1 and (c.forgotten_to is null or c.forgotten_to < g.last))
select count(*) from gone

-- name: all_forgotten
update bestex.checkpoints set forgotten = true where number = $1
