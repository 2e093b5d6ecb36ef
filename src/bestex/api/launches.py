"""New pools that were seen: what was measured of them, what each filter said, and what buying would have made since."""

import asyncio
from typing import Any

import msgspec
from litestar import Controller, Request, get
from litestar.di import NamedDependency
from litestar.params import FromQuery
from msgspec.structs import asdict

from bestex.api.problems import ProblemError
from bestex.api.requests import read_launches_query, read_query
from bestex.domain.events import timestamp_text
from bestex.domain.launches import Launch
from bestex.domain.money import format_amount
from bestex.domain.tokens import pair_of
from bestex.ports import FilterSetVerdict, LaunchRecord, MarketData, TriggerStore


class Measured(msgspec.Struct, frozen=True, rename="camel"):
    """A pool as it was when it was seen."""

    liquidity: str  # of the quote token, token units
    mint_authority_revoked: bool
    freeze_authority_revoked: bool
    lp_burnt_bps: int
    lp_locked_bps: int
    top_holders_bps: int
    creator: str


class SinceListed(msgspec.Struct, frozen=True, rename="camel"):
    """What a purchase when the pool was seen would be worth now, in the quote token."""

    paid: str
    worth_now: str  # what selling all of it would pay, before the network's fee
    change_percent: float


class LaunchedPool(msgspec.Struct, frozen=True, rename="camel"):
    """A pool of a launched token."""

    mint: str
    name: str  # what it calls itself
    ticker: str
    venue: str
    pool: str
    quote: str  # symbol of what it is sold for
    listed_at: str
    slot: int
    migrated_from: str | None  # the venue it was at before
    measured: Measured


class LaunchBody(LaunchedPool, frozen=True, rename="camel"):
    """One pool that was seen, and what was thought of it."""

    seen_at: str
    verdicts: tuple[FilterSetVerdict, ...]
    bought_by: int  # orders that fired on it
    since_listed: SinceListed | None  # null where there is no price


def launched_pool(launch: Launch) -> LaunchedPool:
    return LaunchedPool(
        mint=launch.token.mint,
        name=launch.name,
        ticker=launch.ticker,
        venue=launch.venue,
        pool=launch.pool,
        quote=launch.quote.symbol,
        listed_at=timestamp_text(launch.listed_us),
        slot=launch.slot,
        migrated_from=launch.migrated_from,
        measured=_measured(launch),
    )


def _measured(launch: Launch) -> Measured:
    return Measured(
        format_amount(launch.liquidity, launch.quote.decimals),
        launch.mint_authority_revoked,
        launch.freeze_authority_revoked,
        launch.lp_burnt_bps,
        launch.lp_locked_bps,
        launch.top_holders_bps,
        launch.creator,
    )


class LaunchPage(msgspec.Struct, frozen=True, rename="camel"):
    data: list[LaunchBody]
    next_cursor: str | None  # for the next page; null at the end


class LaunchReader:
    """What the routes of launches need."""

    def __init__(self, store: TriggerStore, market_data: MarketData) -> None:
        self._store = store
        self._market_data = market_data

    async def page(self, limit: int, before_us: int | None, mint: str | None) -> LaunchPage:
        """Newest first."""
        records = await self._store.launches(limit, before_us, mint)
        cursor = str(records[-1].seen_us) if len(records) == limit else None
        return LaunchPage(list(await asyncio.gather(*map(self._body, records))), cursor)

    async def _body(self, record: LaunchRecord) -> LaunchBody:
        return LaunchBody(
            **asdict(launched_pool(record.launch)),
            seen_at=timestamp_text(record.seen_us),
            verdicts=record.verdicts,
            bought_by=record.bought_by,
            since_listed=await self._since_listed(record),
        )

    async def _since_listed(self, record: LaunchRecord) -> SinceListed | None:
        launch, paid = record.launch, record.reference_in
        pair = pair_of(launch.token, launch.quote)
        tick = await self._market_data.read(pair)
        if tick is None or not tick.curves or paid == 0 or record.reference_out == 0:
            return None
        sells_base = pair.base == launch.token
        worth = max(curve.amount_out(record.reference_out, sells_base) for curve in tick.curves)
        decimals = launch.quote.decimals
        change_percent = (worth - paid) * 10_000 // paid / 100  # rounded down, to a hundredth of a percent
        return SinceListed(format_amount(paid, decimals), format_amount(worth, decimals), change_percent)


class LaunchRoutes(Controller):
    path = "/api/launches"
    tags = ("launches",)

    @get("/", summary="New pools that were seen, newest first, with every filter's verdict")
    async def launches(
        self,
        request: Request[Any, Any, Any],
        launched: NamedDependency[LaunchReader | None],
        limit: FromQuery[str | None] = None,
        cursor: FromQuery[str | None] = None,
        mint: FromQuery[str | None] = None,
    ) -> LaunchPage:
        """Also those that nobody bought, with what buying them would have made since (`sinceListed`)."""
        if launched is None:
            raise ProblemError("not-found", "this engine does not follow launches")
        return await launched.page(*read_launches_query(read_query(request.scope["query_string"])))
