"""Orders: a page of them, and one with everything known about it."""

from collections.abc import Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from bestex.cli.answers import CancelledOrders, DeadManState, Firing, OrdersPage, Receipt, ReceiptAttempt, unix_us
from bestex.cli.views.budget import budget_view
from bestex.cli.views.quotes import quote_reasons, quote_table
from bestex.cli.views.steps import Step, swap_of_view
from bestex.cli.views.terms import request_text, terms_texts, trigger_text, waits_text
from bestex.cli.views.text import (
    age_text,
    clean,
    duration_text,
    facts_table,
    plain_table,
    price_text,
    slippage_text,
    status_text,
    styled,
)
from bestex.cli.views.timeline import timeline_view
from bestex.domain.events import timestamp_text
from bestex.domain.lifecycle import ENDS
from bestex.domain.order_state import OrderView
from bestex.domain.terms import Kind

WIDE: Final = 112
"""Columns from which the table of orders shows venue and price, too."""


def orders_view(page: OrdersPage, now_us: int, width: int) -> RenderableType:
    """A table, newest first, and how to get the next page."""
    if not page.data:
        return Text("no orders", style="dim")
    is_wide = width >= WIDE
    columns = ["order", "status", "age", "swap"]
    if is_wide:
        columns = ["order", "kind", "status", "age", "swap", "venue", "result"]
    table = plain_table(*columns, numbers=frozenset({"age"}), folding=frozenset({"swap", "result"}))
    for order in page.data:
        row = [
            styled(order.order_id),
            *([styled(order.kind)] if is_wide else []),
            status_text(order.status),
            Text(age_text(now_us - unix_us(order.created_at)), style="dim"),
            _swap_text(order),
        ]
        if is_wide:
            row += [styled(order.venue or ""), _result_text(order)]
        elif order.failure is not None:
            row[-1].append(f"\n{clean(order.failure.code)}", style="red")
        elif order.kind != Kind.MARKET:
            row[-1].append(f"\n{clean(f'{order.kind} {waits_text(order)}'.rstrip())}", style="blue")
        table.add_row(*row)
    if page.next_cursor is None:
        return table
    return Group(table, Text.assemble(("more: --cursor ", "dim"), clean(page.next_cursor)))


def _swap_text(order: OrderView) -> Text:
    amount_in = order.amount_in or order.amount
    amount_out = f"{order.amount_out} " if order.amount_out is not None else ""
    return styled(f"{amount_in} {order.token_in} → {amount_out}{order.token_out}")


def _result_text(order: OrderView) -> Text:
    if order.failure is not None:
        return styled(order.failure.code, "red")
    if order.executed_price is not None:
        return styled(price_text(order.executed_price, order.pair))
    if order.cancel_requested and order.status not in ENDS:
        return Text("cancel requested", style="yellow")
    return styled(waits_text(order), "blue")


def order_view(order: OrderView, ended_us: int | None = None) -> RenderableType:
    """The order's own facts; `ended_us`: when it ended, where that is known: notes come later."""
    facts = facts_table()
    facts.add_row("order", styled(order.order_id, "bold"))
    facts.add_row("status", _status_and_attempt(order))
    facts.add_row("request", styled(request_text(order)))
    facts.add_row("terms", styled(f"{order.kind} · {order.pair} · slippage at most {order.slippage_bps} bps"))
    for demand in terms_texts(order):
        facts.add_row("", styled(demand))
    if waits := waits_text(order):
        facts.add_row("waits for", styled(waits, "blue"))
    if order.waits_because is not None and order.status not in ENDS:
        facts.add_row("again", styled(order.waits_because, "yellow"))
    if order.slices is not None:
        filled = f", {order.filled_slices} filled" if order.filled_slices is not None else ""
        facts.add_row("slices", styled(f"{order.slices_begun} of {order.slices} begun{filled}"))
    if order.client_order_id is not None:
        facts.add_row("client id", styled(order.client_order_id))
    facts.add_row("created", styled(order.created_at))
    if ended_us is not None:
        took = duration_text(ended_us - unix_us(order.created_at))
        facts.add_row("ended", styled(f"{timestamp_text(ended_us)}, after {took}"))
    else:
        facts.add_row("updated", styled(order.updated_at))
    if order.venue is not None:
        facts.add_row("venue", styled(order.venue))
    if order.amount_out is not None:
        amounts = f"{order.amount_in} {order.token_in} → {order.amount_out} {order.token_out}"
        facts.add_row("executed", styled(amounts, "green"))
    if order.executed_price is not None:
        facts.add_row("price", styled(price_text(order.executed_price, order.pair)))
    if order.fee_paid is not None:
        facts.add_row("fee", styled(f"{order.fee_paid} SOL"))
    if order.tx_hash is not None:
        facts.add_row("signature", styled(order.tx_hash))
    if order.commitment is not None:
        facts.add_row("commitment", styled(order.commitment))
    if order.failure is not None:
        failure = Text.assemble((clean(order.failure.code), "bold red"), " ", clean(order.failure.message))
        facts.add_row("failure", failure)
    return facts


def _status_and_attempt(order: OrderView) -> Text:
    text = status_text(order.status)
    if order.attempt > 1:
        text.append(f", attempt {order.attempt}")
    if order.cancel_requested and order.status not in ENDS:
        text.append(", cancel requested", style="yellow")
    return text


def cancelled_view(order: OrderView) -> RenderableType:
    """What a cancel did: at once, or from the next attempt on."""
    if order.status in ENDS:
        return Text.assemble(clean(order.order_id), " ", status_text(order.status))
    told = ": signed already, so it may still execute; no further attempt will be made"
    return Text.assemble(clean(order.order_id), (" cancel requested", "yellow"), told)


def cancelled_many_view(orders: CancelledOrders) -> RenderableType:
    """Whom a cancel of many reached."""
    if not orders.cancelled and not orders.cancel_requested:
        return Text("no orders", style="dim")
    lines = [Text.assemble(clean(each), " ", status_text("cancelled")) for each in orders.cancelled]
    lines += [Text.assemble(clean(each), (" cancel requested", "yellow")) for each in orders.cancel_requested]
    count = f"{len(orders.cancelled)} cancelled"
    if orders.cancel_requested:
        count += f", {len(orders.cancel_requested)} signed already: they may still execute"
    return Group(*lines, Text(count, style="bold"))


def dead_man_view(switch: DeadManState, now_us: int) -> RenderableType:
    if not switch.armed or switch.due_at is None:
        return Text("not armed", style="dim")
    spared = "; stops and exits stay" if switch.keep_stops else ""
    left = duration_text(max(unix_us(switch.due_at) - now_us, 0))
    return Text.assemble(
        ("armed", "bold yellow"), f": resting orders are cancelled in {left}, at {clean(switch.due_at)}{spared}"
    )


def whole_order_view(
    order: OrderView, steps: Sequence[Step], receipt: Receipt, width: int, children: Sequence[OrderView] = ()
) -> RenderableType:
    """`bestex show`: facts, timeline, what triggers saw, slices or exits, receipt."""
    swap = swap_of_view(order)
    ended_us = next((step.at_us for step in steps if step.status in ENDS), None)
    parts: list[RenderableType] = [order_view(order, ended_us), _heading("timeline")]
    parts.append(timeline_view(steps, width, swap=swap, accepted_us=unix_us(order.created_at), quotes=False))
    for firing in receipt.triggers:
        parts += [_heading(f"fired, attempt {firing.attempt}"), Padding(_firing_view(firing, order), (0, 0, 0, 2))]
    if children:
        parts += [_heading("slices" if order.slices is not None else "exits")]
        parts += [Padding(_children_view(children), (0, 0, 0, 2))]
    for attempt in receipt.attempts:
        parts += [_heading(f"attempt {attempt.attempt}"), Padding(_attempt_view(attempt, order), (0, 0, 0, 2))]
    if receipt.latency_ms:
        parts += [_heading("latency budget"), Padding(budget_view(receipt), (0, 0, 0, 2))]
    return Group(*parts)


def _heading(text: str) -> Text:
    return Text(f"\n{text}", style="bold")


def _firing_view(firing: Firing, order: OrderView) -> RenderableType:
    """What the trigger saw, and each filter's verdict on a launch."""
    saw = styled(trigger_text(firing, order.pair))
    if not firing.verdicts:
        return saw
    table = plain_table("", "filter", "wanted", "measured")
    for verdict in firing.verdicts:
        mark = Text("✔", style="green") if verdict.passed else Text("✘", style="red")
        table.add_row(mark, styled(verdict.filter), styled(verdict.wanted), styled(verdict.measured))
    return Group(saw, table)


def _children_view(children: Sequence[OrderView]) -> RenderableType:
    """Its slices or its exits, first to last."""
    table = plain_table("", "order", "status", "swap", numbers=frozenset({""}), folding=frozenset({"swap"}))
    for child in sorted(children, key=lambda each: (each.slice_number or 0, each.order_id)):
        swap = _swap_text(child)
        if waits := waits_text(child):
            swap.append(f" · {clean(waits)}", style="blue")
        number = str(child.slice_number) if child.slice_number is not None else ""
        table.add_row(Text(number, style="dim"), styled(child.order_id), status_text(child.status), swap)
    return table


def _attempt_view(attempt: ReceiptAttempt, order: OrderView) -> RenderableType:
    parts: list[RenderableType] = []
    if attempt.quotes:
        parts += [quote_table(attempt.quotes), *quote_reasons(attempt.quotes)]
    facts = facts_table()
    if attempt.venue is not None:
        facts.add_row("route", styled(" · ".join(filter(None, [attempt.venue, attempt.pool]))))
    if attempt.quoted_amount_out is not None:
        limit = f", at least {attempt.min_amount_out}" if attempt.min_amount_out is not None else ""
        facts.add_row("quoted", styled(f"{attempt.quoted_amount_out} {order.token_out}{limit}"))
    if attempt.wraps_sol:
        facts.add_row("SOL", Text("wrapped for the swap"))
    if attempt.signature is not None:
        facts.add_row("signature", styled(attempt.signature))
    if attempt.fill is not None:
        fill = attempt.fill
        facts.add_row(
            "fill", styled(f"{fill.amount_in} {order.token_in} → {fill.amount_out} {order.token_out}", "green")
        )
        if fill.slippage_bps is not None:
            facts.add_row("", styled(slippage_text(fill.slippage_bps)))
    if attempt.outcome is not None:
        outcome = attempt.outcome
        facts.add_row("given up", Text.assemble((clean(outcome.code), "yellow"), " ", clean(outcome.message)))
    return Group(*parts, facts)
