"""One client of the server: its calls, and what is on its way to it."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping, Sequence
from typing import Any, Final, Protocol, TypeVar

import msgspec
import structlog

from bestex.domain.errors import ChainUnreachableError
from bestex.domain.events import SignedTransaction
from bestex.domain.route import QuoteRequest
from bestex.domain.tokens import Pair, Token, TokenRegistry
from bestex.ports import Balance, Tick, Venue
from bestex.venues.simnet import wire
from bestex.venues.simnet.begun import Begun, begin
from bestex.venues.simnet.faults import WorldBrokeError, name_of
from bestex.venues.simnet.outbox import Outbox
from bestex.venues.simnet.prices import wire_tick
from bestex.venues.simulated.world import SimulatedWorld

MAX_CALLS: Final = 20_000
"""Calls of one client that wait for their answers; one more ends its connection."""
MAX_UNSENT_BYTES: Final = 16 * 1024 * 1024
"""Answers and news that a client has not taken; more end its connection."""
MAX_PAIRS: Final = 10_000
"""Pairs that one client follows."""
MAX_SENT: Final = 20_000
"""Transactions of one client that have not landed; that one of more has landed, all are told."""
MAX_ROWS: Final = 1_000
"""Transactions or launches in one answer."""
CLOSE_S: Final = 1.0
"""For the last message to a client that does not read."""

BAD_DATA: Final = 1007  # WebSocket close codes
BEYOND_BOUNDS: Final = 1008

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

T = TypeVar("T")

_log = structlog.get_logger(__name__)


class Broadcaster(Protocol):
    """Who brings the news."""

    def follow_pairs(self, session: "Session", pairs: list[Pair]) -> None: ...

    def follow_launches(self, session: "Session") -> None: ...

    def follow_statuses(self, session: "Session") -> None: ...

    def follow_trading(self, session: "Session") -> None: ...


class Session:
    """What goes on with one client, until it goes or is cut off."""

    def __init__(self, world: SimulatedWorld, tokens: TokenRegistry, broadcaster: Broadcaster) -> None:
        self._world = world
        self._tokens = tokens
        self._broadcaster = broadcaster
        self._venues: dict[str, Venue] = {venue.name: venue for venue in world.venues}
        self._loop = asyncio.get_running_loop()
        self._outbox = Outbox()
        self._ticks: dict[str, bytes] = {}  # by the pair's name: the newest that was not sent
        self._due = asyncio.Event()  # there is something to send
        self._waiting: set[asyncio.Task[None]] = set()  # calls that take time
        self._sent: dict[str, None] = {}  # signatures of what the client sent and has not landed
        self._cut: asyncio.Future[tuple[int, str]] = self._loop.create_future()  # a close code and the reason
        self._takers: Mapping[type, Callable[[Any], None]] = {
            wire.AskQuote: self._quote,
            wire.Build: self._build,
            wire.SendTransaction: self._send,
            wire.AskStatuses: self._statuses,
            wire.AskFills: self._fills,
            wire.AskHeight: self._height,
            wire.AskBalances: self._balances,
            wire.AskHistory: self._history,
            wire.AskPrices: self._prices,
            wire.AskLaunches: self._launches,
            wire.AskSimulation: self._simulation,
            wire.Fund: self._fund,
            wire.MovePrice: self._move_price,
            wire.MakeLaunch: self._launch,
            wire.Migrate: self._migrate,
            wire.SetFaults: self._set_faults,
            wire.Reset: self._reset,
            wire.FollowPairs: self._follow_pairs,
            wire.FollowLaunches: lambda _: broadcaster.follow_launches(self),
            wire.FollowStatuses: lambda _: broadcaster.follow_statuses(self),
            wire.HandOver: self._hand_over,
            wire.FollowTrading: lambda _: broadcaster.follow_trading(self),
        }

    async def serve(self, receive: Receive, send: Send) -> None:
        """Serve an accepted connection until it ends."""
        parts: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(self._read(receive)),
            asyncio.ensure_future(self._write(send)),
            self._cut,
        ]
        try:
            await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        finally:
            tasks = [*parts[:2], *self._waiting]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if self._cut.done():
            code, reason = self._cut.result()
            _log.warning("simnet.client_cut", reason=reason)
            try:
                async with asyncio.timeout(CLOSE_S):
                    await send({"type": "websocket.close", "code": code, "reason": reason})
            except TimeoutError:
                pass  # it takes nothing any more: the server drops it

    def cut(self, code: int, reason: str) -> None:
        """End the connection."""
        if not self._cut.done():
            self._cut.set_result((code, reason))

    # --- To the client

    def tell(self, message: wire.Reply) -> None:
        self._outbox.add(message)
        self._has_more()

    def tell_encoded(self, message: bytes) -> None:
        """`tell` of what others are told, too."""
        self._outbox.add_encoded(message)
        self._has_more()

    def show_tick(self, pair: str, message: bytes) -> None:
        """Tell of a pair's prices; older ones that are not on their way yet are of no use any more."""
        self._ticks[pair] = message
        self._due.set()

    def _has_more(self) -> None:
        self._due.set()
        if len(self._outbox) > MAX_UNSENT_BYTES:
            self.cut(BEYOND_BOUNDS, f"more than {MAX_UNSENT_BYTES:,} bytes wait to be read")

    async def _write(self, send: Send) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            for tick in self._ticks.values():
                self._outbox.add_encoded(tick)
            self._ticks.clear()
            for message in self._outbox.take():
                await send({"type": "websocket.send", "bytes": message})

    # --- From the client

    async def _read(self, receive: Receive) -> None:
        while not self._cut.done():
            message = await receive()
            if message["type"] != "websocket.receive":
                return
            data = message.get("bytes")
            if data is None:
                self.cut(BAD_DATA, "messages are binary")
                return
            try:
                requests = wire.read_requests(data)
            except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
                self.cut(BAD_DATA, f"no messages of this protocol: {error}"[:120])
                return
            if len(requests) > MAX_CALLS:
                self.cut(BEYOND_BOUNDS, f"more than {MAX_CALLS:,} calls in one message")
                return
            for request in requests:
                self._takers[type(request)](request)

    def _answer(self, call: wire.Call, answer: Callable[[int, T], wire.Reply], value: T) -> None:
        try:
            self.tell(answer(call.number, value))
        except (OverflowError, ValueError) as error:
            self._fail(call, error)

    def _fail(self, call: wire.Call, error: BaseException) -> None:
        name, message = name_of(error), str(error)
        if name is None:
            _log.error("simnet.call_broke", call=type(call).__name__, exc_info=error)
            name, message = WorldBrokeError.__name__, f"{type(error).__name__}: {error}"
        self.tell(wire.Failed(call.number, name, message))

    def _begin(self, call: wire.Call, work: Coroutine[Any, Any, T], answer: Callable[[int, T], wire.Reply]) -> None:
        """Answer with what the work gives: now, when it need not wait. It must be such as `begin` may begin."""
        try:
            begun = begin(work)
        except Exception as error:  # noqa: BLE001 -- whatever it is, it is the answer
            self._fail(call, error)
            return
        if isinstance(begun, Begun):
            self._later(call, begun, answer)
        else:
            self._answer(call, answer, begun.value)

    def _later(self, call: wire.Call, work: Awaitable[T], answer: Callable[[int, T], wire.Reply]) -> None:
        """Answer with what the work gives, once it does: others go on meanwhile."""
        if len(self._waiting) >= MAX_CALLS:
            self.cut(BEYOND_BOUNDS, f"more than {MAX_CALLS:,} calls wait for their answers")
        task = self._loop.create_task(self._work(call, work, answer))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def _work(self, call: wire.Call, work: Awaitable[T], answer: Callable[[int, T], wire.Reply]) -> None:
        try:
            value = await work
        except Exception as error:  # noqa: BLE001 -- whatever it is, it is the answer
            self._fail(call, error)
        else:
            self._answer(call, answer, value)

    # --- Calls

    def _quote(self, call: wire.AskQuote) -> None:
        venue = self._venues.get(call.venue)
        request = call.request
        if venue is None:
            self._fail(call, ValueError(f"there is no venue {call.venue}"))
            return
        try:
            request = QuoteRequest(self._token(request.token_in), self._token(request.token_out), request.amount_in)
            quote = venue.quote_at_once(request)
        except Exception as error:  # noqa: BLE001 -- whatever it is, it is the answer
            self._fail(call, error)
            return
        if quote is None:
            self._later(call, venue.quote(request), wire.Quoted)
        else:
            self._answer(call, wire.Quoted, quote)

    def _build(self, call: wire.Build) -> None:
        venue = self._venues.get(call.venue)
        if venue is None:
            self._fail(call, ValueError(f"there is no venue {call.venue}"))
            return
        request = call.request
        try:
            self._token(request.token_in)
            self._token(request.token_out)
        except ValueError as error:
            self._fail(call, error)
            return
        self._begin(call, venue.build(request), wire.Built)

    def _send(self, call: wire.SendTransaction) -> None:
        self._note_sent(call.transaction)
        self._begin(call, self._world.chain.send(call.transaction), wire.Done)

    def _hand_over(self, request: wire.HandOver) -> None:
        transaction = request.transaction
        self._note_sent(transaction)
        try:
            self._world.chain.send_at_once(transaction)
        except (ChainUnreachableError, ValueError) as error:
            _log.info("simnet.not_taken", signature=transaction.signature, error=str(error))

    def _note_sent(self, transaction: SignedTransaction) -> None:
        self._sent[transaction.signature] = None
        if len(self._sent) > MAX_SENT:
            del self._sent[next(iter(self._sent))]

    def take_landed(self, signatures: Sequence[str]) -> tuple[list[str], list[str]]:
        """Those that this client sent, to be told of once; and the others."""
        mine: list[str] = []
        others: list[str] = []
        sent = self._sent
        for signature in signatures:
            if signature in sent:
                del sent[signature]
                mine.append(signature)
            else:
                others.append(signature)
        return mine, others

    def _statuses(self, call: wire.AskStatuses) -> None:
        self._later(call, self._world.chain.statuses(call.signatures), wire.Statuses)

    def _fills(self, call: wire.AskFills) -> None:
        self._later(call, self._world.chain.fills(call.signatures), wire.Fills)

    def _height(self, call: wire.AskHeight) -> None:
        self._later(call, self._world.chain.finalized_height(), wire.Height)

    def _balances(self, call: wire.AskBalances) -> None:
        def answer(number: int, value: list[Balance]) -> wire.Balances:
            return wire.Balances(number, {each.mint: str(each.units) for each in value})

        self._later(call, self._world.wallet.balances(), answer)

    def _history(self, call: wire.AskHistory) -> None:
        limit = min(max(call.limit, 0), MAX_ROWS)
        self._later(call, self._world.wallet.history(call.before, limit), wire.History)

    def _prices(self, call: wire.AskPrices) -> None:
        def answer(number: int, tick: Tick | None) -> wire.Prices:
            return wire.Prices(number, None if tick is None else wire_tick(tick))

        pair = self._pair(call.pair)
        if pair is None:
            self._answer(call, answer, None)
        else:
            self._later(call, self._world.market_data.read(pair), answer)

    def _launches(self, call: wire.AskLaunches) -> None:
        limit = min(max(call.limit, 0), MAX_ROWS)
        self._later(call, self._world.market_data.launches(call.since_us, limit), wire.Launches)

    def _simulation(self, call: wire.AskSimulation) -> None:
        self._later(call, self._world.control.status(), wire.SimulationIs)

    def _fund(self, call: wire.Fund) -> None:
        token = self._tokens.find(call.token.mint)
        if token is None:
            self._fail(call, ValueError(f"{call.token.mint} is not in the token registry"))
        else:
            self._later(call, self._world.control.fund(token, call.units), wire.Done)

    def _move_price(self, call: wire.MovePrice) -> None:
        pair = self._pair(call.pair)
        if pair is None:
            self._fail(call, ValueError(f"no venue has a pool for {call.pair.name}"))
        else:
            self._later(call, self._world.control.move_price(pair, call.percent), wire.Done)

    def _launch(self, call: wire.MakeLaunch) -> None:
        self._later(call, self._world.control.launch(call.wish), wire.Launched)

    def _migrate(self, call: wire.Migrate) -> None:
        self._later(call, self._world.control.migrate(call.mint), wire.Launched)

    def _set_faults(self, call: wire.SetFaults) -> None:
        self._later(call, self._world.control.set_faults(call.changes), wire.FaultsAre)

    def _reset(self, call: wire.Reset) -> None:
        self._later(call, self._world.control.reset(), wire.Done)

    def _follow_pairs(self, request: wire.FollowPairs) -> None:
        if len(request.pairs) > MAX_PAIRS:
            self.cut(BEYOND_BOUNDS, f"more than {MAX_PAIRS:,} pairs are followed")
            return
        known = [self._pair(pair) for pair in request.pairs]
        self._broadcaster.follow_pairs(self, [pair for pair in known if pair is not None])

    # --- What clients name

    def _token(self, token: Token) -> Token:
        """The token as this side knows it, else as it is said to be. `ValueError` for an impossible one."""
        known = self._tokens.find(token.mint)
        if known is not None:
            return known
        if not 0 <= token.decimals <= 18 or len(token.symbol) > 100:
            raise ValueError("no token is like that")
        return token

    def _pair(self, pair: Pair) -> Pair | None:
        """The pair as this side knows it; None when it lacks one of the tokens."""
        base, quote = self._tokens.find(pair.base.mint), self._tokens.find(pair.quote.mint)
        return None if base is None or quote is None else Pair(base, quote)
