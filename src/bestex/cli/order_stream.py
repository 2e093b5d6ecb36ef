"""One order's updates over the WebSocket: each exactly once and in order, however often the connection drops."""

import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Final

import msgspec
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from bestex.cli.answers import StreamMessage, Update, decode
from bestex.cli.engine_client import is_loopback, order_path
from bestex.cli.errors import EngineUnavailableError, ProblemError, no_engine, problem_of_kind
from bestex.ports import Clock

OPEN_TIMEOUT_S: Final = 10.0
MESSAGE_BYTES_MAX: Final = 16 * 1024 * 1024
RECONNECTS_MAX: Final = 14
"""In a row, without an update in between: about 45 s, longer than a killed engine needs to be back."""
FIRST_PAUSE_S: Final = 0.25
PAUSE_MAX_S: Final = 4.0

_REFUSALS: Final = {4404: "order-not-found", 4410: "order-archived", 4422: "malformed-id"}

TroubleListener = Callable[[str], None]
"""Called with what is wrong and what is done about it, each time the connection is lost."""


class _ConnectionLost(Exception):
    """The stream broke off before the order's end; the message says how."""


class OrderStream:
    """Where the watching of one order stands."""

    def __init__(self, url: str, order_id: str, clock: Clock, on_trouble: TroubleListener, *, after: int = 0) -> None:
        self.seq = after  # the last update handed out: a new connection goes on behind it
        self._url = url
        self._address = "ws" + url.removeprefix("http") + order_path(order_id, "/status")
        self._clock = clock
        self._on_trouble = on_trouble

    async def updates(self, *, engine_seen: bool = False) -> AsyncGenerator[tuple[Update, msgspec.Raw]]:
        """Every update behind `after`, with its JSON, up to the order's end.

        Ends early when the engine closes the stream as complete: there was nothing behind `after`. A connection
        that cannot even be made raises at once unless `engine_seen`; a lost one is made again, `RECONNECTS_MAX`
        times in a row at most.
        """
        failures = 0
        while True:
            try:
                async with contextlib.aclosing(self._connection()) as connection:
                    async for update, raw in connection:
                        engine_seen = True
                        failures = 0
                        yield update, raw
                return
            except _ConnectionLost as lost:
                told = str(lost)
                engine_seen = True
            except (OSError, TimeoutError) as error:
                told = no_engine(self._url)
                if not engine_seen:
                    raise EngineUnavailableError(told) from error
            failures += 1
            if failures > RECONNECTS_MAX:
                raise EngineUnavailableError(f"{told} (gave up after {RECONNECTS_MAX} tries)")
            pause_s = min(FIRST_PAUSE_S * 2 ** (failures - 1), PAUSE_MAX_S)
            self._on_trouble(f"{told}; trying again in {pause_s:g} s ({failures} of {RECONNECTS_MAX})")
            await self._clock.sleep(pause_s)

    async def _connection(self) -> AsyncGenerator[tuple[Update, msgspec.Raw]]:
        """The updates of one connection, those already handed out left out."""
        try:
            async with connect(
                f"{self._address}?after={self.seq}",
                open_timeout=OPEN_TIMEOUT_S,
                max_size=MESSAGE_BYTES_MAX,
                proxy=None if is_loopback(self._url) else True,
            ) as socket:
                while True:
                    for update, raw in _updates_in(await socket.recv()):
                        if update.seq <= self.seq:
                            continue
                        if update.seq != self.seq + 1:
                            raise _ConnectionLost(f"update {self.seq + 1} is missing before {update.seq}")
                        self.seq = update.seq
                        yield update, raw
                        if update.is_end:
                            return
        except ConnectionClosed as closed:
            code, reason = (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd is not None else (None, "")
            if code in _REFUSALS:
                raise ProblemError(problem_of_kind(_REFUSALS[code], reason)) from closed
            if code != 1000:
                raise _ConnectionLost(reason or "the connection was lost") from closed
        except InvalidStatus as refused:
            status = refused.response.status_code
            if status < 500:
                told = f"{self._url} refused the WebSocket with {status}: is it a bestex engine?"
                raise EngineUnavailableError(told) from refused
            raise _ConnectionLost(f"the engine answered {status}") from refused
        except InvalidHandshake as error:
            raise _ConnectionLost(f"no WebSocket could be opened: {error}") from error


def _updates_in(message: str | bytes) -> list[tuple[Update, msgspec.Raw]]:
    envelope = decode(message.encode() if isinstance(message, str) else message, StreamMessage)
    match envelope.type:
        case "history":
            items = decode(envelope.data, list[msgspec.Raw])
        case "update":
            items = [envelope.data]
        case _:
            items = []  # a newer engine's kind of message
    return [(decode(item, Update), item) for item in items]
