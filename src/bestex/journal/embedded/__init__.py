"""The embedded PostgreSQL: a real server, started and looked after by the engine, with no installation and
no Docker.

server.py      EmbeddedPostgres: start, adopt, supervise, stop
cluster.py     the binaries, and the database folder they fill
account.py     the operating-system account the server runs under
process.py     which process is the server of which folder
readiness.py   whether it accepts connections
file_lock.py   locks that end with their holders
socket_dir.py  the folder of the Unix socket
server_log.py  the server's log file, kept bounded
settings.py    the server's settings
errors.py      what can go wrong
"""

from bestex.journal.embedded.errors import (
    AccountError,
    BinariesMissingError,
    DataDirError,
    EmbeddedPostgresError,
    ServerStartError,
)
from bestex.journal.embedded.server import EmbeddedPostgres

__all__ = [
    "AccountError",
    "BinariesMissingError",
    "DataDirError",
    "EmbeddedPostgres",
    "EmbeddedPostgresError",
    "ServerStartError",
]
