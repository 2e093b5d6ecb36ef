"""The ordeal of the real engine: it finds nothing where nothing is wrong, and what is wrong where something is."""

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from bestex.ambient import SystemClock
from bestex.domain.order_state import OrderView
from bestex.ordeal import LivePlan, Progress, run_live
from bestex.ordeal.checks import check_feed_watchers, check_intents, check_log, check_status_watchers
from bestex.ordeal.clients import Intent
from bestex.ordeal.report import Findings, Tally
from bestex.ordeal.schedule import Blow, blow_counts, schedule
from bestex.ordeal.watchers import FeedWatcher, Logged, StatusWatcher, seen_of
from tests.support.postgres import until
from tests.support.torture import processes_in

NOBODY = ("http://127.0.0.1:9",)
STATUSES = ("pending", "routing", "building", "submitted", "confirmed", "confirmed")


async def test_a_short_ordeal_finds_nothing_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch, data_dir: Path) -> None:
    folder = data_dir / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    told: list[Progress] = []

    report = await run_live(LivePlan(seed=1, seconds=10, kills=3), SystemClock(), told.append)

    assert report.violations == ()
    assert report.kept is None
    assert report.blows == {Blow.KILL: 3, Blow.DATABASE_KILL: 1}
    assert report.orders > 20
    made = report.slices + sum(report.exits_by_end.values())
    assert sum(report.orders_by_end.values()) == sum(report.orders_by_kind.values()) == report.orders + made
    assert len(report.orders_by_kind) > 3
    assert sum(report.firings.values()) > 0
    assert report.world["price moved"] > 0
    assert report.answers["202"] >= report.orders
    assert report.reconnects > 0
    assert report.checks["the feed is the log"] == 2
    assert list(dict.fromkeys(each.phase for each in told)) == [
        "starting", "under fire", "healing", "checking"
    ]  # fmt: skip
    assert list(folder.iterdir()) == []
    assert processes_in(folder) == []


async def test_where_something_is_violated_database_and_log_are_kept(
    monkeypatch: pytest.MonkeyPatch, data_dir: Path
) -> None:
    async def audit(_: Path) -> list[str]:
        return ["order 1 was executed 2 times"]

    monkeypatch.setattr("tempfile.tempdir", str(data_dir))
    monkeypatch.setattr("bestex.ordeal.live.audit", audit)
    plan = LivePlan(seed=1, seconds=1, kills=0, clients=1, orders_max=3)

    report = await run_live(plan, SystemClock(), lambda _: None)

    assert not report.passed
    assert report.violations == ("the audit finds nothing: order 1 was executed 2 times",)
    [folder] = data_dir.iterdir()
    assert report.kept == str(folder)
    assert (folder / "engine.log").is_file()
    assert (folder / "data" / "postgres").is_dir()
    assert processes_in(folder) == []


@pytest.mark.parametrize("moment", ["starting", "under fire"])
async def test_an_ordeal_that_is_broken_off_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, data_dir: Path, moment: str
) -> None:
    folder = data_dir / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    told: list[Progress] = []
    ordeal = asyncio.create_task(run_live(LivePlan(seed=1, seconds=60, kills=60), SystemClock(), told.append))
    await until(lambda: any(each.phase == moment and each.elapsed_s > 1 for each in told) or is_starting(told, moment))
    ordeal.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ordeal
    assert list(folder.iterdir()) == []
    assert processes_in(folder) == []


def is_starting(told: list[Progress], moment: str) -> bool:
    """Whether it has been starting for a moment, so that a database is being made."""
    return moment == "starting" and len(told) > 2


@pytest.mark.parametrize("interruption", [signal.SIGINT, signal.SIGTERM], ids=lambda each: each.name)
def test_an_ordeal_that_is_interrupted_twice_leaves_nothing(data_dir: Path, interruption: signal.Signals) -> None:
    program = """if True:
        import asyncio
        from bestex.ambient import SystemClock
        from bestex.ordeal import LivePlan, run_live
        plan = LivePlan(seed=1, seconds=60, kills=60)
        asyncio.run(run_live(plan, SystemClock(), lambda told: print(told.phase, told.accepted, flush=True)))
    """
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env=os.environ | {"TMPDIR": str(data_dir)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as ordeal:
        assert ordeal.stdout is not None
        assert any(line.startswith("under fire") and not line.endswith(" 0\n") for line in ordeal.stdout)
        for _ in range(2):
            ordeal.send_signal(interruption)
        ordeal.stdout.read()
        assert ordeal.wait() != 0
    assert list(data_dir.iterdir()) == []
    assert processes_in(data_dir) == []


# --- The checks find what is wrong


def update(order_id: str, seq: int) -> dict[str, Any]:
    """Update `seq` of an order that is executed and finalized."""
    detail = {"signature": f"signature of {order_id}"} if STATUSES[seq - 1] == "submitted" else {}
    if STATUSES[seq - 1] == "confirmed":
        detail = {"txHash": f"signature of {order_id}", "commitment": "finalized" if seq == 6 else "confirmed"}
    return {
        "orderId": order_id,
        "status": STATUSES[seq - 1],
        "seq": seq,
        "attempt": 1,
        "timestamp": f"2026-11-22T10:00:00.00{seq}Z",
        "detail": detail,
    }


class Records:
    """What clients and watchers of an engine without defects have: two orders, each watched, and the feed."""

    def __init__(self) -> None:
        self.log = [
            Logged(position, seen_of(update(order_id, seq)))
            for position, (seq, order_id) in enumerate(((seq, each) for seq in range(1, 7) for each in "AB"), start=1)
        ]
        self.views = {order_id: view_of(order_id) for order_id in "AB"}
        self.intents = [
            Intent({}, f"key {order_id}", 0, {order_id}, "2026-11-22T10:00:00.001Z", client_order_id=f"mine {order_id}")
            for order_id in "AB"
        ]
        self.watchers = [StatusWatcher(NOBODY, each, SystemClock(), random.Random(1), Tally()) for each in "AB"]
        for watcher in self.watchers:
            watcher.saw([update(watcher.order_id, seq) for seq in range(1, 6)])
        self.feed = FeedWatcher(NOBODY, SystemClock(), random.Random(1), Tally())
        self.feed.seen = list(self.log)

    def without(self, order_id: str) -> None:
        kept = [event.seen for event in self.log if event.seen.order_id != order_id]
        self.log = [Logged(position, seen) for position, seen in enumerate(kept, start=1)]
        self.feed.seen = list(self.log)
        del self.views[order_id]

    def violations(self) -> list[str]:
        findings = Findings()
        histories = check_log(findings, self.log)
        check_intents(findings, self.intents, histories, self.views)
        check_status_watchers(findings, self.watchers, histories)
        check_feed_watchers(findings, [self.feed], self.log)
        return findings.violations


def view_of(order_id: str) -> OrderView:
    return OrderView(
        order_id=order_id,
        kind="market",
        status="confirmed",
        seq=6,
        attempt=1,
        pair="SOL/USDC",
        side="sell",
        token_in="SOL",
        token_out="USDC",
        amount="1",
        slippage_bps=50,
        created_at="2026-11-22T10:00:00.001Z",
        updated_at="2026-11-22T10:00:00.006Z",
        client_order_id=f"mine {order_id}",
        commitment="finalized",
    )


def test_records_without_a_defect_break_nothing() -> None:
    assert Records().violations() == []


def a_watcher_with_a_gap(records: Records) -> None:
    del records.watchers[0].seen[2]


def a_watcher_that_saw_one_twice(records: Records) -> None:
    records.watchers[0].seen.insert(2, records.watchers[0].seen[2])


def a_watcher_that_saw_what_is_not_in_the_log(records: Records) -> None:
    records.watchers[0].seen[1] = replace(records.watchers[0].seen[1], digest=b"another")


def a_watcher_that_did_not_see_the_end(records: Records) -> None:
    records.watchers[0].seen.pop()
    records.watchers[0].complete = False


def a_feed_with_a_gap(records: Records) -> None:
    del records.feed.seen[4]


def a_feed_that_repeats(records: Records) -> None:
    records.feed.seen.append(records.feed.seen[-1])


def a_lost_order(records: Records) -> None:
    records.without("B")
    records.watchers.pop()


def an_order_of_nobody(records: Records) -> None:
    records.intents.pop()


def an_order_that_never_ends(records: Records) -> None:
    records.log = [event for event in records.log if event.seen.order_id != "B" or event.seen.seq < 4]
    records.log = [Logged(position, event.seen) for position, event in enumerate(records.log, start=1)]
    records.feed.seen = list(records.log)
    records.views["B"] = replace(records.views["B"], status="building", commitment=None)


def an_order_that_is_never_final(records: Records) -> None:
    records.log.pop()  # the last event, which says that B is final
    records.feed.seen.pop()


def a_key_that_made_two_orders(records: Records) -> None:
    records.intents.pop()
    records.intents[0].order_ids.add("B")


def two_keys_of_one_order(records: Records) -> None:
    records.without("B")
    records.watchers.pop()
    records.intents[1].order_ids = {"A"}


def stored_although_the_answer_was_that_nothing_was(records: Records) -> None:
    records.intents[0].may_exist_since_us = 2_000_000_000_000_000


def an_abandoned_order_that_exists(records: Records) -> None:
    records.intents[1].abandoned = True


def a_cancel_that_did_not_hold(records: Records) -> None:
    records.intents[0].cancelled = True


def executed_twice(records: Records) -> None:
    last = records.log[-1]
    records.log[-1] = Logged(last.position, replace(last.seen, signature="another"))
    records.feed.seen = list(records.log)


def one_signature_of_two_orders(records: Records) -> None:
    records.log = [Logged(event.position, replace(event.seen, signature="the same")) for event in records.log]
    records.feed.seen = list(records.log)
    for watcher in records.watchers:
        watcher.seen = [replace(seen, signature="the same") for seen in watcher.seen]


def a_change_that_did_not_hold(records: Records) -> None:
    records.intents[0].change = {"limitPrice": "151"}


def a_gap_in_the_log(records: Records) -> None:
    del records.log[3]
    records.feed.seen = list(records.log)


def a_step_that_the_lifecycle_does_not_allow(records: Records) -> None:
    records.log[4] = Logged(5, replace(records.log[4].seen, status="confirmed"))
    records.feed.seen = list(records.log)


@pytest.mark.parametrize(
    ("break_it", "told"),
    [
        (a_watcher_with_a_gap, "a watcher sees a prefix of the history"),
        (a_watcher_that_saw_one_twice, "a watcher sees a prefix of the history"),
        (a_watcher_that_saw_what_is_not_in_the_log, "a watcher sees a prefix of the history"),
        (a_watcher_that_did_not_see_the_end, "a watcher sees the end"),
        (a_feed_with_a_gap, "the feed is the log"),
        (a_feed_that_repeats, "the feed is the log"),
        (a_lost_order, "an accepted order exists"),
        (an_order_of_nobody, "there are no other orders"),
        (an_order_that_never_ends, "an accepted order ends"),
        (an_order_that_is_never_final, "an ended order settles"),
        (a_key_that_made_two_orders, "a key makes one order"),
        (two_keys_of_one_order, "an order has one key"),
        (stored_although_the_answer_was_that_nothing_was, "nothing stored means nothing stored"),
        (an_abandoned_order_that_exists, "nothing stored means nothing stored"),
        (a_cancel_that_did_not_hold, "a cancel holds"),
        (a_change_that_did_not_hold, "a change holds"),
        (executed_twice, "executed at most once"),
        (one_signature_of_two_orders, "a signature is one order's"),
        (a_gap_in_the_log, "positions are gapless"),
        (a_step_that_the_lifecycle_does_not_allow, "the lifecycle is kept"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_each_defect_is_found_and_told(break_it: Callable[[Records], None], told: str) -> None:
    records = Records()
    break_it(records)
    assert [violation for violation in records.violations() if violation.startswith(f"{told}: ")]


def test_many_violations_of_one_kind_are_counted_not_listed() -> None:
    findings = Findings()
    for number in range(100):
        findings.that("it holds", False, f"not for {number}")
    assert len(findings.violations) == 21
    assert findings.violations[-1] == "it holds: and 80 more"


# --- The schedule


def test_a_seed_gives_one_schedule_with_as_many_kills_as_asked_for_within_the_time() -> None:
    planned = schedule(7, 120, 20)
    assert planned == schedule(7, 120, 20) != schedule(8, 120, 20)
    assert {blow: sum(each.blow is blow for each in planned) for blow in Blow} == blow_counts(20)
    assert all(0 < each.at_s <= 120 for each in planned)
    assert planned == sorted(planned, key=lambda each: each.at_s)


@pytest.mark.parametrize("plan", [{"seconds": 0}, {"kills": 121}, {"kills": -1}, {"clients": 0}, {"seed": -1}], ids=str)
def test_a_plan_that_cannot_be_carried_out_is_refused(plan: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"must|needs"):
        LivePlan(**({"seed": 1} | plan))
