"""Watched orders against the real engine: placed in numbers, and the price that they wait for moved."""

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

from tests.support.engine import PATIENCE_S, POLL_S, Json, Served, count_of

CLIENTS = 4
PAGE = 500
OPEN = "select count(*) from bestex.orders where unfilled is null and status <> 'confirmed'"


def price(engine: Served, token_in: str = "SOL", token_out: str = "USDC", amount: str = "0.25") -> Decimal:
    """What the best venue pays of `token_out` for one `token_in`."""
    query = {"tokenIn": token_in, "tokenOut": token_out, "amount": amount}
    quotes = engine.http.get("/api/quotes", params=query).json()["quotes"]
    return max(Decimal(quote["amountOut"]) for quote in quotes if "amountOut" in quote) / Decimal(amount)


def times(of: Decimal, factor: float) -> str:
    """A price as an order says it."""
    return f"{of * Decimal(str(factor)):.6f}"


def move(engine: Served, percent: float, pair: str = "SOL/USDC") -> None:
    """Have the pair's base token be so much dearer from now on."""
    answer = engine.http.post("/api/sim/price", json={"pair": pair, "percent": percent})
    assert answer.status_code == 200, answer.text


def place(engine: Served, bodies: Iterable[Json]) -> list[str]:
    """Post these orders, several at a time; their ids, in the bodies' order."""
    with ThreadPoolExecutor(CLIENTS) as clients:
        return list(clients.map(lambda body: engine.order(**body), bodies))


def views(engine: Served, **query: str) -> list[Json]:
    """All orders, newest first, as the engine lists them."""
    found: list[Json] = []
    cursor: Json = {}
    while True:
        page = engine.http.get("/api/orders", params={"limit": PAGE, **query, **cursor}).json()
        found += page["data"]
        if page["nextCursor"] is None:
            return found
        cursor = {"cursor": page["nextCursor"]}


def exits_of(engine: Served, entry_id: str) -> Json:
    """The exits of an executed entry."""
    [exits] = views(engine, parentId=entry_id)
    assert exits["kind"] == "exits"
    return exits


def until_all_ended(dsn: str, *, but: int = 0) -> None:
    """Wait until all orders but so many have ended."""
    until_count(dsn, OPEN, but)


def until_count(dsn: str, query: str, count: int, *, at_least: bool = False) -> None:
    """Wait until a query gives such a number."""
    deadline = time.monotonic() + PATIENCE_S
    while (found := count_of(dsn, query)) != count and not (at_least and found > count):
        assert time.monotonic() < deadline, f"{query} gives {found}, not {count}"
        time.sleep(POLL_S)


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(POLL_S)


def firings(history: Sequence[Json]) -> list[Json]:
    """What made the order fire, each time."""
    routed = [update["detail"] for update in history if update["status"] == "routing"]
    return [detail["trigger"] for detail in routed if "trigger" in detail]


def fired_times(dsn: str, times: int) -> int:
    """How many orders fired so many times."""
    query = """
    select count(*) from (
        select count(*) filter (where status = 'routing' and detail::jsonb ? 'trigger') as fired
        from bestex.events group by order_id
    ) as orders where fired = $1
    """
    return count_of(dsn, query, times)
