"""What can go wrong in the world, each on the real server: every order ends as it should, and never twice.

After each test `check_ledger` compares log, projection, chain and wallet to the base unit.
"""

import asyncio
import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from bestex.ambient import SystemClock, SystemIds
from bestex.domain.events import SignedTransaction
from bestex.domain.order_state import fold
from bestex.domain.orders import Order
from bestex.domain.route import Fill
from bestex.domain.terms import Kind
from bestex.domain.tokens import load_tokens
from bestex.engine.decision import expiry_is_proven
from bestex.engine.landing import Landing, LandingLimits
from bestex.engine.order_log import OrderLog
from bestex.journal.memory import MemoryDatabase, MemoryJournal
from bestex.ports import BlockHeight, Commitment, StatusReport, TransactionStatus
from tests.support.clock import FakeClock
from tests.support.engine import Json, Served, check_ledger, check_updates, count_of, serving, until
from tests.support.orders import EPOCH, HAPPY, DraftOrder

Serve = Callable[..., AbstractContextManager[Served]]


@pytest.fixture
def serve(database_url: str) -> Iterator[Serve]:
    """Start the engine on the test's own database; everything is compared when it has stopped."""

    @contextmanager
    def start(**settings: Any) -> Iterator[Served]:
        with serving(DATABASE_URL=database_url, **settings) as engine:
            yield engine
            killed = engine.process.poll() is not None
        check_ledger(database_url, all_ended=not killed)

    yield start  # noqa: PT022 - reads as what it is


def story_of(engine: Served, order_id: str) -> list[Json]:
    """The updates of an ended order, checked, with its attempts complete."""
    updates = engine.history(order_id)
    check_updates(updates)
    last = updates[-1]
    given_up = [update["detail"]["previous"] for update in updates if "previous" in update["detail"]]
    if last["status"] == "failed":
        attempts = last["detail"]["attempts"]
        assert attempts[: len(given_up)] == given_up
        assert len(attempts) == len(given_up) + 1
        assert (attempts[-1]["code"], attempts[-1]["message"]) == (last["detail"]["code"], last["detail"]["message"])
        given_up = attempts
    else:
        assert len(given_up) == last["attempt"] - 1
    assert [attempt["attempt"] for attempt in given_up] == list(range(1, len(given_up) + 1))
    assert all(attempt["message"] for attempt in given_up)
    receipt = {attempt["attempt"]: attempt for attempt in engine.receipt(order_id)["attempts"]}
    assert receipt.keys() == set(range(1, last["attempt"] + 1))
    for attempt in given_up:
        told = {"code": attempt["code"], "message": attempt["message"]}
        assert receipt[attempt["attempt"]]["outcome"] == told
        assert receipt[attempt["attempt"]].get("signature") == attempt.get("signature")
    return updates


def failure(engine: Served, **order: Any) -> Json:
    """The failure of an order that fails."""
    order_id = engine.order(**order)
    view = engine.until(order_id)
    assert view["status"] == "failed", view
    story_of(engine, order_id)
    failed: Json = view["failure"]
    return failed


def confirmation(engine: Served, **order: Any) -> Json:
    """The view of an order that is confirmed."""
    order_id = engine.order(**order)
    view = engine.until(order_id)
    assert view["status"] == "confirmed", view
    story_of(engine, order_id)
    return view


# --- Quotes


@pytest.mark.parametrize(("down", "up"), [("raydium", "meteora"), ("meteora", "raydium")])
def test_with_one_venue_down_the_order_fills_on_the_other_and_the_receipt_says_why(
    serve: Serve, down: str, up: str
) -> None:
    with serve(SIM_FAULTS=f"{down}_down=1") as engine:
        view = confirmation(engine)
        assert (view["venue"], view["attempt"]) == (up, 1)
        [attempt] = engine.receipt(view["orderId"])["attempts"]
        quotes = {quote["venue"]: quote for quote in attempt["quotes"]}
        assert quotes[down]["error"] == "venue_down"
        assert "down" in quotes[down]["reason"]
        assert quotes[up]["chosen"] is True


def test_a_venue_that_never_answers_delays_no_order_and_the_receipt_says_so(serve: Serve) -> None:
    """Each quote times out half the time: orders with one answer fill at once, those without are tried again."""
    with serve(SIM_FAULTS="quote_timeout=0.5,quote_timeout_s=600", QUOTE_TIMEOUT_MS=150, QUOTE_GRACE_MS=50) as engine:
        timed_out = 0
        for order_id in [engine.order() for _ in range(40)]:
            view = engine.until(order_id)
            assert view["status"] == "confirmed" or view["failure"]["code"] == "quote_timeout"
            updates = story_of(engine, order_id)
            for attempt in engine.receipt(order_id)["attempts"]:
                quotes = {quote.get("error", "quoted") for quote in attempt["quotes"]}
                if "outcome" in attempt:
                    assert quotes == {"quote_timeout"}
                elif "quote_timeout" in quotes:
                    timed_out += 1
                    [late] = [quote for quote in attempt["quotes"] if quote.get("error")]
                    assert "did not answer" in late["reason"]
                    assert late["latencyMs"] < 500
            assert updates[-1]["attempt"] <= 3
        assert timed_out > 5


@pytest.mark.parametrize(("fault", "code"), [("quote_timeout=1", "quote_timeout"), ("venue_down=1", "venue_down")])
def test_with_no_quote_at_all_an_order_fails_after_three_attempts(serve: Serve, fault: str, code: str) -> None:
    with serve(SIM_FAULTS=fault, QUOTE_TIMEOUT_MS=50) as engine:
        failed = failure(engine)
        assert failed["code"] == code
        assert [attempt["code"] for attempt in failed["attempts"]] == [code] * 3
        for attempt in failed["attempts"]:
            assert {quote["venue"] for quote in attempt["quotes"]} == {"raydium", "meteora"}
            assert {quote["error"] for quote in attempt["quotes"]} == {code}
            assert "signature" not in attempt
        statuses = [
            update["status"] for update in engine.history(engine.http.get("/api/orders").json()["data"][0]["orderId"])
        ]
        assert statuses == ["pending", "routing", "routing", "routing", "failed"]


@pytest.mark.parametrize("attempts", [1, 2])
def test_the_number_of_attempts_is_a_setting(serve: Serve, attempts: int) -> None:
    with serve(SIM_FAULTS="venue_down=1", RETRY_ATTEMPTS=attempts) as engine:
        assert len(failure(engine)["attempts"]) == attempts


def test_attempts_are_paused_between_ever_longer(serve: Serve) -> None:
    with serve(SIM_FAULTS="venue_down=1", RETRY_BASE_MS=100, RETRY_FACTOR=3, RETRY_JITTER=0.2) as engine:
        order_id = engine.order()
        engine.until(order_id)
        attempts = engine.receipt(order_id)["attempts"]
        first, second = (attempt["latencyMs"]["pause"] for attempt in attempts[1:])
        assert 90 <= first <= 110
        assert 270 <= second <= 330
        times = [datetime.fromisoformat(update["timestamp"]) for update in story_of(engine, order_id)[1:]]
        assert (times[1] - times[0]).total_seconds() * 1000 >= first - 1
        assert (times[2] - times[1]).total_seconds() * 1000 >= second - 1


def test_a_fault_that_passes_is_outlived(serve: Serve) -> None:
    with serve(SIM_FAULTS="venue_down=1", RETRY_BASE_MS=300) as engine:
        order_id = engine.order()
        engine.until(order_id, "routing")
        engine.faults(venue_down=0)
        view = engine.until(order_id)
        assert (view["status"], view["attempt"]) == ("confirmed", 2)
        updates = story_of(engine, order_id)
        assert [update["status"] for update in updates] == [
            "pending", "routing", "routing", "building", "submitted", "confirmed"
        ]  # fmt: skip
        assert updates[2]["detail"]["reason"].startswith("venue_down")


def test_a_pair_without_pools_has_no_route_and_is_not_tried_again(serve: Serve, tmp_path: Path) -> None:
    extra = {"symbol": "NEW", "mint": "11111111111111111111111111111112", "decimals": 6}
    tokens = [{"symbol": each.symbol, "mint": each.mint, "decimals": each.decimals} for each in load_tokens()]
    registry = tmp_path / "tokens.json"
    registry.write_text(json.dumps([*tokens, extra]))
    with serve(TOKENS_FILE=registry) as engine:
        failed = failure(engine, tokenOut="NEW")
        assert failed["code"] == "no_route"
        [attempt] = failed["attempts"]
        assert {quote["error"] for quote in attempt["quotes"]} == {"no_route"}
        confirmation(engine)


def test_a_token_that_left_the_registry_ends_its_open_orders(serve: Serve, tmp_path: Path) -> None:
    with serve(SIM_FAULTS="quote_timeout=1", QUOTE_TIMEOUT_MS=60_000) as engine:
        lost, kept = engine.order(tokenIn="WIF", amount="1"), engine.order()
        for order_id in (lost, kept):
            engine.until(order_id, "routing")
        engine.kill()
    registry = tmp_path / "tokens.json"
    tokens = [{"symbol": each.symbol, "mint": each.mint, "decimals": each.decimals} for each in load_tokens()]
    registry.write_text(json.dumps([token for token in tokens if token["symbol"] != "WIF"]))
    with serve(TOKENS_FILE=registry) as engine:
        view = engine.until(lost)
        assert (view["status"], view["failure"]["code"]) == ("failed", "unknown_token")
        assert engine.until(kept)["status"] == "confirmed"


# --- Building and landing


def test_slippage_found_before_sending_costs_nothing_and_is_tried_again(serve: Serve) -> None:
    with serve(SIM_FAULTS="price_jump=1,price_jump_bps=500") as engine:
        codes = []
        for order_id in [engine.order(amount="1") for _ in range(10)]:
            view = engine.until(order_id)
            updates = story_of(engine, order_id)
            assert view["status"] == "failed"
            codes += [attempt["code"] for attempt in view["failure"]["attempts"]]
            signed = [update["detail"]["signature"] for update in updates if update["status"] == "submitted"]
            told = [attempt["signature"] for attempt in view["failure"]["attempts"] if "signature" in attempt]
            assert signed == told
            assert len(set(signed)) == len(signed)
        assert set(codes) == {"slippage_exceeded"}
        assert len(codes) == 30


def test_a_wider_limit_takes_the_jump(serve: Serve) -> None:
    with serve(SIM_FAULTS="price_jump=1,price_jump_bps=100") as engine:
        view = confirmation(engine, slippageBps=300)
        fill = engine.receipt(view["orderId"])["attempts"][-1]["fill"]
        assert 50 < fill["slippageBps"] <= 300


def test_a_lost_transaction_is_sent_again_under_a_new_signature_once_its_blockhash_expired(serve: Serve) -> None:
    with serve(SIM_FAULTS="dropped=1") as engine:
        order_id = engine.order()
        engine.until(order_id, "submitted")
        first = engine.view(order_id)["txHash"]
        while engine.view(order_id).get("txHash") == first:
            pass  # its blockhash lives for 150 blocks of 4 ms
        engine.faults(dropped=0)
        view = engine.until(order_id)
        assert view["status"] == "confirmed"
        updates = story_of(engine, order_id)
        previous = [update["detail"]["previous"] for update in updates if "previous" in update["detail"]]
        assert previous[0]["code"] == "blockhash_expired"
        assert previous[0]["signature"] == first != view["txHash"]
        assert previous[0]["venue"]


def test_transactions_that_are_always_lost_fail_the_order_after_three_signatures(serve: Serve) -> None:
    with serve(SIM_FAULTS="dropped=1") as engine:
        before = engine.balances()
        failed = failure(engine)
        assert [attempt["code"] for attempt in failed["attempts"]] == ["blockhash_expired"] * 3
        assert len({attempt["signature"] for attempt in failed["attempts"]}) == 3
        assert engine.balances() == before


@pytest.mark.parametrize(
    ("token_in", "amount"),
    [("SOL", "1000000"), ("SOL", "2000000"), ("USDC", "150000000.000001"), ("BONK", "7500000000000.00001")],
)
def test_funds_that_do_not_suffice_fail_at_once(serve: Serve, token_in: str, amount: str) -> None:
    with serve() as engine:
        before = engine.balances()
        failed = failure(engine, tokenIn=token_in, tokenOut="USDT", amount=amount, slippageBps=10_000)
        assert failed["code"] == "insufficient_funds"
        assert len(failed["attempts"]) == 1
        assert token_in in failed["message"]
        assert engine.balances() == before


def test_orders_that_together_exceed_the_wallet_take_no_more_than_it_holds(serve: Serve) -> None:
    with serve() as engine:
        views = [
            engine.until(order_id) for order_id in [engine.order(amount="90000", slippageBps=9_000) for _ in range(30)]
        ]
        codes = {view["failure"]["code"] for view in views if view["status"] == "failed"}
        confirmed = [view for view in views if view["status"] == "confirmed"]
        assert codes <= {"insufficient_funds", "slippage_exceeded", "no_route"}
        assert 1 <= len(confirmed) <= 11
        assert engine.balances()["SOL"] >= 0


# --- The chain misbehaves


def many(engine: Served, orders: int = 60) -> dict[str, int]:
    """Enter many orders, and count the statuses they end with."""
    statuses: dict[str, int] = {}
    for order_id in [engine.order(amount="0.05") for _ in range(orders)]:
        view = engine.until(order_id)
        statuses[view["status"]] = statuses.get(view["status"], 0) + 1
    return statuses


@pytest.mark.parametrize("fault", ["send_error_before", "send_error_after"])
def test_a_send_whose_outcome_is_unknown_is_executed_once(serve: Serve, fault: str) -> None:
    with serve(SIM_FAULTS=f"{fault}=0.5", SIM_SLOT_MS=20) as engine:  # a blockhash lives for 3 s
        assert many(engine) == {"confirmed": 60}
        if fault == "send_error_after":
            assert {view["attempt"] for view in engine.http.get("/api/orders?limit=60").json()["data"]} == {1}


def test_a_send_that_always_breaks_after_the_chain_took_it_is_executed_once(serve: Serve) -> None:
    with serve(SIM_FAULTS="send_error_after=1") as engine:
        view = confirmation(engine)
        assert view["attempt"] == 1


EVERYTHING = (
    "quote_timeout=0.1,quote_timeout_s=0.05,venue_down=0.1,send_error_before=0.2,send_error_after=0.2,dropped=0.1,"
    "late_landing=0.2,lost_status=0.2,lagging_node=0.2,pruned_history=0.1,dying_fork_error=0.1,price_jump=0.1,"
    "chain_unreachable=0.005,chain_unreachable_s=0.2"
)
FAULTS = [
    "late_landing=0.8",
    "lost_status=0.8",
    "lost_status=1,late_landing=0.5",
    "dropped=0.5",
    "lagging_node=0.5",
    "lagging_node=0.7,dropped=0.4,late_landing=0.5",
    "pruned_history=0.5",
    "pruned_history=0.8,pruned_history_slots=8,late_landing=0.4,dropped=0.3",
    "dying_fork_error=0.5",
    "dying_fork_error=0.4,lagging_node=0.4,late_landing=0.4",
    "chain_unreachable=0.02,chain_unreachable_s=0.3",
    "price_jump=0.3,late_landing=0.3",
    EVERYTHING,
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault[:50])
def test_whatever_the_chain_does_an_order_is_executed_once_or_proven_not_to_be(serve: Serve, fault: str) -> None:
    with serve(SIM_FAULTS=fault, QUOTE_TIMEOUT_MS=200) as engine:
        statuses = many(engine, 30)
        assert sum(statuses.values()) == 30
        assert statuses.keys() <= {"confirmed", "failed"}
        assert statuses["confirmed"] >= 10
        for view in engine.http.get("/api/orders?limit=30").json()["data"]:
            story_of(engine, view["orderId"])


def test_an_error_on_a_fork_that_dies_proves_nothing(serve: Serve) -> None:
    """Such an error is never `finalized`: no attempt may be given up because of it before the proof."""
    with serve(SIM_FAULTS="dying_fork_error=1") as engine:
        order_id = engine.order()
        view = engine.until(order_id)
        for update in story_of(engine, order_id):
            previous = update["detail"].get("previous")
            if previous:
                assert previous["code"] == "blockhash_expired"
        assert view["status"] in ("confirmed", "failed")


def test_while_the_chain_is_unreachable_an_order_stays_submitted_and_then_is_confirmed(serve: Serve) -> None:
    with serve(SIM_FAULTS="lost_status=1,late_landing=1,late_landing_slots=150", SIM_SLOT_MS=20) as engine:
        order_id = engine.order()
        engine.until(order_id, "submitted")
        engine.faults(chain_unreachable=1, chain_unreachable_s=1.5)
        while "landing.chain_unreachable" not in engine.log:
            assert engine.view(order_id)["status"] == "submitted"
        engine.faults(chain_unreachable=0, late_landing=0, lost_status=0)
        view = engine.until(order_id)
        assert view["status"] == "confirmed"
        story_of(engine, order_id)


def test_a_chain_that_is_gone_when_orders_come_fails_them_without_a_signature(serve: Serve) -> None:
    with serve(SIM_FAULTS="chain_unreachable=1,chain_unreachable_s=1000") as engine:
        failed = failure(engine)
        assert failed["code"] == "venue_down"
        assert all("signature" not in attempt for attempt in failed["attempts"])


def test_finalized_errors_are_charged_their_fee_and_nothing_else(serve: Serve, database_url: str) -> None:
    """Prices that jump just before landing: the chain executes with an error, which costs the fee."""
    with serve(SIM_FAULTS="price_jump=1,price_jump_bps=500") as engine:
        before = engine.balances()
        for _ in range(5):
            failure(engine, amount="1")
        after = engine.balances()
        errors = count_of(database_url, "select count(*) from sim.transactions where error = 'slippage_exceeded'")
        assert errors > 0
        assert before["SOL"] - after["SOL"] == errors * Decimal("0.000015")
        assert before["USDC"] == after["USDC"]


# --- The proof, clause by clause


TRANSACTION = SignedTransaction("5ignature", b"raw", "b1ockhash", blockhash_slot=1_000, last_valid_block_height=1_100)
HEIGHT = BlockHeight("a node", height=1_101, slot=1_200)
REPORT = StatusReport("a node", slot=1_240, finalized_slot=1_200, history_from_slot=1_000, statuses=(None,))


@pytest.mark.parametrize(
    ("height", "report", "proven"),
    [
        ({}, {}, True),
        ({"height": 1_100}, {}, False),  # it may still land in the block of the last valid height
        ({}, {"endpoint": "another node"}, False),
        ({}, {"finalized_slot": 1_199}, False),  # looked up before what showed the expiry was final there
        ({}, {"history_from_slot": 1_001}, False),  # it may have landed in the part that was pruned
        ({}, {"history_from_slot": 0}, True),
    ],
    ids=str,
)
def test_each_clause_of_the_proof_of_expiry_is_needed(height: Json, report: Json, proven: bool) -> None:
    found = expiry_is_proven(TRANSACTION, replace(REPORT, **report), replace(HEIGHT, **height))
    assert found is proven


class SlowChain:
    """A chain that knows the transaction as confirmed, and takes its time to say what it did."""

    def __init__(self) -> None:
        self.asked = 0
        self.answer = asyncio.Event()
        self.hint: Callable[[Sequence[str]], None] = lambda _: None

    def send_at_once(self, _: SignedTransaction) -> bool:
        return True

    async def send(self, _: SignedTransaction) -> None:
        pass

    async def statuses(self, signatures: Sequence[str]) -> StatusReport:
        return replace(REPORT, statuses=tuple(TransactionStatus(1_050, Commitment.CONFIRMED) for _ in signatures))

    async def finalized_height(self) -> BlockHeight:
        return HEIGHT

    async def fills(self, signatures: Sequence[str]) -> list[Fill | None]:
        self.asked += 1
        await self.answer.wait()
        return [Fill(1_500_000_000, 151_000_000, 15_000) for _ in signatures]

    def on_status(self, listener: Callable[[Sequence[str]], None]) -> None:
        self.hint = listener


async def test_two_looks_at_once_confirm_an_order_once() -> None:
    """A hint and the regular look both find it; the chain answers both with what it did."""
    clock, chain, journal = FakeClock(), SlowChain(), MemoryJournal(MemoryDatabase(), str(uuid.uuid4()), SystemClock())
    draft = DraftOrder()
    refolded: list[str] = []
    landing = Landing(
        chain, clock, SystemIds(), LandingLimits(), lambda *_: None, refolded.append, lambda *_: None, lambda _: None
    )
    with capture_logs() as logs:
        await _confirm_while_two_look(landing, chain, clock, journal, draft)
    assert [stored.event.status for stored in await journal.events(draft.id)] == list(HAPPY)
    assert not refolded
    assert "landing.defect" not in [entry["event"] for entry in logs]


async def _confirm_while_two_look(
    landing: Landing, chain: SlowChain, clock: FakeClock, journal: MemoryJournal, draft: DraftOrder
) -> None:
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(landing.run()), tasks.create_task(journal.run())]
        for status in HAPPY[:-1]:
            await journal.append(draft.next(status))
        sol, usdc = load_tokens().get("SOL"), load_tokens().get("USDC")
        order = Order(draft.id, Kind.MARKET, sol, usdc, 1_500_000_000, 50, draft.events[0].at_us)
        log = OrderLog(journal, clock, order, fold(draft.events), EPOCH)
        log.transaction = TRANSACTION
        landing.resume(log)
        while chain.asked < 2:
            await clock.advance(0.5)
        chain.answer.set()
        await until(lambda: _has_ended(journal, draft.id))
        await clock.advance(2)
        assert not any(task.done() for task in running)
        for task in running:
            task.cancel()


async def _has_ended(journal: MemoryJournal, order_id: str) -> bool:
    return len(await journal.events(order_id)) == len(HAPPY)
