"""What can go wrong with the embedded server.

EmbeddedPostgresError
├── BinariesMissingError   the wheel with PostgreSQL's binaries is not installed
├── AccountError           no account can run the server and reach its files
├── DataDirError           the data folder, or what lies in it, cannot be used as it is
└── ServerStartError       the server ended, or could not begin, before it accepted connections
"""


class EmbeddedPostgresError(Exception):
    """The embedded PostgreSQL cannot do what was asked; the message says why and what to do."""


class BinariesMissingError(EmbeddedPostgresError):
    """PostgreSQL's binaries are not installed."""


class AccountError(EmbeddedPostgresError):
    """No operating-system account can run the server and reach its files."""


class DataDirError(EmbeddedPostgresError):
    """The data folder cannot be used as it is; nothing foreign in it was touched."""


class ServerStartError(EmbeddedPostgresError):
    """The server did not come to accept connections; the message ends with the last lines of its log."""
