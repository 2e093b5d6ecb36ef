"""Pools that were seen are shown with what was measured, every verdict, and what buying them would have made since."""

import httpx
import pytest

from bestex.domain.launches import STANDARD_FILTERS, Launch, judge
from bestex.domain.tokens import Pair, Token
from bestex.ports import Curve, FilterSetVerdict, LaunchRecord, Tick
from tests.unit.api.doors import NOW_US, TOKENS, ScriptedEngine, doors

MINT = "7vfCXTUXx5WJV5JADk17DUJ4ksgau7utNKj4b963voxs"
SOL = TOKENS.get("SOL")
LAUNCHED = Token(MINT, MINT, 6)


class FlatCurve:
    """Pays so many lamports for everything."""

    def __init__(self, pays: int) -> None:
        self.venue, self.pool, self._pays = "raydium", "p", pays

    def amount_out(self, amount_in: int, sells_base: bool) -> int:
        assert (amount_in, sells_base) == (7_000, True)
        return self._pays

    def after(self, amount_in: int, sells_base: bool) -> Curve:
        return self


class ScriptedMarket:
    """`MarketData` with these curves of every pair."""

    def __init__(self, *pays: int) -> None:
        self._curves = tuple(FlatCurve(each) for each in pays)

    async def read(self, pair: Pair) -> Tick | None:
        assert pair == Pair(LAUNCHED, SOL)
        return Tick(pair, 1, NOW_US, self._curves) if self._curves else None


class ScriptedStore:
    """`TriggerStore` of these launches."""

    def __init__(self, *records: LaunchRecord) -> None:
        self._records = records
        self.asked: list[tuple[int, int | None, str | None]] = []

    async def launches(self, limit: int, before_us: int | None, mint: str | None) -> list[LaunchRecord]:
        self.asked.append((limit, before_us, mint))
        return list(self._records[:limit])


def record(reference_out: int = 7_000) -> LaunchRecord:
    launch = Launch(
        token=LAUNCHED,
        name="Dog in a Hat",
        ticker="HAT",
        venue="raydium",
        pool="9wFF",
        quote=SOL,
        liquidity=12_500_000_000,
        mint_authority_revoked=True,
        freeze_authority_revoked=False,
        lp_burnt_bps=9_000,
        lp_locked_bps=500,
        top_holders_bps=1_200,
        creator="4Nd1",
        listed_us=NOW_US - 2_000_000,
        slot=77,
    )
    checks = judge(STANDARD_FILTERS, launch, NOW_US)
    verdict = FilterSetVerdict(STANDARD_FILTERS, 0, passed=False, checks=checks)
    return LaunchRecord(launch, NOW_US, (verdict,), 2, 1_000_000_000, reference_out)


async def ask(query: str, store: ScriptedStore, market: ScriptedMarket) -> httpx.Response:
    async with doors(ScriptedEngine(), store, market) as client:  # type: ignore[arg-type] # only what is asked
        return await client.get(f"/api/launches{query}")


async def test_a_launch_shows_what_was_measured_and_why_it_was_refused() -> None:
    answer = await ask("", ScriptedStore(record()), ScriptedMarket(900_000_000, 1_234_567_890))
    [launch] = answer.json()["data"]
    assert launch["mint"] == MINT
    assert (launch["ticker"], launch["quote"], launch["migratedFrom"], launch["boughtBy"]) == ("HAT", "SOL", None, 2)
    assert launch["listedAt"] == "2026-11-18T11:06:38.000Z"
    assert launch["measured"]["liquidity"] == "12.5"
    assert launch["measured"]["lpBurntBps"] == 9_000
    [standard] = launch["verdicts"]
    assert (standard["orders"], standard["passed"]) == (0, False)
    failed = [check for check in standard["checks"] if not check["passed"]]
    assert failed == [
        {"filter": "minLiquidity", "wanted": "20", "measured": "12.5", "passed": False},
        {"filter": "freezeAuthorityRevoked", "wanted": "true", "measured": "false", "passed": False},
    ]
    assert launch["sinceListed"] == {"paid": "1", "worthNow": "1.23456789", "changePercent": 23.45}


@pytest.mark.parametrize(("pays", "bought"), [((), 7_000), ((1_000,), 0)])
async def test_without_a_price_or_a_purchase_nothing_is_reckoned(pays: tuple[int, ...], bought: int) -> None:
    answer = await ask("", ScriptedStore(record(bought)), ScriptedMarket(*pays))
    assert answer.json()["data"][0]["sinceListed"] is None


async def test_a_loss_is_below_zero_and_rounded_down() -> None:
    answer = await ask("", ScriptedStore(record()), ScriptedMarket(1))
    assert answer.json()["data"][0]["sinceListed"]["changePercent"] == -100


async def test_a_full_page_says_where_the_next_one_begins() -> None:
    store = ScriptedStore(record(), record())
    assert (await ask("?limit=2", store, ScriptedMarket())).json()["nextCursor"] == str(NOW_US)
    assert (await ask("?limit=3", store, ScriptedMarket())).json()["nextCursor"] is None
    await ask(f"?limit=2&cursor={NOW_US}&mint={MINT}", store, ScriptedMarket())
    assert store.asked[-1] == (2, NOW_US, MINT)


@pytest.mark.parametrize(("query", "named"), [("?limit=0", "limit"), ("?cursor=x", "cursor"), ("?mint=HAT", "mint")])
async def test_bad_parameters_are_named(query: str, named: str) -> None:
    answer = await ask(query, ScriptedStore(), ScriptedMarket())
    assert answer.status_code == 422
    assert [each["parameter"] for each in answer.json()["errors"]] == [named]


async def test_an_engine_that_follows_no_launches_says_so() -> None:
    async with doors(ScriptedEngine()) as client:
        answer = await client.get("/api/launches")
    assert answer.status_code == 404
    assert "does not follow launches" in answer.json()["detail"]
