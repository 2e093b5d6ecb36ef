"""The news of the simulated world, to the clients that want them: each is encoded once for all of them."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
import structlog

from bestex.domain.launches import Launch
from bestex.domain.route import Fill
from bestex.domain.tokens import Pair, TokenRegistry, pair_of
from bestex.ports import Clock, Tick
from bestex.venues.simnet import wire
from bestex.venues.simnet.prices import wire_tick
from bestex.venues.simnet.session import Session
from bestex.venues.simulated.chain import NETWORK_FEE
from bestex.venues.simulated.launches import LISTED_MAX
from bestex.venues.simulated.world import SimulatedWorld
from bestex.waiting import sleep_or

BALANCES_EVERY_S: Final = 0.05
"""Balances are told with each commit, and at least so often when they change."""
MEASURE_EVERY_S: Final = 0.5
"""The open pools of launches are measured so often while anybody wants to know."""
BEAT_EVERY_S: Final = 1.0
"""A client that hears nothing for much longer takes the connection for broken."""
TOKENS_AT_ONCE: Final = 5_000
INTEGER_MAX: Final = 2**64 - 1
"""Of MessagePack."""

_log = structlog.get_logger(__name__)


class Broadcast:
    """Who wants to hear what, and what each has to be told next."""

    def __init__(self, world: SimulatedWorld, tokens: TokenRegistry, clock: Clock, profile: str) -> None:
        self._world = world
        self._tokens = tokens
        self._clock = clock
        self._profile = profile
        self._market = world.market_data.another()
        self._sessions: dict[Session, None] = {}
        self._want_statuses: dict[Session, None] = {}
        self._want_trading: dict[Session, None] = {}
        self._want_launches: dict[Session, bool] = {}  # True: it has not been told of the open pools yet
        self._wants_more = asyncio.Event()
        self._followed: dict[Session, dict[str, Pair]] = {}  # by the pair's name
        self._followers: dict[str, list[Session]] = {}  # by the pair's name
        self._held: dict[str, int] = {}  # what all have been told
        self._measured: dict[str, Launch] = {}  # the same of open pools, by address
        world.chain.on_status(self._landed)
        world.faults.on_change(lambda: _tell(self._want_trading, self._trading()))
        self._market.on_tick(self._ticked)
        self._market.on_launch(self._listed)

    def __len__(self) -> int:
        return len(self._sessions)

    async def run(self) -> None:
        """Bring the news that come by time, for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tell_balances())
            tasks.create_task(self._measure_pools())
            tasks.create_task(self._beat())

    def join(self, session: Session) -> None:
        """Tell a new client what it has to know at first, and the news from now on."""
        venues = [venue.name for venue in self._world.venues]
        session.tell(wire.Hello(wire.PROTOCOL, self._world.wallet.address, self._profile, venues))
        launched = self._tokens.launched
        for start in range(0, len(launched), TOKENS_AT_ONCE):
            some = launched[start : start + TOKENS_AT_ONCE]
            session.tell(wire.Learn([(token.mint, token.decimals) for token in some]))
        self._tell_changes()
        session.tell(wire.Held({mint: str(units) for mint, units in self._held.items()}, True))
        self._sessions[session] = None

    def leave(self, session: Session) -> None:
        self._sessions.pop(session, None)
        self._want_statuses.pop(session, None)
        self._want_trading.pop(session, None)
        self._want_launches.pop(session, None)
        if self._followed.pop(session, None) is not None:
            self._follow()

    # --- Wishes

    def follow_pairs(self, session: Session, pairs: list[Pair]) -> None:
        before = self._followed.get(session, {})
        self._followed[session] = {pair.name: pair for pair in pairs}
        self._follow()
        for name, pair in self._followed[session].items():
            if name not in before and (tick := self._market.latest(pair)) is not None:
                session.show_tick(name, wire.encode(self._as_news(tick)))

    def follow_launches(self, session: Session) -> None:
        self._want_launches[session] = True
        self._wants_more.set()

    def follow_statuses(self, session: Session) -> None:
        self._want_statuses[session] = None

    def follow_trading(self, session: Session) -> None:
        self._want_trading[session] = None
        session.tell(self._trading())

    def _trading(self) -> wire.Trading:
        return wire.Trading(self._world.answers_at_once, self._world.key, self._world.nodes.slot_us)

    def _follow(self) -> None:
        followers: dict[str, list[Session]] = {}
        pairs: dict[str, Pair] = {}
        for session, followed in self._followed.items():
            for name, pair in followed.items():
                followers.setdefault(name, []).append(session)
                pairs[name] = pair
        self._followers = followers
        self._market.follow(pairs.values())

    # --- News

    def _landed(self, signatures: Sequence[str]) -> None:
        """Tell each client of what it sent, with what is known of it; and all of what nobody here sent."""
        self._tell_changes()  # first: who looks at what landed must see what it cost
        others = list(signatures)
        for session in self._want_statuses:
            if not others:
                return
            mine, others = session.take_landed(others)
            if mine:
                _tell((session,), self._as_landed(mine))
        if others:
            _tell(self._want_statuses, wire.Landed(others))

    def _as_landed(self, signatures: list[str]) -> wire.Landed:
        nodes = self._world.nodes
        executed: list[tuple[int, Fill] | None] = [
            each if each is None or _is_sayable(each.fill) else None for each in nodes.executed(signatures)
        ]
        view = nodes.view()
        return wire.Landed(signatures, executed, view.slot, view.finalized_slot)

    def _as_news(self, tick: Tick) -> wire.Ticked:
        market, pair = self._world.market, tick.pair
        in_base = market.lamports_in(pair.base, NETWORK_FEE, tick.at_us)
        in_quote = market.lamports_in(pair.quote, NETWORK_FEE, tick.at_us)
        fees = (in_base, in_quote) if max(in_base, in_quote) <= INTEGER_MAX else None
        return wire.Ticked(wire_tick(tick), fees)

    def _ticked(self, tick: Tick) -> None:
        followers = self._followers.get(tick.pair.name)
        if followers:
            message = wire.encode(self._as_news(tick))
            for session in followers:
                session.show_tick(tick.pair.name, message)

    def _listed(self, launch: Launch) -> None:
        token = launch.token
        _tell(self._sessions, wire.Learn([(token.mint, token.decimals)]))
        if self._want_launches:
            tick = self._market.latest(pair_of(launch.quote, token))
            _tell(self._want_launches, wire.Listed(launch, None if tick is None else wire_tick(tick)))

    def _tell_changes(self) -> None:
        units = self._world.wallet.units
        if units == self._held:
            return
        changed = {mint: held for mint, held in units.items() if self._held.get(mint) != held}
        self._held.update(changed)
        _tell(self._sessions, wire.Held({mint: str(held) for mint, held in changed.items()}, False))

    async def _tell_balances(self) -> None:
        while True:
            await self._clock.sleep(BALANCES_EVERY_S)
            self._tell_changes()

    async def _measure_pools(self) -> None:
        while True:
            if self._want_launches:
                await self._measure()
            self._wants_more.clear()
            await sleep_or(self._clock, MEASURE_EVERY_S, self._wants_more)

    async def _measure(self) -> None:
        launches = {each.pool: each for each in await self._market.launches(0, LISTED_MAX)}
        before, self._measured = self._measured, launches
        slot = max((each.slot for each in launches.values()), default=0)
        changed = [each for pool, each in launches.items() if not _looks_alike(each, before.get(pool))]
        closed = [pool for pool in before if pool not in launches]
        known = [session for session, is_new in self._want_launches.items() if not is_new]
        new = [session for session, is_new in self._want_launches.items() if is_new]
        _tell(known, wire.Measured(slot, changed, closed, False))
        _tell(new, wire.Measured(slot, list(launches.values()), [], True))
        self._want_launches = dict.fromkeys(self._want_launches, False)

    async def _beat(self) -> None:
        while True:
            await self._clock.sleep(BEAT_EVERY_S)
            _tell(self._sessions, wire.Beat())


def _tell(sessions: Iterable[Session], news: wire.News) -> None:
    """Tell all of them. It never raises: the world, which makes the news, must not break by who hears of them."""
    message: bytes | None = None
    try:
        for session in sessions:
            if message is None:
                message = wire.encode(news)
            session.tell_encoded(message)
    except (OverflowError, ValueError):
        _log.exception("simnet.news_not_told", news=type(news).__name__)


def _is_sayable(fill: Fill) -> bool:
    return max(fill.amount_in, fill.amount_out) <= INTEGER_MAX


def _looks_alike(launch: Launch, before: Launch | None) -> bool:
    """Whether a pool looks as before, but for when it was looked at."""
    return before is not None and msgspec.structs.replace(before, slot=launch.slot) == launch
