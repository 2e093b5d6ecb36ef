"""What must hold of what clients and watchers saw, compared with the log as it stands in the end. Pure.

- The log's positions are 1, 2, 3 ...; each order's events are numbered 1, 2, 3 ... and follow the lifecycle.
- An order answered with 202 is in the log, with the time that the answer gave, and has ended and settled.
- A key made one order, whatever was answered in between; no two keys share one.
- The log holds no other orders but exits and slices of these: what was answered "nothing was stored" and given up
  does not exist, and an order that was accepted later was not stored by a request of before.
- An order is executed at most once, and no signature stands for two orders. A cancel or a change that was
  answered with 200 holds.
- What a watcher of an order saw is its history, from the first event to the end, without a gap or a repetition.
- What a watcher of the feed saw is the log.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

import msgspec

from bestex.domain.lifecycle import ENDS, IllegalTransitionError, Status, check_transition
from bestex.domain.order_state import OrderView
from bestex.domain.price import format_price, parse_price
from bestex.ordeal.clients import Intent
from bestex.ordeal.report import Findings
from bestex.ordeal.watchers import FeedWatcher, Logged, Seen, StatusWatcher


def check_log(findings: Findings, log: Sequence[Logged]) -> dict[str, list[Seen]]:
    """The log by itself; each order's history."""
    for number, event in enumerate(log, start=1):
        findings.that("positions are gapless", event.position == number, f"{event.position} stands at {number}")
    histories: dict[str, list[Seen]] = defaultdict(list)
    for event in log:
        histories[event.seen.order_id].append(event.seen)
    signers: dict[str, str] = {}
    for order_id, history in histories.items():
        numbers = [seen.seq for seen in history]
        gapless = numbers == list(range(1, len(numbers) + 1))
        findings.that("events are numbered without a gap", gapless, f"order {order_id} has {numbers}")
        findings.that("the lifecycle is kept", _is_legal(history), f"order {order_id}: {_statuses(history)}")
        executed = {seen.signature for seen in history if seen.status == Status.CONFIRMED and seen.signature}
        once = len(executed) <= 1
        findings.that("executed at most once", once, f"order {order_id} by {', '.join(sorted(map(str, executed)))}")
        for signature in {seen.signature for seen in history if seen.signature is not None}:
            holder = signers.setdefault(signature, order_id)
            findings.that(
                "a signature is one order's", holder == order_id, f"{signature} is {holder}'s and {order_id}'s"
            )
    return histories


def check_intents(
    findings: Findings, intents: Sequence[Intent], histories: dict[str, list[Seen]], views: dict[str, OrderView]
) -> None:
    """What clients were told, against what is there."""
    makers: dict[str, str] = {}
    for intent in intents:
        if intent.abandoned:
            continue
        told = ", ".join(sorted(intent.order_ids)) or "none"
        findings.that("a key makes one order", len(intent.order_ids) == 1, f"{intent.name} made {told}")
        for order_id in intent.order_ids:
            maker = makers.setdefault(order_id, intent.name)
            findings.that("an order has one key", maker == intent.name, f"{order_id} is {maker}'s and {intent.name}'s")
            _check_accepted(findings, intent, histories.get(order_id, []), views.get(order_id), order_id)
    for order_id in histories:
        view = views.get(order_id)
        maker_id = view.parent_id if view is not None and view.parent_id is not None else order_id
        findings.that("there are no other orders", maker_id in makers, f"{order_id} was accepted by no answer")
    abandoned = {intent.client_order_id: intent.name for intent in intents if intent.abandoned}
    for view in views.values():
        if view.client_order_id is not None:
            name = abandoned.get(view.client_order_id)
            findings.that("nothing stored means nothing stored", name is None, f"{name} is order {view.order_id}")


def check_status_watchers(
    findings: Findings, watchers: Sequence[StatusWatcher], histories: dict[str, list[Seen]]
) -> None:
    for watcher in watchers:
        history = histories.get(watcher.order_id, [])
        told = f"of order {watcher.order_id} it saw {_statuses(watcher.seen)}, the log has {_statuses(history)}"
        findings.that("a watcher sees a prefix of the history", watcher.seen == history[: len(watcher.seen)], told)
        findings.that("a watcher sees the end", watcher.complete, told)


def check_feed_watchers(findings: Findings, watchers: Sequence[FeedWatcher], log: Sequence[Logged]) -> None:
    for watcher in watchers:
        told = f"it saw {len(watcher.seen)} events, the log has {len(log)}"
        if list(watcher.seen) != list(log):
            pairs = zip(watcher.seen, log, strict=False)
            differs = next((number for number, (saw, has) in enumerate(pairs, start=1) if saw != has), None)
            if differs is not None:
                told = f"event {differs} of it stands at {watcher.seen[differs - 1].position}; {told}"
        findings.that("the feed is the log", list(watcher.seen) == list(log), told)


def _check_accepted(
    findings: Findings, intent: Intent, history: list[Seen], view: OrderView | None, order_id: str
) -> None:
    findings.that(
        "an accepted order exists", bool(history) and view is not None, f"{order_id} was accepted and is gone"
    )
    if not history or view is None:
        return
    first_end = next((seen.status for seen in history if seen.status in ENDS), None)
    findings.that("an accepted order ends", first_end is not None, f"{order_id} is {view.status}")
    settled = f"{order_id} is {view.status} {view.commitment or ''}"
    findings.that("an ended order settles", first_end is None or history[-1].settles, settled)
    stored = history[0].timestamp
    findings.that("the answer tells the order's time", intent.created_at == stored, f"{order_id}: {intent.created_at}")
    if intent.may_exist_since_us is not None:
        # Times are told in whole milliseconds.
        in_time = _milliseconds(stored) >= intent.may_exist_since_us // 1000
        findings.that("nothing stored means nothing stored", in_time, f"{order_id} was stored by an earlier request")
    if intent.cancelled:
        findings.that("a cancel holds", view.status == Status.CANCELLED, f"{order_id} is {view.status}")
    if intent.change:
        stands = msgspec.to_builtins(view)
        holds = all(stands.get(name) == format_price(parse_price(str(price))) for name, price in intent.change.items())
        findings.that("a change holds", holds, f"{order_id} is {view}, was changed to {intent.change}")


def _milliseconds(timestamp: str) -> int:
    return round(datetime.fromisoformat(timestamp).timestamp() * 1000)


def _is_legal(history: Sequence[Seen]) -> bool:
    before: Status | None = None
    try:
        for seen in history:
            check_transition(before, Status(seen.status))
            before = Status(seen.status)
    except (IllegalTransitionError, ValueError):
        return False
    return True


def _statuses(history: Sequence[Seen]) -> str:
    return ", ".join(f"{seen.seq} {seen.status}" for seen in history) or "nothing"
