"""Holds new pools against the orders that wait for one, and keeps what was thought of each on disk."""

import asyncio
from collections import OrderedDict
from functools import partial
from typing import Final

import structlog
from msgspec.structs import replace

from bestex.domain.errors import ChainUnreachableError, JournalError, UnknownTokenError
from bestex.domain.launches import Launch
from bestex.domain.tokens import TokenRegistry, pair_of
from bestex.engine.books import LAUNCHES, Books
from bestex.engine.firing_desk import Fired, FiringDesk
from bestex.engine.signing import SigningGate
from bestex.engine.triggers.snipers import (
    MAX_SETS_SHOWN,
    Match,
    Sighting,
    Sniper,
    Snipers,
    launch_trigger,
)
from bestex.ports import Clock, LaunchRecord, MarketData, RestingOrder, TriggerStore

LOOK_AGAIN_EVERY_S: Final = 0.4  # at pools that may pass later
MAX_RECORDS_WAITING: Final = 1_000  # for a database that is away; the oldest are forgotten before
MAX_KNOWN: Final = 2_000  # pools remembered by their mint, for snipers that come later
CATCH_UP: Final = 1_000  # launches that a dead engine did not see, the oldest first
_RETRY_S: Final = 0.5

_log = structlog.get_logger(__name__)


class LaunchDesk:
    """The snipers of one engine."""

    def __init__(
        self,
        market: MarketData,
        store: TriggerStore,
        clock: Clock,
        gate: SigningGate,
        tokens: TokenRegistry,
        firing: FiringDesk,
        books: Books,
    ) -> None:
        self._market = market
        self._store = store
        self._clock = clock
        self._gate = gate
        self._tokens = tokens
        self._firing = firing
        self._books = books
        self._snipers = Snipers()
        self._records: OrderedDict[str, LaunchRecord] = OrderedDict()  # by pool, those that are to be kept
        self._known: OrderedDict[str, LaunchRecord] = OrderedDict()  # by mint, the latest pool of each
        self._wake = asyncio.Event()
        self._has_caught_up = asyncio.Event()
        self._is_to_catch_up = asyncio.Event()
        market.on_launch(self._launched)

    def __len__(self) -> int:
        return len(self._snipers)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._look_again_regularly())
            tasks.create_task(self._keep_records())
            tasks.create_task(self._catch_up_when_asked())

    async def catch_up(self) -> None:
        """Look at the pools that were listed while no engine ran. Raises `JournalError`."""
        seen = await self._store.launches(MAX_KNOWN, None, None)
        if not self._books.owns(LAUNCHES):
            return  # it became another's meanwhile
        since_us = seen[0].launch.listed_us + 1 if seen else 0
        for record in reversed(seen[:MAX_KNOWN]):
            self._take_up(record)
        listed = await self._listed(since_us)
        if not self._books.owns(LAUNCHES):
            return
        for launch in listed:
            known = self._known.get(launch.token.mint)
            if known is None or known.launch.pool != launch.pool:
                self._launched(launch)
        self._has_caught_up.set()

    async def _listed(self, since_us: int) -> list[Launch]:
        """The pools listed since then, once the market can be asked."""
        while True:
            try:
                return await self._market.launches(since_us, CATCH_UP)
            except ChainUnreachableError as error:
                _log.warning("launches.unreachable", error=str(error))
            await self._clock.sleep(_RETRY_S)

    def take_up(self) -> None:
        """Look at those pools soon; whoever asks need not wait for the market."""
        self._is_to_catch_up.set()

    async def _catch_up_when_asked(self) -> None:
        while True:
            await self._is_to_catch_up.wait()
            self._is_to_catch_up.clear()
            try:
                await self.catch_up()
            except JournalError as error:
                _log.warning("launches.interrupted", error=str(error))
                await self._clock.sleep(_RETRY_S)
                self._is_to_catch_up.set()

    def let_go(self) -> None:
        """Drop the snipers, and what is known of pools: they are another's from now on."""
        self._is_to_catch_up.clear()
        self._has_caught_up.clear()
        self._snipers = Snipers()
        self._records.clear()
        self._known.clear()

    def enter(self, order: RestingOrder) -> None:
        """Have an order wait for a launch; one whose mint is listed already need not."""
        try:
            sniper = self._snipers.add(order, self._tokens.get(order.token_in))
        except (UnknownTokenError, ValueError) as error:
            _log.error("launches.order_unreadable", order_id=order.order_id, error=str(error))
            return
        if order.mint is not None and (known := self._known.get(order.mint)) is not None:
            self._came_late(sniper, known)

    def _take_up(self, record: LaunchRecord) -> None:
        """A pool that was seen before this engine began."""
        mint = record.launch.token.mint
        if mint in self._known:
            return
        self._tokens.learn(mint, record.launch.token.decimals)
        self._known[mint] = record
        self._serve_late(mint)

    def _serve_late(self, mint: str) -> None:
        """Who waits for a mint that is listed already need wait no longer."""
        for sniper in self._snipers.waiting_for(mint):
            self._came_late(sniper, self._known[mint])

    def remove(self, order_id: str) -> None:
        """Have an order wait no more."""
        self._snipers.remove(order_id)

    def _came_late(self, sniper: Sniper, known: LaunchRecord) -> None:
        """An order's look at the pool of its mint, which was listed before it came."""
        launch = self._market.look_again(known.launch.pool) if sniper.wants(known.launch) else None
        if launch is None:
            return
        now_us = self._clock.now_us()
        sighting = self._snipers.came_late(sniper, launch, now_us)
        self._fire(sighting.matches, launch, now_us)
        filters = [each.filters for each in sighting.verdicts]
        verdicts = (*(each for each in known.verdicts if each.filters not in filters), *sighting.verdicts)
        record = self._seen_again(known, launch, replace(sighting, verdicts=verdicts[-MAX_SETS_SHOWN:]))
        self._known[launch.token.mint] = record
        self._keep(record)

    # --- What comes

    def _launched(self, launch: Launch) -> None:
        """The first look at a pool."""
        self._tokens.learn(launch.token.mint, launch.token.decimals)
        if not self._books.owns(LAUNCHES):
            return
        now_us = self._clock.now_us()
        sighting = self._snipers.launched(launch, now_us)
        self._fire(sighting.matches, launch, now_us)
        before = self._known.pop(launch.token.mint, None)
        if before is not None and before.launch.pool == launch.pool:
            record = self._seen_again(before, launch, sighting)
        else:
            record = self._first_seen(launch, sighting, now_us)
        self._known[launch.token.mint] = record
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        self._keep(record)

    async def _look_again_regularly(self) -> None:
        """Look again at the pools that may pass later, and at what was listed while none might fire, for ever."""
        while True:
            was_held_back = self._is_held_back
            await self._clock.sleep(LOOK_AGAIN_EVERY_S)
            if was_held_back and not self._is_held_back:
                for mint in list(self._known):
                    self._serve_late(mint)
            for pool in self._snipers.due(self._clock.now_us()):
                launch = self._market.look_again(pool)
                if launch is None:
                    self._snipers.forget(pool)
                else:
                    self._look_again(launch)

    def _look_again(self, launch: Launch) -> None:
        now_us = self._clock.now_us()
        sighting = self._snipers.looked_again(launch, now_us)
        self._fire(sighting.matches, launch, now_us)
        before = self._known.get(launch.token.mint)
        if before is None or (sighting.is_candidate and not sighting.matches):
            return  # nothing is decided yet: what is kept of it need not change at every look
        record = self._known[launch.token.mint] = self._seen_again(before, launch, sighting)
        self._keep(record)

    @property
    def _is_held_back(self) -> bool:
        """Whether nothing may fire now: a halt, or a lease that ran out."""
        return self._gate.halt is not None or not self._books.may_fire(LAUNCHES)

    def _fire(self, matches: tuple[Match, ...], launch: Launch, now_us: int) -> None:
        if self._is_held_back:
            return
        fired: list[Fired] = []
        for match in matches:
            sniper = match.sniper
            self._snipers.remove(sniper.order_id)
            trigger = partial(launch_trigger, match, launch, now_us)
            fired.append(Fired(sniper.order_id, sniper.seq, sniper.epoch, trigger))
        if fired:
            self._firing.fire(fired)

    # --- What is kept of it

    def _first_seen(self, launch: Launch, sighting: Sighting, now_us: int) -> LaunchRecord:
        reference_in = 10**launch.quote.decimals  # one unit of the quote token
        return LaunchRecord(
            launch,
            now_us,
            sighting.verdicts,
            0 if self._is_held_back else len(sighting.matches),
            reference_in,
            self._bought_for(launch, reference_in),
        )

    def _seen_again(self, before: LaunchRecord, launch: Launch, sighting: Sighting) -> LaunchRecord:
        bought_by = before.bought_by + (0 if self._is_held_back else len(sighting.matches))
        return LaunchRecord(
            launch, before.seen_us, sighting.verdicts, bought_by, before.reference_in, before.reference_out
        )

    def _bought_for(self, launch: Launch, amount_in: int) -> int:
        """What so much of the quote token would buy there now; 0 where nothing is offered."""
        pair = pair_of(launch.quote, launch.token)
        tick = self._market.latest(pair)
        curves = tick.curves if tick is not None else ()
        return max((curve.amount_out(amount_in, pair.base == launch.quote) for curve in curves), default=0)

    def _keep(self, record: LaunchRecord) -> None:
        self._records[record.launch.pool] = record
        if len(self._records) > MAX_RECORDS_WAITING:
            self._records.popitem(last=False)
        self._wake.set()

    async def _keep_records(self) -> None:
        """Bring what was thought of pools to disk, for ever, in the order of their listing.

        So whatever was listed before one that is on disk is there, too: from there on the next engine catches up.
        """
        while True:
            await self._wake.wait()
            await self._has_caught_up.wait()
            self._wake.clear()
            while self._records:
                pool, record = min(self._records.items(), key=lambda kept: kept[1].launch.listed_us)
                try:
                    await self._store.keep_launch(record)
                except JournalError as error:
                    _log.warning("launches.not_kept", error=str(error))
                    await self._clock.sleep(_RETRY_S)
                    continue
                if self._records.get(pool) is record:
                    del self._records[pool]
