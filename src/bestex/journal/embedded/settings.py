"""The settings the server is started with.

They are given on the command line, so that a start always has exactly these: neither postgresql.conf nor
ALTER SYSTEM can weaken what an acknowledged order stands on.
"""

from pathlib import Path

PORT = 5432  # no TCP port is opened; it is part of the socket's name
ROLE = "bestex"
DATABASE = "bestex"

_SETTINGS = {
    # Durability: accepted means on disk.
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    # Reachable through the Unix socket only.
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "100",  # 12 for each of several processes over this server, see docs/how-to/size-a-deployment.md
    # Thousands of small commits a second, in groups: few and even checkpoints. 2 GB of WAL is also the bound
    # of what a crash recovery has to read. WAL compression stays off: the wheel is built without lz4, and
    # pglz costs more CPU than the bytes are worth.
    "shared_buffers": "128MB",
    "wal_buffers": "16MB",
    "min_wal_size": "256MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "10min",
    "checkpoint_completion_target": "0.9",
    "wal_compression": "off",
    # The log's table is vacuumed only to freeze it, which reads it all: after 1,000,000,000 commits, not 200,000,000.
    "autovacuum_freeze_max_age": "1000000000",
    # Short statements by key on local disks.
    "jit": "off",
    "random_page_cost": "1.1",
    # Parallel plans need /dev/shm, which is 64 MB in a container and then fails in the middle of a query.
    "max_parallel_workers_per_gather": "0",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # To standard error, which is a file that server_log.py keeps bounded.
    "log_destination": "stderr",
    "logging_collector": "off",
    "log_line_prefix": "%m [%p] ",
    "log_min_duration_statement": "1s",
    "log_lock_waits": "on",
    "log_startup_progress_interval": "2s",
    "cluster_name": "bestex",
}


def server_arguments(pgdata: Path, socket_dir: Path) -> list[str]:
    """The arguments of `postgres` for the database in `pgdata`, its socket in `socket_dir`."""
    arguments = ["-D", str(pgdata)]
    for name, value in (_SETTINGS | {"unix_socket_directories": str(socket_dir)}).items():
        arguments += ["-c", f"{name}={value}"]
    return arguments
