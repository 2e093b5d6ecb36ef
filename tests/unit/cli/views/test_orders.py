"""Orders in a table, and one order with everything known about it."""

import msgspec

from bestex.cli.answers import OrdersPage, Receipt, unix_us
from bestex.cli.views.orders import cancelled_view, orders_view, whole_order_view
from bestex.domain.order_state import OrderView
from tests.unit.cli.recorded import FAILED_ORDER, HAPPY, ORDER, ORDER_ID, RECEIPT, SIGNATURE, printed, steps

NOW_US = unix_us(ORDER["createdAt"]) + 65_000_000


def order(**changes: object) -> OrderView:
    return msgspec.convert({**ORDER, **changes}, OrderView)


def test_the_table_fits_80_columns_with_whole_ids() -> None:
    page = msgspec.convert({"data": [ORDER, FAILED_ORDER], "nextCursor": ORDER_ID}, OrdersPage)
    assert printed(orders_view(page, NOW_US, 80)) == (
        "order                                 status     age  swap\n"
        f"{ORDER_ID}  confirmed   1m  1.5 SOL → 244.409472 USDC\n"
        f"{ORDER_ID}  failed      1m  1.5 SOL → USDC\n"
        "                                                      slippage_exceeded\n"
        f"more: --cursor {ORDER_ID}"
    )


def test_a_wide_table_has_venue_and_price() -> None:
    page = msgspec.convert({"data": [ORDER]}, OrdersPage)
    shown = printed(orders_view(page, NOW_US, 140), 140)
    assert "raydium  162.939648 USDC per SOL" in shown
    assert "--cursor" not in shown


def test_no_orders_are_said_to_be_none() -> None:
    assert printed(orders_view(OrdersPage([]), NOW_US, 80)) == "no orders"


def test_show_tells_facts_timeline_and_receipt() -> None:
    shown = printed(whole_order_view(order(), steps(HAPPY), msgspec.convert(RECEIPT, Receipt), 80))
    for told in [
        f"order       {ORDER_ID}",
        "executed    1.5 SOL → 244.409472 USDC",
        "ended       2026-11-22T18:07:02.979Z, after 2.98 s",
        "● submitted",
        "attempt 1",
        "raydium is the best",
        "meteora pays 8.301181 USDC less (3.40 %)",
        "quoted     244.451776 USDC, at least 243.229518",
        "1.73 bps worse than quoted",
        "latency budget",
        "    raydium",
        "1.80 s",
        "  total  ",
    ]:
        assert told in shown
    assert SIGNATURE in "".join(line.strip() for line in shown.splitlines()), "whole, if on two lines"
    assert max(len(line) for line in shown.splitlines()) <= 80


def test_a_receipt_with_next_to_nothing_is_shown() -> None:
    bare = msgspec.convert({"orderId": ORDER_ID, "status": "routing", "attempts": [{"attempt": 1}]}, Receipt)
    shown = printed(whole_order_view(order(status="routing"), steps(HAPPY[:2]), bare, 80))
    assert "attempt 1" in shown


def test_an_attempt_that_was_given_up_says_why() -> None:
    receipt = {"orderId": ORDER_ID, "status": "failed", "attempts": [
        {"attempt": 1, "outcome": {"code": "quote_timeout", "message": "no venue answered in time"}}
    ]}  # fmt: skip
    view = whole_order_view(msgspec.convert(FAILED_ORDER, OrderView), [], msgspec.convert(receipt, Receipt), 80)
    shown = printed(view)
    assert "given up  quote_timeout no venue answered in time" in shown
    assert "failure     slippage_exceeded pays 240, not 243.229518" in shown
    assert "failed, attempt 3" in shown


def test_a_cancel_says_whether_it_took_effect() -> None:
    assert printed(cancelled_view(order(status="cancelled"))) == f"{ORDER_ID} cancelled"
    late = printed(cancelled_view(order(status="submitted", cancelRequested=True)), 200)
    assert "cancel requested: signed already, so it may still execute" in late
