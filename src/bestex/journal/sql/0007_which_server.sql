-- Which server an engine's last sign of life was given to: after another has taken its place nobody claims orders before
-- it has seen that this one has all that was published.
-- Applied once, inside a transaction, under the migration lock. Earlier releases may run while it is applied.

alter table bestex.engines add column server_started timestamptz not null default pg_postmaster_start_time();
