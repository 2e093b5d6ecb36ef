"""The timeline says everything a watcher must know, within the terminal's width."""

import re

import pytest
from msgspec import structs
from rich.console import Console

from bestex.cli.views.steps import Step, Swap
from bestex.cli.views.timeline import step_text, timeline_view
from tests.unit.cli.recorded import CONFIRMED, HAPPY, PENDING, SIGNATURE, SLIPPED, SUBMITTED, printed, steps, update


def test_a_confirmed_order_shows_every_step_its_time_and_its_bar() -> None:
    shown = printed(timeline_view(steps(HAPPY), 80))
    assert shown == (
        "     +0 ms  ● pending    ╸                                              3 ms\n"
        "              sell 1.5 SOL for USDC · market · slippage at most 50 bps\n"
        "     +3 ms  ● routing    ━━━━━                                        316 ms\n"
        "   +319 ms  ● building       ━━━━━━                                   401 ms\n"
        "              raydium pays 244.451776 USDC · at least 243.229518 · wraps SOL\n"
        "                 venue    amount out            fee  impact    took\n"
        "              ✔  raydium  244.451776    0.00375 SOL   1 bps  206 ms\n"
        "                 meteora  236.150595  0.473248 USDC   1 bps  316 ms\n"
        "              meteora pays 8.301181 USDC less (3.40 %)\n"
        "   +720 ms  ● submitted           ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━     2.26 s\n"
        f"              signature {SIGNATURE[:55]}…\n"
        "   +2.98 s  ✔ confirmed\n"
        "              1.5 SOL → 244.409472 USDC at 162.939648 USDC per SOL\n"
        "              1.73 bps worse than quoted · fee 0.000015 SOL · raydium"
    )


@pytest.mark.parametrize("updates", [HAPPY, SLIPPED])
@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_wider_than_the_terminal(updates: list[dict[str, object]], width: int) -> None:
    shown = printed(timeline_view(steps(updates), width), width)
    assert max(len(line) for line in shown.splitlines()) <= width


def test_a_signature_that_fits_is_shown_whole() -> None:
    assert SIGNATURE in printed(timeline_view(steps(HAPPY), 120), 120)


def test_a_retry_says_why_and_a_failure_its_code_and_message() -> None:
    shown = printed(timeline_view(steps(SLIPPED), 80))
    assert "attempt 1 given up: quote_timeout no venue answered in time" in shown
    assert "              attempt 2\n" in shown
    assert "✘ failed" in shown
    assert "slippage_exceeded pays 240, not 243.229518" in shown
    assert "after 2 attempts" in shown


def test_the_last_status_goes_on_until_now_and_an_end_does_not() -> None:
    running = steps(HAPPY[:4])
    now_us = running[0].at_us + 5_000_000
    assert "○ submitted" in printed(timeline_view(running, 80, now_us=now_us))
    assert "4.28 s" in printed(timeline_view(running, 80, now_us=now_us))
    assert printed(timeline_view(steps(HAPPY), 80, now_us=now_us)) == printed(timeline_view(steps(HAPPY), 80))


def test_a_clock_behind_the_engines_does_not_turn_time_back() -> None:
    running = steps(HAPPY[:2])
    shown = printed(timeline_view(running, 80, now_us=running[0].at_us - 60_000_000))
    assert "○ routing" in shown
    assert "-" not in shown


def test_a_resumed_timeline_counts_from_the_acceptance_it_did_not_see() -> None:
    every = steps(HAPPY)
    swap = Swap("SOL", "USDC", "SOL/USDC")
    shown = printed(timeline_view(every[3:], 80, swap=swap, accepted_us=every[0].at_us))
    assert shown.startswith("   +720 ms  ● submitted")
    assert "1.5 SOL → 244.409472 USDC at 162.939648 USDC per SOL" in shown


def test_a_cancel_that_came_after_signing_is_shown_as_a_note() -> None:
    note = update(5, "submitted", 900, {"cancelRequested": True, "note": "looked up, not known yet"})
    shown = printed(timeline_view(steps([*HAPPY[:4], note]), 80))
    assert "cancel requested: no further attempt will be made" in shown
    assert "looked up, not known yet" in shown


def test_a_status_of_a_newer_engine_is_shown_as_it_came() -> None:
    shown = printed(timeline_view(steps([update(1, "parked", 0, {"trigger": "below 150"})]), 80))
    assert "parked" in shown
    assert "trigger: below 150" in shown


def test_what_a_client_wrote_cannot_command_the_terminal() -> None:
    hostile = {**PENDING, "clientOrderId": "[bold]\x1b[2Jgone"}
    shown = printed(timeline_view(steps([update(1, "pending", 0, hostile)]), 120), 120)
    assert "[bold]�[2Jgone" in shown


def test_a_step_in_a_pipe_is_never_wrapped_or_cut() -> None:
    console = Console(width=40, force_terminal=False)
    [step] = steps([update(4, "submitted", 720, SUBMITTED)])
    text = step_text(step, None, step.at_us, console)
    assert text.splitlines() == ["     +0 ms  ● submitted", f"              signature {SIGNATURE}"]


def test_steps_at_one_moment_are_drawn_without_a_bar() -> None:
    moment = Step(seq=1, status="pending", attempt=0, at_us=0, detail={})
    later = Step(seq=2, status="cancelled", attempt=0, at_us=0, detail={})
    assert "■ cancelled" in printed(timeline_view([moment, later], 80))


def test_a_swap_that_landed_again_shows_its_new_amounts_and_nothing_that_it_does_not_name() -> None:
    lost = {"commitment": "lost", "note": "a fork took the transaction away"}
    again = {
        "amountIn": "1.5",
        "amountOut": "244.5",
        "executedPrice": "163",
        "slippageBps": -1.97,
        "feePaid": "0.000015",
        "commitment": "confirmed",
        "slot": 140,
    }
    notes = [update(6, "confirmed", 7_400, lost), update(7, "confirmed", 13_600, again)]
    shown = printed(timeline_view(steps([*HAPPY, *notes]), 80))
    assert "lost to a fork" in shown
    assert "1.5 SOL → 244.5 USDC at 163 USDC per SOL" in shown
    assert shown.endswith("1.97 bps better than quoted · fee 0.000015 SOL")
    assert "None" not in shown


SLICE = {"number": 1, "orderId": "ch1ld", "amount": "0.3"}
FIRED = {"kind": "limit", "price": "176.2", "threshold": "175", "slot": 9, "ageMs": 12.4}
NOT_MET = {"attempt": 1, "code": "limit_not_met", "message": "the best route pays 261"}


def test_what_waits_is_told_with_what_it_waits_for_why_and_what_it_saw() -> None:
    watched = [
        update(1, "pending", 0, {**PENDING, "kind": "limit", "limitPrice": "175"}, attempt=0),
        update(2, "watching", 1, {}, attempt=0),
        update(3, "watching", 900, {"changes": {"limitPrice": "174", "slippageBps": 20}}, attempt=0),
        update(4, "routing", 3_000, {"trigger": FIRED}),
        update(5, "watching", 3_100, {"previous": NOT_MET, "notBefore": "2026-11-22T18:07:04.100Z"}),
        update(6, "expired", 9_000, {"reason": "its time was up", "previous": NOT_MET}),
    ]
    shown = printed(timeline_view(steps(watched), 120), 120)
    for told in [
        "sell 1.5 SOL for USDC · limit · slippage at most 50 bps · limit 175 USDC per SOL",
        "changed: limitPrice 174, slippageBps 20",
        "fired: limit · saw 176.2 USDC per SOL, threshold 175 · slot 9 · 12 ms old",
        "attempt 1 given up: limit_not_met the best route pays 261",
        "does not fire again before 2026-11-22T18:07:04.100Z",
        "■ expired",
        "its time was up",
    ]:
        assert told in shown


def test_a_sliced_order_names_each_slice_and_what_they_came_to() -> None:
    sums = {"amountIn": "0.6", "amountOut": "97.5", "executedPrice": "162.5", "commitment": "finalized"}
    sliced = [
        update(1, "pending", 0, {**PENDING, "kind": "twap", "slices": 2, "intervalSeconds": 5}, attempt=0),
        update(2, "watching", 1, {"slice": SLICE}, attempt=0),
        update(3, "confirmed", 5_000, {**sums, "filledSlices": 2}, attempt=0),
    ]
    shown = printed(timeline_view(steps(sliced), 120), 120)
    assert "slice 1: 0.3 SOL · ch1ld" in shown
    assert "0.6 SOL → 97.5 USDC at 162.5 USDC per SOL" in shown
    assert "2 slices filled" in shown
    assert "None" not in shown


def test_a_sniper_shows_the_token_that_it_found() -> None:
    sniped = [
        update(1, "pending", 0, {**PENDING, "kind": "sniper", "tokenOut": "*", "pair": "*/SOL", "side": "buy"}),
        update(2, "watching", 1, {}),
        update(3, "routing", 900, {"trigger": {"kind": "launch", "mint": "M1nt", "pair": "M1nt/SOL"}}),
        update(4, "confirmed", 1_500, {**CONFIRMED, "amountOut": "7000", "executedPrice": "0.0002"}),
    ]
    shown = printed(timeline_view(steps(sniped), 120), 120)
    assert "buy what is launched with 1.5 SOL" in shown
    assert "1.5 SOL → 7000 M1nt at 0.0002 SOL per M1nt" in shown


def test_a_long_wait_leaves_the_rest_visible() -> None:
    day = steps([HAPPY[0], update(2, "watching", 2, {}), *HAPPY[1:]])
    late = [*day[:2], *(structs.replace(each, at_us=each.at_us + 86_400_000_000) for each in day[2:])]
    shown = printed(timeline_view(late, 80)).splitlines()
    rows = {found[1]: row for row in shown if (found := re.search(r"  [●✔] (\w+)", row)) is not None}
    assert rows["watching"].endswith("24 h 00 min")
    assert 10 < rows["watching"].count("┅") <= 21, "half of what there is"
    assert rows["submitted"].count("━") > 10
    assert max(map(len, shown)) <= 80


def test_a_short_wait_is_drawn_to_scale() -> None:
    short = steps([HAPPY[0], update(2, "watching", 2, {}), *HAPPY[1:]])
    assert "┅" not in printed(timeline_view(short, 80))
