"""A crowd of WebSocket watchers, in a process of its own: some follow orders that rest, some enter and follow orders.

    python -m bench.crowd --port 4000 --followed FILE --entering 5000 --rate 1000 --seconds 15 --body '{...}' ...

`FILE` of `--followed` has one order id a line: each gets a socket of its own. Prints `connected` when all sockets are
open, leaves them idle for a while, and then enters orders over the others in turn, when they are due. The latency of an
update is from its timestamp, which the engine gave the event before its commit, to its arrival here.
"""

import argparse
import gc
import itertools
import select
import sys
import time
from array import array
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from bench.generator import poisson_offsets
from bench.lanes import ACCEPTED_FRAME, ERROR_FRAME, NOT_CONFIRMED, KeptSocket, Outcome, is_confirmation
from bench.percentiles import Ladder, ladder
from bench.timer import Timer
from bench.wire import KEPT_SOCKET_PATH, WireError, frame

CONNECTED_LINE: Final = "connected"
NS: Final = 1_000_000_000
NS_PER_MS: Final = 1_000_000
EVENTS_AT_ONCE: Final = 512
DRAIN_SECONDS_MAX: Final = 30.0  # after the last order was entered; the latency of what does not come until then
TIMESTAMP_KEY: Final = b'"timestamp":"'
_MINUTE: Final = len("2026-11-25T00:00:")
_REST: Final = len("00.000")


class CrowdResult(msgspec.Struct, frozen=True, rename="camel"):
    sockets: int
    entered: int  # orders
    confirmed: int
    ended_otherwise: int
    errors: int  # messages that an order was refused, or cannot be followed
    updates: int  # and one for each order that was never seen to end: it counts as the longest wait
    first_sent_ns: int
    last_sent_ns: int
    update: Ladder  # from an update's timestamp to its arrival
    cpu_seconds: float  # of this process, while orders were entered


class Timestamps:
    """RFC 3339 times of updates as nanoseconds since 1970; a minute is read once."""

    def __init__(self) -> None:
        self._minute = b""
        self._minute_ns = 0

    def read(self, text: bytes) -> int:
        at = text.find(TIMESTAMP_KEY)
        if at < 0:
            raise WireError(f"an update without a timestamp: {text[:200]!r}")
        at += len(TIMESTAMP_KEY)
        minute = text[at : at + _MINUTE]
        if minute != self._minute:
            self._minute = minute
            self._minute_ns = int(datetime.fromisoformat(f"{minute.decode()}00+00:00").timestamp()) * NS
        rest = text[at + _MINUTE : at + _MINUTE + _REST]
        return self._minute_ns + (int(rest[:2]) * 1_000 + int(rest[3:])) * NS_PER_MS


class Crowd:
    """All sockets, and what came over them."""

    def __init__(self, port: int, followed: Sequence[str], entering: int) -> None:
        nothing = Outcome()  # these sockets tell of nothing there
        self._poll = select.epoll()
        self.following = [KeptSocket(port, f"/api/orders/{order_id}/status", nothing) for order_id in followed]
        self.entering = [KeptSocket(port, KEPT_SOCKET_PATH, nothing) for _ in range(entering)]
        self._sockets = {each.fileno: each for each in (*self.following, *self.entering)}
        for fileno in self._sockets:
            self._poll.register(fileno, select.EPOLLIN)
        self.timer = Timer()
        self._poll.register(self.timer.fileno, select.EPOLLIN)
        self._timestamps = Timestamps()
        self.confirmed = self.ended_otherwise = self.errors = 0
        self.first_error = ""
        self.latencies_ns: array[int] = array("q")

    def listen_until(self, at_ns: int) -> None:
        """Read what comes, until a time of the monotonic clock."""
        self.timer.ring_at(at_ns)
        while time.monotonic_ns() < at_ns:
            self.listen()

    def listen(self) -> None:
        for fileno, _ in self._poll.poll(1.0, EVENTS_AT_ONCE):
            if fileno != self.timer.fileno:
                self._read(self._sockets[fileno])

    def _read(self, its: KeptSocket) -> None:
        for text in its.texts():
            now_ns = time.time_ns()
            if text.endswith(b'"type":"update"}'):
                self.latencies_ns.append(now_ns - self._timestamps.read(text))
                if is_confirmation(text):
                    self.confirmed += 1
                elif any(status in text for status in NOT_CONFIRMED):
                    self.ended_otherwise += 1
            elif text.startswith(ERROR_FRAME):
                self.errors += 1
                self.first_error = self.first_error or text.decode()
            elif not text.startswith(ACCEPTED_FRAME) and not text.endswith(b'"type":"history"}'):
                raise WireError(f"neither an update nor a history: {text.decode()[:200]}")


def drive(crowd: Crowd, entries: Iterator[bytes], rate: float, seconds: float) -> tuple[int, int, int]:
    """Enter orders over the entering sockets in turn, wait for their ends; how many, first and last sending."""
    start_ns = time.monotonic_ns()
    entered, last_ns = 0, start_ns
    for offset_ns, its in zip(poisson_offsets(rate, seconds, seed=1), itertools.cycle(crowd.entering), strict=False):
        crowd.listen_until(start_ns + offset_ns)
        its.write(next(entries))
        entered, last_ns = entered + 1, time.monotonic_ns()
    deadline_ns = time.monotonic_ns() + int(DRAIN_SECONDS_MAX * NS)
    while crowd.confirmed + crowd.ended_otherwise + crowd.errors < entered:
        if time.monotonic_ns() > deadline_ns:
            break
        crowd.listen()
    unseen = entered - crowd.confirmed - crowd.ended_otherwise
    crowd.latencies_ns.extend([int(DRAIN_SECONDS_MAX * NS)] * unseen)
    if crowd.first_error:
        print(f"crowd: {crowd.errors} errors, the first of them {crowd.first_error}", file=sys.stderr)
    return entered, start_ns, last_ns


def main() -> int:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(prog="python -m bench.crowd", description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--followed", type=Path, required=True, help="a file of order ids, one a line")
    parser.add_argument("--entering", type=int, required=True, help="sockets that orders are entered over")
    parser.add_argument("--idle", type=float, default=3.0, help="seconds without orders, once all are connected")
    parser.add_argument("--rate", type=float, required=True, help="orders due a second, over all sockets")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--body", action="append", required=True, help="an order as JSON; several are used in turn")
    parser.add_argument("--result", type=Path, required=True, help="the file to write what was seen to, as JSON")
    options = parser.parse_args()
    entries = itertools.cycle([frame(body.encode()) for body in options.body])
    try:
        crowd = Crowd(options.port, options.followed.read_text().split(), options.entering)
        print(CONNECTED_LINE, flush=True)
        crowd.listen_until(time.monotonic_ns() + int(options.idle * NS))
        crowd.latencies_ns = array("q")
        gc.disable()  # nothing here makes cycles, and a collection would show as the engine's latency
        cpu_before = time.process_time()
        entered, first_ns, last_ns = drive(crowd, entries, options.rate, options.seconds)
    except (WireError, OSError) as error:
        print(f"crowd: {error}", file=sys.stderr)
        return 1
    result = CrowdResult(
        sockets=len(crowd.following) + len(crowd.entering),
        entered=entered,
        confirmed=crowd.confirmed,
        ended_otherwise=crowd.ended_otherwise,
        errors=crowd.errors,
        updates=len(crowd.latencies_ns),
        first_sent_ns=first_ns,
        last_sent_ns=last_ns,
        update=ladder(crowd.latencies_ns),
        cpu_seconds=time.process_time() - cpu_before,
    )
    options.result.write_bytes(msgspec.json.encode(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
