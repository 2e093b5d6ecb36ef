"""The transport that writes once a turn of the loop."""

import asyncio
from typing import Any

from bestex.api.server import _CorkedTransport


class Connection(asyncio.Transport):
    """A transport that complains of what is written after its end, as uvloop's does."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        if self.closed:
            raise RuntimeError("unable to perform operation: the handler is closed")
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


async def answered(connection: Connection, *, client_goes: bool) -> list[dict[str, Any]]:
    """Write two parts in one turn; what the loop complained of."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    corked = _CorkedTransport(connection)
    corked.write(b"head ")
    corked.write(b"body")
    connection.closed = client_goes
    await asyncio.sleep(0)
    return complaints


async def test_what_is_written_in_one_turn_goes_out_at_once() -> None:
    connection = Connection()
    assert await answered(connection, client_goes=False) == []
    assert connection.written == [b"head body"]


async def test_what_is_written_for_a_client_that_has_gone_is_dropped() -> None:
    connection = Connection()
    assert await answered(connection, client_goes=True) == []
    assert connection.written == []
