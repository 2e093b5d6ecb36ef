"""The books of watched orders without an engine around them: memory and time. `python -m bench.books`."""

import os
import random
import sys
import time
from collections.abc import Iterator
from itertools import combinations
from statistics import median
from typing import Final

from rich.console import Console
from rich.table import Table

from bench.processes import memory_bytes
from bestex.ambient import SystemIds
from bestex.domain.launches import Launch, LaunchFilters
from bestex.domain.tokens import WRAPPED_SOL_MINT, Pair, Token, load_tokens
from bestex.engine.triggers.book import Book
from bestex.engine.triggers.resting import entries_of
from bestex.engine.triggers.selection import Firing
from bestex.engine.triggers.snipers import Snipers
from bestex.ports import RestingOrder, Tick
from bestex.venues.meteora.damm_v2 import CollectFeeMode
from bestex.venues.simulated.curves import CpmmCurve, DammCurve

PAIRS: Final = 50
ORDERS_A_BOOK: Final = 20_000
CROSSED: Final = 10_000
TICKS: Final = 200
LAUNCHES: Final = 50
SNIPERS: Final = 10_000
FILTER_SETS: Final = 100
SEED: Final = 4

_SOL: Final = Token("SOL", WRAPPED_SOL_MINT, 9)
_USDC: Final = load_tokens().get("USDC")
_PAIR: Final = Pair(_SOL, _USDC)
_PRICE: Final = 150  # USDC for 1 SOL
_POOL_SOL: Final = 1_000_000  # of each pool


def measure_books() -> dict[str, float]:
    """All figures by name."""
    chance = random.Random(SEED)
    ids = SystemIds()
    return {
        **_measure_load(chance, ids),
        **_measure_idle(chance, ids),
        **_measure_falling(ids),
        **_measure_firing(chance, ids),
        **_measure_launch(chance, ids),
    }


def tick(price: float, at_us: int) -> Tick:
    """Both pools at a price."""
    base = _POOL_SOL * 10**9
    cpmm = CpmmCurve("raydium", "pool-r", base, int(_POOL_SOL * price * 10**6), 2_500)
    root = (price / 1000) ** 0.5  # USDC's base units for SOL's
    damm = DammCurve(
        "meteora", "pool-m", int(base * root * 2**64), int(root * 2**64), 2_000_000, CollectFeeMode.BOTH_TOKEN, True
    )
    return Tick(_PAIR, 1, at_us, (cpmm, damm))


def _measure_load(chance: random.Random, ids: SystemIds) -> dict[str, float]:
    """A million limit orders, read and loaded."""
    tokens = [Token(f"T{number}", str(number), 9) for number in range(11)]
    pairs = [Pair(*each) for each in combinations(tokens, 2)][:PAIRS]
    books = [Book(pair) for pair in pairs]
    before = memory_bytes(os.getpid())
    reading = loading = 0.0
    for book in books:
        for sells_base in (True, False):
            token_in, token_out = (book.pair.base, book.pair.quote) if sells_base else (book.pair.quote, book.pair.base)
            orders = [
                _limit(ids, sells_base, token_in, token_out, chance.uniform(0.5, 1.5), chance.lognormvariate(1, 2))
                for _ in range(ORDERS_A_BOOK // 2)
            ]
            began = time.perf_counter()
            entries = [entries_of(order, token_in, token_out) for order in orders]
            read = time.perf_counter()
            book.load(entries, sells_base=sells_base)
            reading, loading = reading + read - began, loading + time.perf_counter() - read
            del entries, orders
    count = sum(map(len, books))
    return {
        "a resting order in a book, bytes": (memory_bytes(os.getpid()) - before) / count,
        f"{count:,} orders read, s": reading,
        f"{count:,} orders loaded, s": loading,
    }


def _measure_idle(chance: random.Random, ids: SystemIds) -> dict[str, float]:
    """Orders of all sizes close to the price, and ever so many that would cross if they were small."""
    book = Book(_PAIR)
    for number in range(ORDERS_A_BOOK):
        sells_base = number % 2 == 0
        share = min(0.3, chance.lognormvariate(-7, 3))  # of a pool
        needed = 1 + chance.uniform(0.002, 0.1) - (share if number % 4 < 2 else 0)
        price = _PRICE * needed if sells_base else _PRICE / needed
        amount = share * _POOL_SOL * (1 if sells_base else _PRICE)
        order = _limit(ids, sells_base, *((_SOL, _USDC) if sells_base else (_USDC, _SOL)), price, max(amount, 1e-3))
        book.add(entries_of(order, _SOL if sells_base else _USDC, _USDC if sells_base else _SOL), sells_base=sells_base)
    for firing in _all_firings(book):
        book.fired(firing)
        book.settled(firing.entry.order_id)
    times = []
    for number in range(TICKS):
        now = tick(_PRICE * (1 + number % 7 * 1e-9), number)
        began = time.perf_counter()
        fired = book.fires(now, number)
        times.append((time.perf_counter() - began) * 1000)
        for firing in fired:
            book.fired(firing)
            book.settled(firing.entry.order_id)
    times.sort()
    return {
        "idle book, orders": len(book),
        "a tick that fires nothing, p50 ms": median(times),
        "a tick that fires nothing, p99 ms": times[len(times) * 99 // 100],
    }


def _all_firings(book: Book) -> Iterator[Firing]:
    while firings := book.fires(tick(_PRICE, 0), 0):
        yield from firings


def _measure_falling(ids: SystemIds) -> dict[str, float]:
    """Trailing stops that were armed one after the other while the price fell."""
    book = Book(_PAIR)
    times = []
    for number in range(CROSSED):
        order = RestingOrder(ids.order_id(), 2, "trailingStop", "SOL", "USDC", "1.5", trail_bps=9_000)
        book.add(entries_of(order, _SOL, _USDC), sells_base=True, armed_us=number)
        now = tick(_PRICE * (1 - number * 1e-5), number)
        began = time.perf_counter()
        book.fires(now, number)
        times.append((time.perf_counter() - began) * 1000)
    return {f"a tick with {CROSSED:,} trailing stops that all met another price, p50 ms": median(times[-100:])}


def _measure_firing(chance: random.Random, ids: SystemIds) -> dict[str, float]:
    """Limits and stops that all cross at once."""
    figures = {}
    for kind in ("limit", "stop"):
        book = Book(_PAIR)
        for _ in range(2 * CROSSED):
            limit = f"{_PRICE * chance.uniform(1.01, 1.1):.6f}" if kind == "limit" else None
            trigger = f"{_PRICE * chance.uniform(0.9, 0.99):.6f}" if kind == "stop" else None
            amount = f"{chance.lognormvariate(-2, 1):.9f}"
            order = RestingOrder(
                ids.order_id(), 2, kind, "SOL", "USDC", amount, limit_price=limit, trigger_price=trigger
            )
            book.add(entries_of(order, _SOL, _USDC), sells_base=True)
        now = tick(_PRICE * (1.2 if kind == "limit" else 0.8), 0)
        began = time.perf_counter()
        firings = book.fires(now, 0)
        chosen = time.perf_counter()
        for firing in firings:
            book.fired(firing)
        figures[f"{len(firings):,} {kind} orders that fire, chosen, s"] = chosen - began
        figures[f"{len(firings):,} {kind} orders that fire, moved, s"] = time.perf_counter() - chosen
    return figures


def _measure_launch(chance: random.Random, ids: SystemIds) -> dict[str, float]:
    """Snipers of a hundred sets of filters, of which one passes."""
    snipers = Snipers()
    for number in range(SNIPERS):
        number %= FILTER_SETS
        filters = LaunchFilters(
            min_liquidity=str(50 if number == 0 else 1000 + number),
            mint_authority_revoked=True,
            freeze_authority_revoked=True,
            lp_burnt_or_locked=True,
            top_holders_max_bps=3_000,
            creators_denied=("a creator", "another"),
            max_age_seconds=60,
        )
        snipers.add(RestingOrder(ids.order_id(), 2, "sniper", "SOL", "*", "1", filters=filters), _SOL)
    times, matches = [], 0
    for number in range(LAUNCHES):
        launch = Launch(
            token=Token("new", "new", 6), name="New", ticker="NEW", venue="raydium", pool=f"pool-{number}", quote=_SOL,
            liquidity=chance.randrange(100, 900) * 10**9, mint_authority_revoked=True, freeze_authority_revoked=True,
            lp_burnt_bps=10_000, lp_locked_bps=0, top_holders_bps=1_000, creator="somebody", listed_us=0, slot=number,
        )  # fmt: skip
        began = time.perf_counter()
        matches = len(snipers.launched(launch, 1).matches)
        times.append((time.perf_counter() - began) * 1e6)
    return {f"a launch, {len(snipers):,} snipers of whom {matches} match, p50 µs": median(times)}


def _limit(
    ids: SystemIds, sells_base: bool, token_in: Token, token_out: Token, price: float, amount: float
) -> RestingOrder:
    price_text, amount_text = f"{price:.9f}", f"{max(amount, 1e-6):.6f}"
    return RestingOrder(
        ids.order_id(), 2, "limit", token_in.symbol, token_out.symbol, amount_text, limit_price=price_text
    )


def main() -> int:
    table = Table(box=None)
    table.add_column("the books by themselves")
    table.add_column("", justify="right")
    for name, value in measure_books().items():
        table.add_row(name, f"{value:,.3g}" if value < 100 else f"{value:,.0f}")
    Console(width=120).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
