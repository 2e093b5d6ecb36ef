"""The generator's lanes: connections that carry orders, and what came of them."""

import socket
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

from bench.wire import CLOSE, PING, PONG, TEXT, Frames, WireError, frame, handshake, read_answer

RECEIVE_BYTES: Final = 1 << 14  # more would have the allocator ask the kernel for pages each time
CONNECT_SECONDS_MAX: Final = 10.0
RETRY_AFTER_SECONDS_MAX: Final = 5.0
BUSY: Final = 503
ACCEPTING: Final = frozenset({200, 202, 207})
REFUSED_FOR_NOW: Final = b'"status":503'
PROBLEM_KEY: Final = b'"problem":'
BATCH_RETRY_SECONDS: Final = 0.1
ORDER_ID_KEY: Final = b'"orderId":"'
OK_202: Final = b"HTTP/1.1 202"

ACCEPTED_FRAME: Final = b'{"type":"accepted"'
ERROR_FRAME: Final = b'{"type":"error"'
CONFIRMED: Final = b'"status":"confirmed"'
TX_HASH: Final = b'"txHash":"'  # the first `confirmed` names the transaction; notes of the same status do not
NOT_CONFIRMED: Final = (b'"status":"failed"', b'"status":"cancelled"', b'"status":"expired"')


class Lane(Protocol):
    """A connection: at most one request under way, on a kept WebSocket a window of orders."""

    fileno: int
    under_way: int  # orders sent and not accepted; on a WebSocket, not ended

    def fill(self) -> None:
        """Send as much as may be under way."""
        ...

    def send(self, due_ns: int) -> None:
        """Send what was due at a time; 0: now."""
        ...

    def send_again(self) -> None: ...
    def readable(self) -> None: ...
    def close(self) -> None: ...


@dataclass
class Outcome:
    """What came of all orders, and what a lane does when it is free."""

    accepted: int = 0
    first_sent_ns: int = 0
    last_accepted_ns: int = 0
    busy_answers: int = 0
    unconfirmed: int = 0
    accept_ns: "array[int]" = field(default_factory=lambda: array("q"))
    late_ns: "array[int]" = field(default_factory=lambda: array("q"))
    confirm_ns: "array[int]" = field(default_factory=lambda: array("q"))
    told_to_wait: list[tuple[Lane, float]] = field(default_factory=list)  # seconds
    free: Callable[[Lane], None] = lambda lane: None

    def sent(self, due_ns: int, now_ns: int) -> int:
        """The time that a latency counts from."""
        self.first_sent_ns = self.first_sent_ns or now_ns
        if due_ns:
            self.late_ns.append(now_ns - due_ns)
        return due_ns or now_ns

    def took(self, orders: int, from_ns: int, now_ns: int) -> None:
        self.accepted += orders
        self.last_accepted_ns = now_ns
        self.accept_ns.append(now_ns - from_ns)

    def busy(self, lane: Lane, retry_after_s: float | None, orders: int = 1) -> None:
        self.busy_answers += orders
        self.told_to_wait.append((lane, min(retry_after_s or 1.0, RETRY_AFTER_SECONDS_MAX)))


def is_confirmation(text: bytes) -> bool:
    """Whether an update says that its order was executed, for the first time."""
    return CONFIRMED in text and TX_HASH in text


def connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), CONNECT_SECONDS_MAX)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


class HttpLane:
    """One keep-alive connection: a request, its answer, the next request."""

    def __init__(self, port: int, requests: Iterator[bytes], outcome: Outcome) -> None:
        self._socket = connect(port)
        self._socket.setblocking(False)
        self._requests = requests
        self._outcome = outcome
        self._received = bytearray()
        self._from_ns = 0
        self._request = b""
        self._whole = 0  # length of the last answer to a single order: the next one most likely has it too
        self.fileno = self._socket.fileno()
        self.under_way = 0

    def fill(self) -> None:
        self.send(0)

    def send(self, due_ns: int) -> None:
        self._request = next(self._requests)
        self.under_way = 1
        self._from_ns = self._outcome.sent(due_ns, time.monotonic_ns())
        self.send_again()

    def send_again(self) -> None:
        sent = self._socket.send(self._request)
        if sent < len(self._request):  # a large batch
            self._socket.setblocking(True)
            self._socket.sendall(self._request[sent:])
            self._socket.setblocking(False)

    def readable(self) -> None:
        data = self._socket.recv(RECEIVE_BYTES)
        now_ns = time.monotonic_ns()
        if not data:
            raise WireError("the server closed a connection")
        if len(data) == self._whole and data.startswith(OK_202) and not self._received:
            self.under_way = 0
            self._outcome.took(1, self._from_ns, now_ns)
            self._outcome.free(self)
            return
        self._received += data
        read = read_answer(self._received)
        if read is None:
            return
        answer, whole = read
        del self._received[:whole]
        if answer.status == BUSY:
            self._outcome.busy(self, answer.retry_after_s)
            return
        orders = answer.body.count(ORDER_ID_KEY) if answer.status in ACCEPTING else 0
        if orders:
            self._outcome.took(orders, self._from_ns, now_ns)
        if refused := answer.body.count(REFUSED_FOR_NOW):  # some of a batch: there is no room for more
            self._outcome.busy(self, BATCH_RETRY_SECONDS, refused)
        elif not orders or PROBLEM_KEY in answer.body:
            raise WireError(f"expected orders to be accepted, got {answer.status} {answer.body.decode()[:500]}")
        else:
            self._whole = whole if orders == 1 else 0
            self.under_way = 0
            self._outcome.free(self)

    def close(self) -> None:
        self._socket.close()


class KeptSocket:
    """A WebSocket that orders are entered over; the answers come in the order of the entries."""

    def __init__(self, port: int, path: str, outcome: Outcome) -> None:
        self._socket = connect(port)
        self._socket.sendall(handshake(port, path))
        received = bytearray()
        while (read := read_answer(received)) is None:
            received += self._socket.recv(RECEIVE_BYTES) or _closed()
        answer, whole = read
        if answer.status != 101:
            raise WireError(f"expected a WebSocket on {path}, got {answer.status} {answer.body.decode()[:500]}")
        self._socket.setblocking(False)
        self._early = bytes(received[whole:])
        self._frames = Frames()
        self._outcome = outcome
        self.fileno = self._socket.fileno()

    def write(self, data: bytes) -> None:
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self._socket.setblocking(True)
            self._socket.sendall(data[sent:])
            self._socket.setblocking(False)

    def texts(self) -> Iterator[bytes]:
        """The messages that have come; pings are answered."""
        data = self._socket.recv(RECEIVE_BYTES) or _closed()
        for opcode, payload in self._frames.feed(self._early + data if self._early else data):
            if opcode == TEXT:
                yield payload
            elif opcode == PING:
                self.write(frame(payload, PONG))
            elif opcode == CLOSE:
                raise WireError(f"the server closed a WebSocket: {payload[:2].hex()} {payload[2:].decode()}")
        self._early = b""

    def close(self) -> None:
        self._socket.close()


class SocketLane(KeptSocket):
    """Order entry with a window: so many orders entered and not ended at a time."""

    def __init__(self, port: int, path: str, entries: Iterator[bytes], window: int, outcome: Outcome) -> None:
        super().__init__(port, path, outcome)
        self._entries = entries
        self._window = window
        self._sent_ns: deque[int] = deque()  # of orders without an answer
        self.under_way = 0

    def fill(self) -> None:
        self.send(0)

    def send(self, due_ns: int) -> None:
        """Fill the window up."""
        count = self._window - self.under_way
        self.under_way += count
        self._sent_ns.extend([self._outcome.sent(due_ns, time.monotonic_ns())] * count)
        self.write(b"".join([next(self._entries) for _ in range(count)]))

    def send_again(self) -> None:
        raise WireError("an order on a WebSocket is never told to wait")

    def readable(self) -> None:
        ended = 0
        now_ns = time.monotonic_ns()
        for text in self.texts():
            if text.startswith(ACCEPTED_FRAME):
                self._outcome.took(1, self._sent_ns.popleft(), now_ns)
            elif is_confirmation(text):
                ended += 1
            elif text.startswith(ERROR_FRAME):
                raise WireError(f"an order was refused: {text.decode()[:500]}")
            elif any(status in text for status in NOT_CONFIRMED):
                ended += 1
        if ended:
            self.under_way -= ended
            self._outcome.free(self)


class Follower(KeptSocket):
    """A kept WebSocket with one order at a time, followed to its end."""

    def __init__(self, port: int, path: str, entries: Iterator[bytes], outcome: Outcome) -> None:
        super().__init__(port, path, outcome)
        self._entries = entries
        self._entry = b""
        self._from_ns = 0
        self._accepted_ns = 0
        self.under_way = 0

    def fill(self) -> None:
        self.send(0)

    def send(self, due_ns: int) -> None:
        self._entry = next(self._entries)
        self.under_way = 1
        self._from_ns = self._outcome.sent(due_ns, time.monotonic_ns())
        self.send_again()

    def send_again(self) -> None:
        self.write(self._entry)

    def readable(self) -> None:
        for text in self.texts():
            now_ns = time.monotonic_ns()
            if text.startswith(ACCEPTED_FRAME):
                self._accepted_ns = now_ns
                self._outcome.took(1, self._from_ns, now_ns)
            elif text.startswith(ERROR_FRAME):
                raise WireError(f"an order was refused: {text.decode()[:500]}")
            elif is_confirmation(text):
                self._outcome.confirm_ns.append(now_ns - self._accepted_ns)
                self._end()
            elif any(status in text for status in NOT_CONFIRMED):
                self._outcome.unconfirmed += 1
                self._end()

    def _end(self) -> None:
        self.under_way = 0
        self._outcome.free(self)


def _closed() -> bytes:
    raise WireError("the server closed a connection")
