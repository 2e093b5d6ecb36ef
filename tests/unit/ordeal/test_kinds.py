"""The checks of watched orders, exits and slices: nothing where all is well, and each defect by its name."""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from bestex.domain.derived_ids import derived_id
from bestex.domain.order_state import OrderView
from bestex.domain.terms import ExitLeg, ExitTerms, Leg, LegName
from bestex.ordeal.kinds import check_kinds
from bestex.ordeal.report import Findings
from bestex.ordeal.watchers import Seen, seen_of

ENTRY = "01a20470-bc2f-7016-ae45-f9d2688ab31b"
SLICED = "01a20470-bc2f-7016-ae45-f9d2688ab31c"
SLICES = [derived_id(SLICED, "slice", number) for number in (1, 2)]


def seen(order_id: str, seq: int, status: str, detail: dict[str, Any]) -> Seen:
    at = f"2026-11-22T10:00:00.00{seq}Z"
    return seen_of({"orderId": order_id, "status": status, "seq": seq, "timestamp": at, "detail": detail})


def view_of(order_id: str) -> OrderView:
    """A sale of one SOL that was executed."""
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
        commitment="finalized",
    )


class Watched:
    """What the log and the engine show of a limit order with exits that sold, and of a sliced order."""

    def __init__(self) -> None:
        self.exits_id = derived_id(ENTRY, "exits")
        by_limit = {"trigger": {"kind": "limit"}}
        told: list[tuple[str, dict[str, Any]]] = [
            ("pending", {}),
            ("watching", {}),
            ("routing", by_limit),
            ("watching", {"reason": "limit_not_met"}),
            ("routing", by_limit),
            ("building", {}),
            ("submitted", {}),
            ("confirmed", {}),
        ]
        self.histories = {
            order_id: [seen(order_id, seq, status, detail) for seq, (status, detail) in enumerate(told, start=1)]
            for order_id in (ENTRY, self.exits_id)
        }
        bought = {"token_in": "USDC", "token_out": "SOL", "amount": "150", "amount_in": "150", "amount_out": "1"}
        stop_loss = ExitTerms(stop_loss=ExitLeg(loss_bps=100))
        sold = {"amount_in": "1", "amount_out": "151", "parent_id": ENTRY}
        legs = (Leg(LegName.STOP_LOSS, 50, "148.5"),)
        filled = {"amount_in": "1", "amount_out": "150", "filled_slices": 1}
        self.views = {
            ENTRY: replace(view_of(ENTRY), kind="limit", exits=stop_loss, **bought),
            self.exits_id: replace(view_of(self.exits_id), kind="exits", legs=legs, **sold),
            SLICED: replace(view_of(SLICED), kind="twap", slices=2, slices_begun=2, amount="2", **filled),
            SLICES[0]: replace(view_of(SLICES[0]), parent_id=SLICED, slice_number=1, amount_in="1", amount_out="150"),
            SLICES[1]: replace(view_of(SLICES[1]), parent_id=SLICED, slice_number=2, status="failed"),
        }

    def change(self, order_id: str, **fields: object) -> None:
        self.views[order_id] = replace(self.views[order_id], **fields)

    def violations(self) -> list[str]:
        findings = Findings()
        check_kinds(findings, self.histories, self.views)
        return findings.violations


def fired_by_nothing(watched: Watched) -> None:
    watched.histories[ENTRY][2] = replace(watched.histories[ENTRY][2], fired_by=None)


def fired_twice_for_one_arming(watched: Watched) -> None:
    del watched.histories[ENTRY][3]


def an_entry_without_its_exits(watched: Watched) -> None:
    del watched.views[watched.exits_id]


def exits_that_lack_a_leg(watched: Watched) -> None:
    watched.change(watched.exits_id, legs=())


def exits_of_an_entry_that_did_not_execute(watched: Watched) -> None:
    watched.change(ENTRY, status="cancelled")


def exits_that_sell_more_than_was_received(watched: Watched) -> None:
    watched.change(watched.exits_id, amount_in="1.1")


def exits_of_another_entry(watched: Watched) -> None:
    watched.change(watched.exits_id, parent_id=SLICED)


def a_slice_that_is_not_there(watched: Watched) -> None:
    del watched.views[SLICES[1]]


def slices_of_more_than_their_order(watched: Watched) -> None:
    watched.change(SLICES[1], amount="1.1")


def a_sliced_order_that_says_too_much(watched: Watched) -> None:
    watched.change(SLICED, amount_out="151")


def a_sliced_order_that_counts_a_slice_too_many(watched: Watched) -> None:
    watched.change(SLICED, filled_slices=2)


def test_watched_orders_without_a_defect_break_nothing() -> None:
    assert Watched().violations() == []


@pytest.mark.parametrize(
    ("break_it", "told"),
    [
        (fired_by_nothing, "each arming fires once, by a trigger"),
        (fired_twice_for_one_arming, "each arming fires once, by a trigger"),
        (an_entry_without_its_exits, "an executed entry has its exits"),
        (exits_that_lack_a_leg, "an executed entry has its exits"),
        (exits_of_an_entry_that_did_not_execute, "only an executed entry has exits"),
        (exits_that_sell_more_than_was_received, "exits sell what their entry received"),
        (exits_of_another_entry, "exits sell what their entry received"),
        (a_slice_that_is_not_there, "every slice that began is there"),
        (slices_of_more_than_their_order, "slices are parts of their order"),
        (a_sliced_order_that_says_too_much, "a sliced order says what its slices did"),
        (a_sliced_order_that_counts_a_slice_too_many, "a sliced order says what its slices did"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_each_defect_of_watched_orders_is_found_and_told(break_it: Callable[[Watched], None], told: str) -> None:
    watched = Watched()
    break_it(watched)
    assert [violation for violation in watched.violations() if violation.startswith(f"{told}: ")]
