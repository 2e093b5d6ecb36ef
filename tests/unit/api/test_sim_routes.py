"""The doors of the simulated world: prices that are moved, tokens that are launched, pools that move."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from bestex.ambient import SystemClock
from bestex.api.market import MarketReader
from bestex.domain.tokens import pair_of
from bestex.routing.router import QuoteLimits, Router
from tests.support.simnet import open_served, until
from tests.support.simulation import World, open_world
from tests.unit.api.doors import ScriptedEngine, doors


@pytest.fixture(name="world")
async def running_world() -> AsyncIterator[World]:
    world = await open_world(profile="instant")
    world.start()
    yield world
    await world.close()


@pytest.fixture(name="http")
async def client(world: World) -> AsyncIterator[httpx.AsyncClient]:
    router = Router(world.world.venues, world.clock, QuoteLimits())
    market = MarketReader(router, world.registry, world.world.wallet, world.world.control)
    async with doors(ScriptedEngine(), market=market) as http:
        yield http


async def launched(http: httpx.AsyncClient, **wish: object) -> dict[str, Any]:
    answer = await http.post("/api/sim/launch", json=wish)
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


def price(world: World, base: str) -> float:
    pair = pair_of(world.registry.get(base), world.registry.get("SOL"))
    tick = world.world.market_data.latest(pair)
    assert tick is not None
    return tick.curves[0].amount_out(10**9, True)


async def test_a_moved_price_is_answered_and_holds(http: httpx.AsyncClient, world: World) -> None:
    before = price(world, "BONK")
    answer = await http.post("/api/sim/price", json={"pair": "BONK/SOL", "percent": "-20.5"})
    assert (answer.status_code, answer.json()) == (200, {"pair": "BONK/SOL", "percent": -20.5})
    assert price(world, "BONK") == pytest.approx(before * 0.795, rel=1e-3)


async def test_a_launch_is_answered_as_wished_and_its_token_is_traded_and_moved(
    http: httpx.AsyncClient, world: World
) -> None:
    body = await launched(
        http,
        ticker="WISH",
        venue="meteora",
        liquidity=12.5,
        mintAuthorityRevoked=False,
        freezeAuthorityRevoked=True,
        lpBurntBps=100,
        lpLockedBps=200,
        topHoldersBps=300,
        driftBpsPerMinute=0,
    )
    assert (body["ticker"], body["venue"], body["quote"], body["migratedFrom"]) == ("WISH", "meteora", "SOL", None)
    measured = {name: value for name, value in body["measured"].items() if name != "creator"}
    assert measured == {
        "liquidity": "12.5",
        "mintAuthorityRevoked": False,
        "freezeAuthorityRevoked": True,
        "lpBurntBps": 100,
        "lpLockedBps": 200,
        "topHoldersBps": 300,
    }
    mint = body["mint"]
    quotes = await http.get("/api/quotes", params={"tokenIn": "SOL", "tokenOut": mint, "amount": "0.5"})
    assert quotes.json()["best"] == "meteora"
    before = price(world, mint)
    assert (await http.post("/api/sim/price", json={"pair": f"{mint}/SOL", "percent": 100})).status_code == 200
    assert price(world, mint) == pytest.approx(2 * before, rel=0.01)


async def test_a_pool_migrates_and_a_bought_token_stands_in_the_wallet_by_its_mint(
    http: httpx.AsyncClient, world: World
) -> None:
    body = await launched(http, venue="raydium", liquidity="50", driftBpsPerMinute=0)
    token = world.registry.get(body["mint"])
    world.tokens = world.registry
    transaction = await world.built("SOL", token.mint, "1", venue="raydium")
    await world.world.chain.send(transaction)
    await world.until_known(transaction.signature)
    wallet = (await http.get("/api/wallet")).json()
    [held] = [each for each in wallet["balances"] if each["mint"] == token.mint]
    assert held["symbol"] is None
    assert 10**7 < float(held["amount"]) < 2 * 10**7, "in token units"
    moved = await http.post("/api/sim/migrate", json={"mint": token.mint})
    assert moved.status_code == 200
    assert (moved.json()["venue"], moved.json()["migratedFrom"]) == ("meteora", "raydium")


@pytest.mark.parametrize(
    ("path", "body", "pointers"),
    [
        ("price", {}, ["/pair", "/percent"]),
        ("price", {"pair": "SOL", "percent": 1}, ["/pair"]),
        ("price", {"pair": "SOL/XYZ", "percent": 1}, ["/pair"]),
        ("price", {"pair": "SOL/SOL", "percent": 1}, ["/pair"]),
        ("price", {"pair": "USDC/SOL", "percent": 1}, ["/pair"]),
        ("price", {"pair": "SOL/USDC", "percent": -100}, ["/percent"]),
        ("price", {"pair": "SOL/USDC", "percent": "1e9"}, ["/percent"]),
        ("price", {"pair": "SOL/USDC", "percent": True}, ["/percent"]),
        ("price", {"pair": "SOL/USDC", "percent": 9_900.1, "more": 1}, ["/more", "/percent"]),
        ("launch", {"venue": "orca", "ticker": "", "liquidity": 0}, ["/liquidity", "/ticker", "/venue"]),
        ("launch", {"liquidity": "1000001"}, ["/liquidity"]),
        ("launch", {"liquidity": None}, ["/liquidity"]),
        ("launch", {"mintAuthorityRevoked": "yes", "freezeAuthorityRevoked": 1}, None),
        ("launch", {"lpBurntBps": 9_000, "lpLockedBps": 1_001}, ["/lpLockedBps"]),
        ("launch", {"lpBurntBps": 10_001, "topHoldersBps": -1}, ["/lpBurntBps", "/topHoldersBps"]),
        ("launch", {"creator": "me", "driftBpsPerMinute": 5_001}, ["/creator", "/driftBpsPerMinute"]),
        ("launch", {"colour": "red"}, ["/colour"]),
        ("migrate", {}, ["/mint"]),
        ("migrate", {"mint": "me"}, ["/mint"]),
        ("migrate", {"mint": "So11111111111111111111111111111111111111112"}, ["/mint"]),
    ],
)
async def test_what_is_bad_is_named_and_nothing_happens(
    http: httpx.AsyncClient, world: World, path: str, body: dict[str, object], pointers: list[str] | None
) -> None:
    before = price(world, "BONK")
    answer = await http.post(f"/api/sim/{path}", json=body)
    assert answer.status_code == 422
    problem = answer.json()
    assert problem["type"] == "/problems/validation"
    expected = pointers or sorted(f"/{name}" for name in body)
    assert sorted(error["pointer"] for error in problem["errors"]) == expected
    assert price(world, "BONK") == before
    assert await world.world.market_data.launches(0, 10) == []


async def test_a_price_that_was_moved_far_already_is_moved_no_further(http: httpx.AsyncClient) -> None:
    for _ in range(2):
        assert (await http.post("/api/sim/price", json={"pair": "WIF/SOL", "percent": 900})).status_code == 200
    answer = await http.post("/api/sim/price", json={"pair": "WIF/SOL", "percent": 1})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/percent"
    assert "a reset takes them back" in answer.json()["errors"][0]["detail"]


async def test_a_world_of_another_process_that_cannot_be_reached_is_said_to_be_away() -> None:
    world = await open_served(profile="instant")
    router = Router(world.remote.venues, SystemClock(), QuoteLimits())
    market = MarketReader(router, world.known, world.remote.wallet, world.remote.control)
    async with doors(ScriptedEngine(), market=market) as http:
        assert (await http.get("/api/sim")).status_code == 200
        await world.stop_serving()
        await until(lambda: not world.remote.is_connected)
        for method, path, body in (
            ("GET", "/api/wallet", None),
            ("GET", "/api/sim", None),
            ("POST", "/api/sim/price", {"pair": "BONK/SOL", "percent": "1"}),
            ("POST", "/api/sim/launch", {}),
        ):
            answer = await http.request(method, path, json=body)
            assert answer.status_code == 503, answer.text
            assert answer.json()["type"].endswith("chain-unreachable")
    await world.close()


async def test_a_client_that_goes_in_the_middle_of_its_body_is_no_defect(http: httpx.AsyncClient) -> None:
    transport = http._transport
    assert isinstance(transport, httpx.ASGITransport)
    app, received = transport.app, iter([{"type": "http.request", "body": b"{", "more_body": True}])

    async def torn(scope: Any, _: Any, send: Any) -> None:
        async def receive() -> dict[str, Any]:
            return next(received, {"type": "http.disconnect"})

        await app(scope, receive, send)

    transport.app = torn
    with capture_logs() as said:
        await http.post("/api/sim/price", json={"pair": "BONK/SOL", "percent": "1"})
    assert said == []
