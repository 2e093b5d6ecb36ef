-- The simulated chain's ledger: what landed, and what the wallet and the pools hold because of it.
-- Amounts are base units; numeric, because a token account can hold 2^64-1.

create schema if not exists sim;

-- One row: the chain itself.
create table if not exists sim.world (
    one             boolean primary key default true check (one),
    genesis_us      bigint not null,            -- when it began, Unix microseconds
    wallet_key      bytea not null check (octet_length(wallet_key) = 32),
    anchor_us       bigint not null,            -- from here on slots last slot_us
    anchor_slot     bigint not null,
    slot_us         bigint not null check (slot_us > 0),
    epoch           bigint not null default 0,  -- how often it was opened: an earlier opener is fenced
    batch           bigint not null default 0,  -- the last batch of this epoch: a late copy of an earlier one is refused
    slot            bigint not null default 0,  -- the highest slot that a commit has named
    transactions    bigint not null default 0   -- landed since genesis
);

create table if not exists sim.transactions (
    signature       text collate "C" primary key,   -- the same bytes land at most once, ever; they grow with the slots
    slot            bigint not null,
    landed_us       bigint not null,
    order_id        text collate "C" not null,      -- the memo, with the attempt
    attempt         int not null,
    venue           text not null,
    mint_in         text collate "C" not null,
    mint_out        text collate "C" not null,
    amount_in       numeric(20) not null check (amount_in >= 0),
    amount_out      numeric(20) not null check (amount_out >= 0),
    network_fee     bigint not null check (network_fee >= 0),  -- lamports, charged in any case
    error           text,                           -- null: the swap happened
    check (error is null or (amount_in = 0 and amount_out = 0))
);

alter table sim.transactions add column if not exists pool text not null default '';
alter table sim.transactions add column if not exists asked_in numeric(20) not null default 0;  -- failed ones, too

create index if not exists transactions_slot on sim.transactions (slot);

-- Rows are only added. A vacuum would note the room at the end of each page, and new ones would go all over the table.
alter table sim.transactions set (autovacuum_vacuum_insert_threshold = -1);

-- Changes of the wallet's balances that no transaction made.
create table if not exists sim.adjustments (
    number          bigint primary key,
    mint            text collate "C" not null,
    units           numeric(20) not null,
    reason          text not null,
    at_us           bigint not null
);

create table if not exists sim.balances (
    mint            text collate "C" primary key,
    units           numeric(20) not null check (units >= 0)
);

create table if not exists sim.pools (
    address         text collate "C" primary key,
    state_0         numeric(39) not null,
    state_1         numeric(39) not null,
    settled_us      bigint not null
);

-- Launched tokens' pools. What is in `facts` is read by the simulation only.
create table if not exists sim.launches (
    pool            text collate "C" primary key,
    listed_us       bigint not null,
    closed          boolean not null,
    facts           text not null               -- JSON
);

create index if not exists launches_kept on sim.launches (closed, listed_us desc);

-- By how much the logarithm of a token's fair price was moved.
create table if not exists sim.shifts (
    mint            text collate "C" primary key,
    log_price       double precision not null
);

-- Makes a batch durable in one round trip. False: the ledger is another's, or this is a late copy of an earlier batch.
drop function if exists sim.commit_batch;  -- an earlier release's, with other columns
create function sim.commit_batch(
    p_epoch bigint, p_batch bigint, p_slot bigint, p_transactions bigint,
    p_undone text[],
    p_signature text[], p_tx_slot bigint[], p_landed_us bigint[], p_order_id text[], p_attempt int[],
    p_venue text[], p_mint_in text[], p_mint_out text[], p_amount_in numeric[], p_amount_out numeric[],
    p_network_fee bigint[], p_error text[], p_pool text[], p_asked_in numeric[],
    p_number bigint[], p_adjusted_mint text[], p_adjusted_units text[], p_reason text[], p_at_us bigint[],
    p_mint text[], p_units text[],
    p_address text[], p_state_0 text[], p_state_1 text[], p_settled_us bigint[],
    p_pool_listed text[], p_listed_us bigint[], p_closed boolean[], p_facts text[],
    p_shifted_mint text[], p_log_price double precision[]
) returns boolean language plpgsql as $$
begin
    update sim.world set batch = p_batch, slot = p_slot, transactions = p_transactions
        where epoch = p_epoch and batch <= p_batch;
    if not found then
        return false;
    end if;
    if cardinality(p_undone) > 0 then
        delete from sim.transactions where signature = any (p_undone);
    end if;
    insert into sim.transactions as t
            (signature, slot, landed_us, order_id, attempt, venue, mint_in, mint_out, amount_in, amount_out,
             network_fee, error, pool, asked_in)
        select p_signature[n], p_tx_slot[n], p_landed_us[n], p_order_id[n], p_attempt[n], p_venue[n], p_mint_in[n],
               p_mint_out[n], p_amount_in[n], p_amount_out[n], p_network_fee[n], p_error[n], p_pool[n], p_asked_in[n]
        from generate_series(1, cardinality(p_signature)) n
        on conflict (signature) do update set
            slot = excluded.slot, landed_us = excluded.landed_us, amount_in = excluded.amount_in,
            amount_out = excluded.amount_out, network_fee = excluded.network_fee, error = excluded.error;
    if cardinality(p_number) > 0 then
        insert into sim.adjustments
            select number, mint, units::numeric, reason, at_us
            from unnest(p_number, p_adjusted_mint, p_adjusted_units, p_reason, p_at_us)
                as u (number, mint, units, reason, at_us)
            on conflict (number) do nothing;
    end if;
    insert into sim.balances as b
        select mint, units::numeric from unnest(p_mint, p_units) as u (mint, units)
        on conflict (mint) do update set units = excluded.units;
    insert into sim.pools as p
        select address, state_0::numeric, state_1::numeric, settled_us
        from unnest(p_address, p_state_0, p_state_1, p_settled_us) as u (address, state_0, state_1, settled_us)
        on conflict (address) do update set
            state_0 = excluded.state_0, state_1 = excluded.state_1, settled_us = excluded.settled_us;
    if cardinality(p_pool_listed) > 0 then
        insert into sim.launches as l
            select pool, listed_us, closed, facts
            from unnest(p_pool_listed, p_listed_us, p_closed, p_facts) as u (pool, listed_us, closed, facts)
            on conflict (pool) do update set closed = excluded.closed, facts = excluded.facts;
    end if;
    if cardinality(p_shifted_mint) > 0 then
        insert into sim.shifts as s
            select mint, log_price from unnest(p_shifted_mint, p_log_price) as u (mint, log_price)
            on conflict (mint) do update set log_price = excluded.log_price;
    end if;
    return true;
end
$$;
