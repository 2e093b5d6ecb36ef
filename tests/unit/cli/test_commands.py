"""Whole commands against an engine of scripted answers: what they ask, what they print, how they end."""

import json
import re
from collections.abc import Callable, Iterator

import pytest
from typer.testing import CliRunner, Result

from bestex.cli import app
from tests.unit.cli.fake_engine import FakeEngine, running_engine
from tests.unit.cli.recorded import (
    ACCEPTED,
    FAILED_ORDER,
    HAPPY,
    INVALID,
    LAUNCH,
    NOT_FOUND,
    ORDER,
    ORDER_ID,
    QUOTES,
    RECEIPT,
    SLIPPED,
    unavailable,
)

Bestex = Callable[..., Result]
EXECUTE = "POST /api/orders/execute"
THE_ORDER = f"/api/orders/{ORDER_ID}"
WALLET = {"address": "wa11et", "balances": [{"symbol": "SOL", "mint": "So1", "amount": "1.5"}]}
FAULTS = {"faults": {"raydium_down": 1.0, "quote_timeout_s": 10.0}}
MOVE = {"pair": "SOL/USDC", "percent": -5.0}
SOUND: dict[str, object] = {
    "liquidity": "50",
    "mintAuthorityRevoked": True,
    "freezeAuthorityRevoked": True,
    "lpBurntBps": 10_000,
    "lpLockedBps": 0,
    "topHoldersBps": 1_000,
}
LAUNCHED = {
    "mint": "m1nt",
    "name": "Turbo Otter",
    "ticker": "OTTER",
    "venue": "meteora",
    "pool": "p00l",
    "quote": "SOL",
    "listedAt": "2026-11-18T11:06:40Z",
    "slot": 7,
    "migratedFrom": "raydium",
    "measured": {**SOUND, "creator": "cr3ator"},
}
WORLD = {
    "profile": "instant",
    "seed": 7,
    "slot": 258,
    "finalizedSlot": 226,
    "blockHeight": 246,
    "transactions": 3,
    "inFlight": 0,
    **FAULTS,
    "spreads": {"SOL/USDC": 3.67},
}


@pytest.fixture(scope="module")
def module_engine() -> Iterator[FakeEngine]:
    with running_engine() as engine:
        yield engine


@pytest.fixture
def engine(module_engine: FakeEngine) -> FakeEngine:
    module_engine.forget()
    return module_engine


@pytest.fixture
def bestex(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> Bestex:
    monkeypatch.setenv("BESTEX_URL", engine.url)
    for name in ("COLUMNS", "FORCE_COLOR", "PORT", "TERMINAL_WIDTH"):
        monkeypatch.delenv(name, raising=False)

    def run(*words: str) -> Result:
        return CliRunner().invoke(app, list(words), prog_name="bestex")

    return run


def uncoloured(text: str) -> str:
    """Help comes in colours where the environment demands them."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


# --- order ----------------------------------------------------------------------------------------------------


def test_order_posts_the_amount_as_text_under_a_fresh_key(engine: FakeEngine, bestex: Bestex) -> None:
    engine.answer(EXECUTE, ACCEPTED, 202)
    result = bestex("order", "SOL", "USDC", "1.50", "--slippage-bps", "20", "--client-order-id", "mine")
    assert bestex("order", "SOL", "USDC", "1.50").exit_code == 0
    assert result.exit_code == 0
    assert result.stdout == f"order {ORDER_ID} pending\n"
    (_, headers, body), (_, other_headers, other_body) = engine.requests
    assert body == {
        "tokenIn": "SOL",
        "tokenOut": "USDC",
        "amount": "1.50",
        "slippageBps": 20,
        "clientOrderId": "mine",
    }
    assert other_body == {"tokenIn": "SOL", "tokenOut": "USDC", "amount": "1.50", "slippageBps": 50}
    assert headers["idempotency-key"] != other_headers["idempotency-key"]


def test_order_uses_the_given_key(engine: FakeEngine, bestex: Bestex) -> None:
    engine.answer(EXECUTE, ACCEPTED, 202)
    result = bestex("order", "SOL", "USDC", "1.5", "--idempotency-key", "key-1", "--json")
    assert json.loads(result.stdout) == ACCEPTED
    assert engine.requests[0][1]["idempotency-key"] == "key-1"


def test_order_watched_to_its_confirmation_ends_with_0(engine: FakeEngine, bestex: Bestex) -> None:
    engine.answer(EXECUTE, ACCEPTED, 202)
    engine.updates = HAPPY
    result = bestex("order", "SOL", "USDC", "1.5", "--watch")
    assert result.exit_code == 0
    assert [line.split()[-1] for line in result.stdout.splitlines() if line.strip().startswith("+")] == [
        "pending",
        "routing",
        "building",
        "submitted",
        "confirmed",
    ]
    assert "1.5 SOL → 244.409472 USDC at 162.939648 USDC per SOL" in result.stdout
    assert result.stderr == ""


def test_order_watched_to_its_failure_ends_with_1(engine: FakeEngine, bestex: Bestex) -> None:
    engine.answer(EXECUTE, ACCEPTED, 202)
    engine.updates = SLIPPED
    result = bestex("order", "SOL", "USDC", "1.5", "--watch")
    assert result.exit_code == 1
    assert "slippage_exceeded pays 240, not 243.229518" in result.stdout


def test_order_watched_as_json_is_json_lines_and_nothing_else(engine: FakeEngine, bestex: Bestex) -> None:
    engine.answer(EXECUTE, ACCEPTED, 202)
    engine.updates = SLIPPED
    result = bestex("order", "SOL", "USDC", "1.5", "--watch", "--json")
    assert result.exit_code == 1
    assert [json.loads(line) for line in result.stdout.splitlines()] == SLIPPED


def test_a_refused_order_names_every_bad_field_and_ends_with_2(engine: FakeEngine, bestex: Bestex) -> None:
    engine.answer(EXECUTE, INVALID, 422)
    result = bestex("order", "FOO", "USDC", "0")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "error: The request has bad fields: 2 fields are bad (validation, 422)" in result.stderr
    assert "/tokenIn  unknown token" in result.stderr
    assert "/amount   must be above zero" in result.stderr


def test_a_refused_order_as_json_is_the_problem_on_stderr(engine: FakeEngine, bestex: Bestex) -> None:
    engine.answer(EXECUTE, INVALID, 422)
    result = bestex("order", "FOO", "USDC", "0", "--json")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert json.loads(result.stderr) == {**INVALID, "exitCode": 2}


def test_an_order_whose_outcome_is_unknown_says_how_to_find_out(engine: FakeEngine, bestex: Bestex) -> None:
    engine.headers = {"Retry-After": "0"}
    engine.answer(EXECUTE, unavailable("outcome-unknown"), 503)
    result = bestex("order", "SOL", "USDC", "1.5", "--idempotency-key", "key-1")
    assert result.exit_code == 4
    assert len(engine.requests) == 4
    assert "trying again in 0 s (1 of 3)" in result.stderr
    assert "the same command with --idempotency-key key-1 tells" in result.stderr


def test_an_order_that_was_surely_not_taken_says_so(engine: FakeEngine, bestex: Bestex) -> None:
    engine.headers = {"Retry-After": "0"}
    engine.answer(EXECUTE, unavailable("intake-full"), 503)
    result = bestex("order", "SOL", "USDC", "1.5")
    assert result.exit_code == 4
    assert "nothing was ordered" in result.stderr


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        (["--limit", "150"], {"kind": "limit", "limitPrice": "150"}),
        (["--limit", "150", "--ioc"], {"kind": "limit", "limitPrice": "150", "timeInForce": "IOC"}),
        (["--min-out", "200"], {"kind": "limit", "minAmountOut": "200"}),
        (
            ["--stop", "120", "--limit", "118", "--allow-immediate"],
            {"kind": "stop", "triggerPrice": "120", "limitPrice": "118", "allowImmediate": True},
        ),
        (["--take-profit", "200"], {"kind": "takeProfit", "triggerPrice": "200"}),
        (["--trail", "500"], {"kind": "trailingStop", "trailBps": 500}),
        (
            ["--slices", "5", "--every", "2", "--on-slice-failure", "stop"],
            {"kind": "twap", "slices": 5, "intervalSeconds": 2, "onSliceFailure": "stop"},
        ),
        (
            ["--expires", "2027-01-01T00:00:00Z", "--exit-take-profit", "5%", "--exit-stop-loss", "140"],
            {
                "expiresAt": "2027-01-01T00:00:00Z",
                "exits": {"takeProfit": {"gainBps": 500}, "stopLoss": {"triggerPrice": "140"}},
            },
        ),
    ],
)
def test_the_options_of_order_say_its_kind(
    engine: FakeEngine, bestex: Bestex, words: list[str], fields: dict[str, object]
) -> None:
    engine.answer(EXECUTE, {**ACCEPTED, "status": "watching"}, 202)
    result = bestex("order", "SOL", "USDC", "1.5", *words)
    assert result.stdout == f"order {ORDER_ID} watching\n"
    common = {"tokenIn": "SOL", "tokenOut": "USDC", "amount": "1.5", "slippageBps": 50}
    assert engine.requests[0][2] == common | fields


@pytest.mark.parametrize(
    "words",
    [
        ["--limit", "1", "--min-out", "1"],
        ["--stop", "1", "--take-profit", "1"],
        ["--slices", "5"],
        ["--every", "5"],
        ["--ioc", "--expires", "10m"],
        ["--exit-stop-loss", "all%"],
    ],
)
def test_an_order_that_contradicts_itself_is_bad_usage(engine: FakeEngine, bestex: Bestex, words: list[str]) -> None:
    assert bestex("order", "SOL", "USDC", "1.5", *words).exit_code == 2
    assert engine.requests == []


def test_an_order_that_the_wallet_does_not_cover_now_says_so(engine: FakeEngine, bestex: Bestex) -> None:
    engine.answer(EXECUTE, {**ACCEPTED, "status": "watching", "fundsCovered": False}, 202)
    assert "does not hold now" in bestex("order", "SOL", "USDC", "1.5", "--limit", "150").stderr


def test_snipe_sends_its_filters_and_exits(engine: FakeEngine, bestex: Bestex) -> None:
    engine.answer(EXECUTE, ACCEPTED, 202)
    words = (
        "snipe 0.5 --min-liquidity 20 --mint-revoked --freeze-revoked --lp-secure --top-holders 3000 --creator a"
        " --creator b --deny-creator c --min-age 1 --max-age 60 --passes 2 --migrations --exit-take-profit 50%"
    )
    assert bestex(*words.split()).exit_code == 0
    assert engine.requests[0][2] == {
        "tokenIn": "SOL",
        "amount": "0.5",
        "kind": "sniper",
        "slippageBps": 500,
        "filters": {
            "minLiquidity": "20",
            "mintAuthorityRevoked": True,
            "freezeAuthorityRevoked": True,
            "lpBurntOrLocked": True,
            "topHoldersMaxBps": 3000,
            "creatorsAllowed": ["a", "b"],
            "creatorsDenied": ["c"],
            "minAgeSeconds": 1,
            "maxAgeSeconds": 60,
            "consecutivePasses": 2,
        },
        "migrations": True,
        "exits": {"takeProfit": {"gainBps": 5000}},
    }
    bestex("snipe", "0.5", "--mint", "M1nt")
    assert "filters" not in engine.requests[1][2]
    bestex("snipe", "0.5", "--any")
    assert engine.requests[2][2]["filters"] == {}


@pytest.mark.parametrize("words", [[], ["--any", "--lp-secure"], ["--any", "--mint", "M1nt"]])
def test_a_snipe_of_anything_must_say_so(engine: FakeEngine, bestex: Bestex, words: list[str]) -> None:
    assert bestex("snipe", "0.5", *words).exit_code == 2
    assert engine.requests == []


# --- resting orders -------------------------------------------------------------------------------------------


def test_several_orders_are_cancelled_although_one_is_refused(engine: FakeEngine, bestex: Bestex) -> None:
    engine.answer(f"DELETE {THE_ORDER}", {**ORDER, "status": "cancelled"})
    engine.answer("DELETE /api/orders/other", NOT_FOUND, 404)
    result = bestex("cancel", "other", ORDER_ID)
    assert result.exit_code == 3
    assert "other:" in result.stderr
    assert result.stdout == f"{ORDER_ID} cancelled\n"


@pytest.mark.parametrize(
    "words", [[], ["--all", "--kind", "limit"], [ORDER_ID, "--all"], [ORDER_ID, "--pair", "SOL/USDC"]]
)
def test_which_orders_are_cancelled_must_be_clear(engine: FakeEngine, bestex: Bestex, words: list[str]) -> None:
    assert bestex("cancel", *words).exit_code == 2
    assert engine.requests == []


def test_a_change_sends_what_is_said_and_nothing_else(engine: FakeEngine, bestex: Bestex) -> None:
    engine.answer(f"PATCH {THE_ORDER}", {**ORDER, "status": "watching", "kind": "limit", "limitPrice": "151"})
    assert "limit 151 USDC per SOL" in bestex("change", ORDER_ID, "--limit", "151", "--slippage-bps", "0").stdout
    assert engine.requests[0][2] == {"limitPrice": "151", "slippageBps": 0}
    assert bestex("change", ORDER_ID).exit_code == 2
    assert bestex("change", ORDER_ID, "--limit", "1", "--min-out", "1").exit_code == 2


def test_a_dead_man_switch_takes_seconds_and_says_whether_stops_stay(engine: FakeEngine, bestex: Bestex) -> None:
    engine.answer("POST /api/deadman", {"armed": True, "dueAt": "2026-11-22T18:07:30.000Z", "keepStops": True})
    assert "stops and exits stay" in bestex("deadman", "5m", "--keep-stops").stdout
    assert engine.requests[0][2] == {"seconds": 300, "keepStops": True}
    for words in (["soon"], ["0"], ["30s", "--off"], ["--keep-stops"]):
        assert bestex("deadman", *words).exit_code == 2


# --- watch ----------------------------------------------------------------------------------------------------


def test_watch_resumes_behind_an_update_with_times_since_acceptance(engine: FakeEngine, bestex: Bestex) -> None:
    engine.answer(f"GET {THE_ORDER}", ORDER)
    engine.updates = HAPPY
    result = bestex("watch", ORDER_ID, "--after", "3")
    assert result.exit_code == 0
    assert "pending" not in result.stdout
    assert "   +720 ms  ● submitted" in result.stdout
    assert "USDC per SOL" in result.stdout


@pytest.mark.parametrize(("order", "exit_code"), [(ORDER, 0), (FAILED_ORDER, 1)])
def test_watching_behind_the_end_still_tells_how_it_ended(
    engine: FakeEngine, bestex: Bestex, order: dict[str, object], exit_code: int
) -> None:
    engine.answer(f"GET {THE_ORDER}", order)
    engine.updates = HAPPY
    assert bestex("watch", ORDER_ID, "--after", "9").exit_code == exit_code
    result = bestex("watch", ORDER_ID, "--after", "9", "--json")
    assert (result.exit_code, result.stdout) == (exit_code, "")


def test_watching_an_unknown_order_ends_with_3(engine: FakeEngine, bestex: Bestex) -> None:
    engine.close_code = 4404
    result = bestex("watch", ORDER_ID)
    assert result.exit_code == 3
    assert "There is no such order (order-not-found, 404)" in result.stderr


# --- looking --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "call", "body", "shown"),
    [
        (
            ["quote", "SOL", "USDC", "1.5"],
            "GET /api/quotes?tokenIn=SOL&tokenOut=USDC&amount=1.5",
            QUOTES,
            "is the best",
        ),
        (["orders"], "GET /api/orders?limit=20", {"data": [ORDER], "nextCursor": None}, "244.409472"),
        (
            ["orders", "--status", "failed", "--pair", "SOL/USDC", "--kind", "market", "--limit", "3", "--cursor", "c"],
            "GET /api/orders?status=failed&pair=SOL/USDC&kind=market&limit=3&cursor=c",
            {"data": [FAILED_ORDER]},
            "slippage_exceeded",
        ),
        (["cancel", ORDER_ID], f"DELETE {THE_ORDER}", {**ORDER, "status": "cancelled"}, "cancelled"),
        (
            ["cancel", "--pair", "SOL/USDC", "--kind", "limit"],
            "DELETE /api/orders?pair=SOL/USDC&kind=limit",
            {"cancelled": ["a"], "cancelRequested": ["b"]},
            "1 cancelled, 1 signed already",
        ),
        (["cancel", "--all"], "DELETE /api/orders?all=true", {"cancelled": [], "cancelRequested": []}, "no orders"),
        (["deadman"], "GET /api/deadman", {"armed": False}, "not armed"),
        (["deadman", "--off"], "DELETE /api/deadman", {"armed": False}, "not armed"),
        (["launches", "--mint", "M"], "GET /api/launches?mint=M&limit=20", {"data": [LAUNCH]}, "minLiquidity 12.5"),
        (["orders", "--parent", "p"], "GET /api/orders?parentId=p&limit=20", {"data": []}, "no orders"),
        (["wallet"], "GET /api/wallet", WALLET, "wa11et"),
        (["tokens"], "GET /api/tokens", {"data": [{"symbol": "SOL", "mint": "So1", "decimals": 9}]}, "So1"),
        (["sim", "status"], "GET /api/sim", WORLD, "instant, seed 7"),
        (["sim", "fund", "SOL", "0.10"], "POST /api/sim/fund", WALLET, "wa11et"),
        (["sim", "faults"], "GET /api/sim/faults", FAULTS, "raydium_down"),
        (["sim", "faults", "raydium_down=1"], "PATCH /api/sim/faults", FAULTS, "raydium_down"),
        (["sim", "price", "SOL/USDC", "-5"], "POST /api/sim/price", MOVE, "SOL is 5 % cheaper from now on"),
        (["sim", "launch"], "POST /api/sim/launch", LAUNCHED, "Turbo Otter"),
        (["sim", "migrate", "m1nt"], "POST /api/sim/migrate", LAUNCHED, "moved from        raydium"),
        (["sim", "reset"], "POST /api/sim/reset", WORLD, "instant, seed 7"),
    ],
)
def test_each_command_makes_its_call_and_shows_the_answer(
    engine: FakeEngine, bestex: Bestex, words: list[str], call: str, body: dict[str, object], shown: str
) -> None:
    engine.answer(call.partition("?")[0], body)
    result = bestex(*words)
    assert (result.exit_code, result.stderr) == (0, "")
    assert shown in result.stdout
    assert json.loads(bestex(*words, "--json").stdout) == body
    assert engine.calls == [call, call]


def test_show_gathers_order_history_and_receipt(engine: FakeEngine, bestex: Bestex) -> None:
    engine.answer(f"GET {THE_ORDER}", ORDER)
    engine.answer(f"GET {THE_ORDER}/history", {"data": HAPPY})
    engine.answer(f"GET {THE_ORDER}/receipt", RECEIPT)
    assert "latency budget" in bestex("show", ORDER_ID).stdout
    shown = json.loads(bestex("show", ORDER_ID, "--json").stdout)
    assert shown == {"order": ORDER, "history": {"data": HAPPY}, "receipt": RECEIPT}


def test_show_lists_the_slices_of_a_sliced_order(engine: FakeEngine, bestex: Bestex) -> None:
    sliced = {**ORDER, "kind": "twap", "slices": 2, "intervalSeconds": 5, "slicesBegun": 1, "status": "watching"}
    children = {"data": [{**ORDER, "orderId": "ch1ld", "parentId": ORDER_ID, "sliceNumber": 1}], "nextCursor": None}
    engine.answer(f"GET {THE_ORDER}", sliced)
    engine.answer(f"GET {THE_ORDER}/history", {"data": HAPPY[:1]})
    engine.answer(f"GET {THE_ORDER}/receipt", {"orderId": ORDER_ID, "status": "watching"})
    engine.answer("GET /api/orders", children)
    shown = bestex("show", ORDER_ID).stdout
    assert "1 of 2 begun" in shown
    assert "1  ch1ld  confirmed" in shown
    assert json.loads(bestex("show", ORDER_ID, "--json").stdout)["children"] == children
    assert f"GET /api/orders?parentId={ORDER_ID}&limit=500" in engine.calls


def test_an_order_that_is_not_there_ends_with_3(engine: FakeEngine, bestex: Bestex) -> None:
    engine.answer(f"GET {THE_ORDER}", NOT_FOUND, 404)
    assert bestex("show", ORDER_ID).exit_code == 3


@pytest.mark.parametrize(
    ("words", "sent"),
    [
        ([], SOUND),
        (["--liquidity", "7.5", "--drift-bps", "-300"], SOUND | {"liquidity": "7.5", "driftBpsPerMinute": -300}),
        (["--bad", "mint-authority"], SOUND | {"mintAuthorityRevoked": False}),
        (["--bad", "lp", "--bad", "holders"], SOUND | {"lpBurntBps": 0, "lpLockedBps": 0, "topHoldersBps": 6_000}),
        (["--random"], {}),
        (["--random", "--ticker", "T", "--venue", "meteora"], {"ticker": "T", "venue": "meteora"}),
    ],
)
def test_a_launch_is_sound_unless_something_else_is_said(
    engine: FakeEngine, bestex: Bestex, words: list[str], sent: dict[str, object]
) -> None:
    engine.answer("POST /api/sim/launch", LAUNCHED, 201)
    assert bestex("sim", "launch", *words).exit_code == 0
    assert engine.requests[0][2] == sent
    assert bestex("sim", "launch", "--bad", "taste").exit_code == 2


@pytest.mark.parametrize("words", [["-5"], ["--", "-5"]])
def test_a_price_may_fall(engine: FakeEngine, bestex: Bestex, words: list[str]) -> None:
    engine.answer("POST /api/sim/price", MOVE)
    assert bestex("sim", "price", "SOL/USDC", *words).exit_code == 0
    assert engine.requests[0][2] == {"pair": "SOL/USDC", "percent": "-5"}


def test_sim_sends_amounts_as_text_and_faults_as_numbers(engine: FakeEngine, bestex: Bestex) -> None:
    engine.answer("POST /api/sim/fund", WALLET)
    engine.answer("PATCH /api/sim/faults", FAULTS)
    bestex("sim", "fund", "SOL", "0.10")
    bestex("sim", "faults", "raydium_down=1", "quote_timeout=0.25")
    assert [body for _, _, body in engine.requests] == [
        {"token": "SOL", "amount": "0.10"},
        {"raydium_down": 1, "quote_timeout": 0.25},
    ]


@pytest.mark.parametrize("change", ["raydium_down", "=1", "raydium_down=much", "raydium_down=nan"])
def test_a_fault_that_is_not_a_number_is_bad_usage(engine: FakeEngine, bestex: Bestex, change: str) -> None:
    assert bestex("sim", "faults", change).exit_code == 2
    assert bestex("sim", "faults", "venue_down=0", "venue_down=1").exit_code == 2
    assert engine.requests == []


def test_numbers_in_json_come_out_exactly_as_the_engine_wrote_them(engine: FakeEngine, bestex: Bestex) -> None:
    engine.answer("GET /api/wallet", {"address": "a", "balances": [], "later": 12345678901234567890123})
    assert "12345678901234567890123" in bestex("wallet", "--json").stdout


# --- which engine ---------------------------------------------------------------------------------------------


def test_url_goes_before_the_environment(engine: FakeEngine, bestex: Bestex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BESTEX_URL", "http://127.0.0.1:1")
    engine.answer("GET /api/wallet", WALLET)
    assert bestex("--url", engine.url, "wallet").exit_code == 0


def test_port_names_the_local_engine(engine: FakeEngine, bestex: Bestex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BESTEX_URL")
    monkeypatch.setenv("PORT", engine.url.rpartition(":")[2])
    engine.answer("GET /api/wallet", WALLET)
    assert bestex("wallet").exit_code == 0


def test_a_proxy_is_not_asked_for_this_machine(
    engine: FakeEngine, bestex: Bestex, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    engine.answer(EXECUTE, ACCEPTED, 202)
    engine.updates = HAPPY
    assert bestex("order", "SOL", "USDC", "1.5", "--watch").exit_code == 0


@pytest.mark.parametrize("words", [["wallet"], ["watch", ORDER_ID], ["quote", "SOL", "USDC", "1"]])
def test_no_engine_is_said_clearly_and_ends_with_4(bestex: Bestex, words: list[str]) -> None:
    result = bestex("--url", "http://127.0.0.1:1", *words)
    assert result.exit_code == 4
    told = "no engine at http://127.0.0.1:1: start one with `bestex serve`, or set BESTEX_URL"
    assert told in result.stderr
    as_json = bestex("--url", "http://127.0.0.1:1", *words, "--json")
    assert json.loads(as_json.stderr) == {"type": "about:blank", "title": told, "exitCode": 4}


def test_a_url_that_is_none_ends_with_2(bestex: Bestex) -> None:
    assert bestex("--url", "localhost:4000", "wallet").exit_code == 2


def test_bad_usage_ends_with_2(bestex: Bestex) -> None:
    assert bestex("order", "SOL").exit_code == 2
    assert bestex("watch", ORDER_ID, "--after", "-1").exit_code == 2
    assert bestex("ordr").exit_code == 2


# --- help -----------------------------------------------------------------------------------------------------


def test_help_names_every_command_and_the_exit_codes(bestex: Bestex) -> None:
    told = uncoloured(bestex("--help").stdout)
    for name in [
        "serve",
        "order",
        "snipe",
        "watch",
        "cancel",
        "change",
        "deadman",
        "launches",
        "quote",
        "orders",
        "show",
        "wallet",
        "tokens",
        "sim",
        "verify",
        "export",
    ]:
        assert f"│ {name} " in told
    assert "  4  the engine or the database is not reachable, or unavailable" in told
    assert uncoloured(bestex().stdout).strip() == told.strip()


def test_the_version_is_one_line(bestex: Bestex) -> None:
    assert bestex("--version").stdout.startswith("bestex ")
