-- The append function. Replaced at every start, so that it is always this release's.
--
-- Takes one group commit's rows and stores each order's rows all or none:
--   n_* one element per new order, u_* one per order that exists, e_* one per event,
--   an order's events side by side and in order. What is missing at the end of n_parent, n_carrier, u_takes, u_pair,
--   u_run_after, u_fence, u_fence_epoch and e_sealed is null.
-- An order is refused when it has moved on or its lease is another's ('moved'), when its idempotency key or
-- client order id is taken, also by an archived order ('duplicate'), or when its events do not follow the lifecycle ('illegal').
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
-- Lock order: the writer's row, the head of the log, orders. Sequential scans are off because the plans are
-- kept for the life of a connection, and those made while the tables are small must not outlive that.

create or replace function bestex.{append}(
    p_engine uuid, p_commit bigint,
    n_id uuid[], n_kind text[], n_pair text[], n_caller text[], n_key text[], n_client text[], n_hash bytea[],
    n_status text[], n_seq integer[], n_attempt integer[], n_unfilled text[], n_settled boolean[], n_epoch integer[],
    n_view text[], n_parent uuid[], n_carrier uuid[],
    u_id uuid[], u_base integer[], u_from text[], u_epoch integer[],
    u_status text[], u_seq integer[], u_attempt integer[], u_unfilled text[], u_settled boolean[],
    u_view text[], u_takes boolean[], u_pair text[], u_run_after bigint[], u_fence text[], u_fence_epoch integer[],
    e_id uuid[], e_seq integer[], e_from text[], e_status text[], e_attempt integer[],
    e_at_us bigint[], e_detail text[], e_sealed bytea[],
    out first_position bigint, out refused uuid[], out reasons text[], out head_hash bytea
)
language plpgsql
set search_path = bestex, pg_temp
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
declare
    writer   bestex.writers%rowtype;
    head     bigint;
    accepted uuid[];
    illegal  uuid[];
    inserted bigint;
    positions bigint[];
    link     bytea;
    links    bytea[];
    hashes   bytea[] := '{}';
    executes boolean;
    has_archives boolean;
begin
    select * into writer from writers w where w.engine_id = p_engine for update;
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
    select position, hash, archived_to > 0 into head, head_hash, has_archives from log_head for update;
    first_position := head + 1;
    refused := '{}';
    reasons := '{}';

    with e as (
        select t.id, t.seq, t.came_from, t.status,
               lag(t.id) over (order by t.ord) as last_id,
               lag(t.seq) over (order by t.ord) as last_seq,
               lag(t.status) over (order by t.ord) as last_status
          from unnest(e_id, e_seq, e_from, e_status) with ordinality
               as t (id, seq, came_from, status, ord))
    select coalesce(array_agg(distinct i.id), '{}') into illegal
      from (select e.id from e
             where (e.last_id = e.id and (e.came_from <> e.last_status or e.seq <> e.last_seq + 1))
                or not exists (select from lifecycle l where l.before = e.came_from and l.after = e.status)
            union all
            -- An order's first event builds on what its row names; a new order's on nothing.
            (select e.id from (select id, seq, came_from from e where e.last_id is distinct from e.id
                               except
                               (select u.id, u.base + 1, u.came_from
                                  from unnest(u_id, u_base, u_from) as u (id, base, came_from)
                                union all
                                select n.id, 1, '' from unnest(n_id) as n (id))) e)) i;
    if illegal <> '{}' then
        select illegal || array_agg(n.carrier) into illegal
          from unnest(n_id, n_carrier) as n (id, carrier)
         where n.id = any (illegal) and n.carrier <> all (illegal);
        refused := illegal;
        reasons := array_fill('illegal'::text, array[cardinality(illegal)]);
    end if;

    -- Updates before new orders: a companion depends on what becomes of its carrier.
    if cardinality(u_id) > 0 then
        with moved as (
            update orders o
               set status = u.status, seq = u.seq, attempt = u.attempt, unfilled = u.unfilled,
                   settled = u.settled, resting = u.status = 'watching', view = u.view::json,
                   pair = coalesce(u.pair, o.pair),
                   lease_owner = case when u.status = 'watching' or u.run_after is not null then null
                                      when u.takes then case when executes then p_engine end
                                      else o.lease_owner end,
                   lease_epoch = case when u.takes then u.epoch else o.lease_epoch end,
                   run_after = case when u.run_after is null then null
                                    else timestamptz 'epoch' + u.run_after * interval '1 microsecond' end
              from unnest(u_id, u_base, u_from, u_epoch, u_status, u_seq, u_attempt, u_unfilled, u_settled, u_view,
                          u_takes, u_pair, u_run_after, u_fence, u_fence_epoch)
                   as u (id, base, came_from, epoch, status, seq, attempt, unfilled, settled, view, takes, pair,
                         run_after, fence, fence_epoch)
             where o.id = u.id and o.seq = u.base and o.status = u.came_from
               and case when u.takes then o.lease_owner is null and o.lease_epoch + 1 = u.epoch
                        else u.epoch is null or (o.lease_epoch = u.epoch and o.lease_owner = p_engine) end
               and (u.fence is null or exists (select from book_leases b where b.key = u.fence
                                                  and b.owner = p_engine and b.epoch = u.fence_epoch))
               and u.id <> all (illegal)
            returning o.id)
        select coalesce(array_agg(id), '{}') into accepted from moved;
        if cardinality(accepted) < cardinality(u_id) then
            select refused || array_agg(id), reasons || array_agg('moved'::text) into refused, reasons
              from unnest(u_id) as u (id) where id <> all (accepted) and id <> all (illegal);
        end if;
    end if;

    if cardinality(n_id) > 0 then
        with new as (
            insert into orders (id, kind, pair, caller, idempotency_key, client_order_id, request_hash,
                                status, seq, attempt, unfilled, settled, resting, lease_owner, lease_epoch,
                                parent_id, priority, view)
            select n.id, n.kind, n.pair, n.caller, n.key, n.client, n.hash, n.status, n.seq, n.attempt,
                   n.unfilled, n.settled, n.status = 'watching',
                   case when executes and n.epoch is not null and n.status <> 'watching' then p_engine end,
                   coalesce(n.epoch, 0), n.parent,
                   case n.kind when 'sniper' then 1 when 'stop' then 2 when 'trailingStop' then 2 when 'exits' then 2
                               when 'takeProfit' then 3 when 'limit' then 4
                               else case when n.parent is null then 5 else 6 end end,
                   n.view::json
              from unnest(n_id, n_kind, n_pair, n_caller, n_key, n_client, n_hash,
                          n_status, n_seq, n_attempt, n_unfilled, n_settled, n_epoch, n_view, n_parent, n_carrier)
                   as n (id, kind, pair, caller, key, client, hash, status, seq, attempt, unfilled, settled, epoch,
                         view, parent, carrier)
             where n.id <> all (illegal) and (n.carrier is null or n.carrier <> all (refused))
               and not (has_archives and (
                   exists (select from archived a where a.order_id = n.id)
                   or exists (select from archived a where a.caller = n.caller and a.idempotency_key = n.key)
                   or exists (select from archived a where a.caller = n.caller and a.client_order_id = n.client)))
            on conflict do nothing
            returning id)
        select coalesce(array_agg(id), '{}') into accepted from new;
        if cardinality(accepted) < cardinality(n_id) then
            select refused || array_agg(n.id),
                   reasons || array_agg(case when n.carrier = any (refused) then 'carrier' else 'duplicate' end)
              into refused, reasons
              from unnest(n_id, n_carrier) as n (id, carrier) where n.id <> all (accepted) and n.id <> all (illegal);
        end if;
    end if;

    -- The rows' bytes all at once, then link by link; a refused row has no bytes and no hash. Positions are counted
    -- only where some are refused: counting costs as much as hashing.
    if refused = '{}' then
        select array_agg(head + n) into positions from generate_series(1, cardinality(e_id)) n;
    else
        select array_agg(case when e.id <> all (refused)
                         then head + e.counted end order by e.ord) into positions
          from (select t.id, t.ord, count(*) filter (where t.id <> all (refused)) over (order by t.ord) as counted
                  from unnest(e_id) with ordinality as t (id, ord)) e;
    end if;
    select array_agg(convert_to(e.position || ' ' || e.id || ' ' || e.seq || ' ' || e.status || ' ' || e.attempt || ' '
                                || e.at_us || ' ' || octet_length(e.detail) || ' ' || e.detail, 'UTF8')
                     || coalesce(e.sealed, '') order by e.ord) into links
      from unnest(positions, e_id, e_seq, e_status, e_attempt, e_at_us, e_detail, e_sealed) with ordinality
           as e (position, id, seq, status, attempt, at_us, detail, sealed, ord);
    foreach link in array coalesce(links, '{}') loop
        if link is null then
            hashes := hashes || null::bytea;
        else
            head_hash := sha256(head_hash || link);
            hashes := hashes || head_hash;
        end if;
    end loop;

    insert into events (position, order_id, seq, status, attempt, at, detail, sealed, hash)
    select e.position, e.id, e.seq, e.status, e.attempt,
           timestamptz 'epoch' + e.at_us * interval '1 microsecond', e.detail::json, e.sealed, e.hash
      from unnest(positions, e_id, e_seq, e_status, e_attempt, e_at_us, e_detail, e_sealed, hashes)
           as e (position, id, seq, status, attempt, at_us, detail, sealed, hash)
     where e.position is not null;
    get diagnostics inserted = row_count;

    update log_head set position = head + inserted, hash = head_hash;
    update writers w
       set last_commit = p_commit, first_position = {append}.first_position,
           refused = {append}.refused, reasons = {append}.reasons, hash = {append}.head_hash
     where w.engine_id = p_engine;

    if writer.mode <> 'inline' and inserted > 0 then
        perform pg_notify('bestex_log', (head + inserted)::text);
        if (not executes and 't' = any (u_takes))
            or exists (select from unnest(n_status, n_epoch) as n (status, epoch)
                        where n.status = 'pending' and (n.epoch is null or not executes)) then
            perform pg_notify('bestex_work', '');
        end if;
    end if;
end
$$;
