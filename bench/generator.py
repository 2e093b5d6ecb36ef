"""The load generator: sockets, one `epoll`, requests made beforehand. In a process of its own.

    python -m bench.generator --port 4000 --way post --connections 64 --seconds 8 --body '{...}' --result FILE
    python -m bench.generator --port 4000 --rate 2000 --seconds 20 --followed 20 ...

Without a rate the loop is closed: each connection sends an order (or a batch), waits for its answer, and sends the
next; never a second one before. `--way websocket` keeps a window of orders on each socket that have not ended.

With a rate it is open: orders are due at times fixed beforehand, whatever the system does, and each latency counts
from the time the order was due. An order that is due while every connection waits is late, and its lateness counts.
Every Nth order is entered over a kept WebSocket and followed to its end there.

A 503 is counted, waited for as its `Retry-After` says, and sent again. Anything else than acceptance ends the run.
"""

import argparse
import gc
import itertools
import random
import select
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec

from bench.lanes import Follower, HttpLane, Lane, Outcome, SocketLane
from bench.percentiles import Ladder, ladder
from bench.timer import Timer
from bench.wire import BATCH_PATH, EXECUTE_PATH, KEPT_SOCKET_PATH, WireError, batch_body, frame, post

Way = Literal["post", "batch", "websocket"]

EVENTS_AT_ONCE: Final = 256
NS: Final = 1_000_000_000
START_NS: Final = NS // 20  # an open loop's first order is due so long after its start, at the earliest
ANSWER_SECONDS_MAX: Final = 60.0  # after the last order was sent
CONNECTIONS_A_FOLLOWER: Final = 2


class Load(msgspec.Struct, frozen=True, rename="camel"):
    """What the generator saw. Times are of the machine's monotonic clock, which all its processes share."""

    accepted: int  # orders
    first_sent_ns: int
    last_accepted_ns: int
    busy_answers: int  # 503, each waited for and repeated
    cpu_seconds: float  # of this process, while it drove
    accept: Ladder  # from the time an order was due, in a closed loop from its sending, to its acceptance
    late: Ladder  # open loop: from the time an order was due to its sending
    confirm: Ladder  # open loop, followed orders: from acceptance to `confirmed`
    unconfirmed: int  # followed orders that ended otherwise


class Generator:
    """One run: reads whichever lane has something, and sends again what was answered 503."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self._poll = select.epoll()
        self._lanes: dict[int, Lane] = {}
        self._waiting: list[tuple[int, Lane]] = []  # answered 503: when to send again

    def add(self, lanes: Iterable[Lane]) -> None:
        for lane in lanes:
            self._lanes[lane.fileno] = lane
            self._poll.register(lane.fileno, select.EPOLLIN)

    def wake_on(self, timer: Timer) -> None:
        self._poll.register(timer.fileno, select.EPOLLIN)

    def turn(self, until_ns: int) -> None:
        """Wait for a lane, for the timer or until a time, and do what there is to do."""
        if self._waiting:
            until_ns = min(until_ns, min(at_ns for at_ns, _ in self._waiting))
        for fileno, _ in self._poll.poll(max(0.0, (until_ns - time.monotonic_ns()) / NS), EVENTS_AT_ONCE):
            lane = self._lanes.get(fileno)
            if lane is not None:  # else the timer
                lane.readable()
        if self._waiting or self.outcome.told_to_wait:
            self._send_again()

    def _send_again(self) -> None:
        now_ns = time.monotonic_ns()
        self._waiting += ((now_ns + int(wait_s * NS), lane) for lane, wait_s in self.outcome.told_to_wait)
        self.outcome.told_to_wait.clear()
        for _, lane in [waiting for waiting in self._waiting if waiting[0] <= now_ns]:
            lane.send_again()
        self._waiting = [waiting for waiting in self._waiting if waiting[0] > now_ns]

    def wait_for_answers(self) -> None:
        deadline_ns = time.monotonic_ns() + int(ANSWER_SECONDS_MAX * NS)
        while under_way := sum(lane.under_way for lane in self._lanes.values()):
            if time.monotonic_ns() > deadline_ns:
                raise WireError(f"{under_way} orders were not answered within {ANSWER_SECONDS_MAX:.0f} s")
            self.turn(deadline_ns)

    def close(self) -> None:
        for lane in self._lanes.values():
            lane.close()
        self._poll.close()


def drive_closed(generator: Generator, lanes: Sequence[Lane], seconds: float, sendings_max: int) -> None:
    """Keep every lane busy for so long, or for so many sendings; then wait for the last answers."""
    end_ns = time.monotonic_ns() + int(seconds * NS)
    left = sendings_max - len(lanes)

    def free(lane: Lane) -> None:
        nonlocal left
        if left > 0 and time.monotonic_ns() < end_ns:
            left -= 1
            lane.send(0)

    generator.outcome.free = free
    for lane in lanes[:sendings_max]:
        lane.fill()
    while left > 0 and time.monotonic_ns() < end_ns:
        generator.turn(end_ns)
    generator.wait_for_answers()


class Pool:
    """Lanes that are free, and the times of orders that were due when none was."""

    def __init__(self, lanes: Sequence[Lane]) -> None:
        self._free = list(lanes)
        self.late: deque[int] = deque()

    def send(self, due_ns: int) -> None:
        if self._free:
            self._free.pop().send(due_ns)
        else:
            self.late.append(due_ns)

    def give_back(self, lane: Lane) -> None:
        if self.late:
            lane.send(self.late.popleft())
        else:
            self._free.append(lane)


def drive_open(
    generator: Generator, lanes: Sequence[Lane], followers: Sequence[Lane], offsets_ns: Iterable[int], followed: int
) -> None:
    """Send each order when it is due, or as soon after as a lane is free; every `followed`th on a follower."""
    pool, following = Pool(lanes), Pool(followers)
    generator.outcome.free = lambda lane: (following if isinstance(lane, Follower) else pool).give_back(lane)
    timer = Timer()
    generator.wake_on(timer)
    start_ns = time.monotonic_ns() + START_NS
    for number, offset_ns in enumerate(offsets_ns):
        due_ns = start_ns + offset_ns
        timer.ring_at(due_ns)
        while time.monotonic_ns() < due_ns:
            generator.turn(due_ns + NS)
        (following if followers and number % followed == 0 else pool).send(due_ns)
    while pool.late or following.late:
        generator.turn(time.monotonic_ns() + NS)
    generator.wait_for_answers()
    timer.close()


def poisson_offsets(rate: float, seconds: float, seed: int) -> Iterator[int]:
    """Arrivals as of many clients that know nothing of each other, in nanoseconds; a seed gives the same again."""
    chance = random.Random(seed)
    at_s = chance.expovariate(rate)
    while at_s < seconds:
        yield int(at_s * NS)
        at_s += chance.expovariate(rate)


def run(options: argparse.Namespace) -> Load:
    outcome = Outcome()
    generator = Generator(outcome)
    port, bodies = options.port, options.body
    entries = itertools.cycle([frame(body.encode()) for body in bodies])
    followers: list[Lane] = []
    lanes: list[Lane]
    if options.way == "websocket":
        sockets = range(options.connections)
        lanes = [SocketLane(port, KEPT_SOCKET_PATH, entries, options.window, outcome) for _ in sockets]
    else:
        batch = options.way == "batch"
        one = [post(port, BATCH_PATH, batch_body(bodies, options.batch))] if batch else None
        requests = itertools.cycle(one or [post(port, EXECUTE_PATH, body) for body in bodies])
        lanes = [HttpLane(port, requests, outcome) for _ in range(options.connections)]
    if options.rate and options.followed:
        count = max(1, options.connections // CONNECTIONS_A_FOLLOWER)
        followers = [Follower(port, KEPT_SOCKET_PATH, entries, outcome) for _ in range(count)]
    generator.add([*lanes, *followers])
    gc.disable()  # nothing here makes cycles, and a collection would show as the system's latency
    cpu_before = time.process_time()
    try:
        if options.rate:
            offsets_ns = poisson_offsets(options.rate, options.seconds, options.seed)
            drive_open(generator, lanes, followers, offsets_ns, options.followed)
        else:
            drive_closed(generator, lanes, options.seconds, options.orders)
    finally:
        cpu_seconds = time.process_time() - cpu_before
        generator.close()
    return Load(
        accepted=outcome.accepted,
        first_sent_ns=outcome.first_sent_ns,
        last_accepted_ns=outcome.last_accepted_ns,
        busy_answers=outcome.busy_answers,
        cpu_seconds=cpu_seconds,
        accept=ladder(outcome.accept_ns),
        late=ladder(outcome.late_ns),
        confirm=ladder(outcome.confirm_ns),
        unconfirmed=outcome.unconfirmed,
    )


def main() -> int:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(prog="python -m bench.generator", description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--way", choices=("post", "batch", "websocket"), default="post")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--batch", type=int, default=100, help="orders in a batch")
    parser.add_argument("--window", type=int, default=16, help="orders on each kept WebSocket that have not ended")
    parser.add_argument("--seconds", type=float, required=True, help="send for so long")
    parser.add_argument(
        "--orders", type=int, default=sys.maxsize, help="closed loop of single POSTs: so many and no more"
    )
    parser.add_argument("--rate", type=float, help="orders due a second: an open loop")
    parser.add_argument("--followed", type=int, default=0, help="open loop: follow every so manieth order to its end")
    parser.add_argument("--seed", type=int, default=1, help="of the times of an open loop")
    parser.add_argument("--body", action="append", required=True, help="an order as JSON; several are used in turn")
    parser.add_argument("--result", type=Path, required=True, help="the file to write what was seen to, as JSON")
    options = parser.parse_args()
    try:
        load = run(options)
    except (WireError, OSError) as error:
        print(f"generator: {error}", file=sys.stderr)
        return 1
    options.result.write_bytes(msgspec.json.encode(load))
    return 0


if __name__ == "__main__":
    sys.exit(main())
