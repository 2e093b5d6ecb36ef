"""Requests to the engine: one answer or one clear error; an order is repeated only under its one key."""

import json
from collections.abc import Callable

import httpx
import pytest

from bestex.cli.answers import Wallet
from bestex.cli.engine_client import EngineClient, checked_url, is_loopback, order_path
from bestex.cli.errors import CommandError, EngineUnavailableError, ProblemError
from bestex.cli.exit_codes import ExitCode
from tests.unit.cli.recorded import ACCEPTED, INVALID, NOT_FOUND, HastyClock, unavailable

URL = "http://127.0.0.1:4000"
Handler = Callable[[httpx.Request], httpx.Response]
BODY = {"tokenIn": "SOL", "tokenOut": "USDC", "amount": "1.5", "slippageBps": 50}


def client(handler: Handler, clock: HastyClock | None = None) -> EngineClient:
    return EngineClient(URL, clock or HastyClock(), httpx.MockTransport(handler))


class Script:
    """Answers requests one after the other, and keeps them."""

    def __init__(self, *answers: httpx.Response | httpx.TransportError) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, httpx.TransportError):
            raise answer
        return answer


class Retries:
    """Listens to retries."""

    def __init__(self) -> None:
        self.told: list[tuple[str, float, int, int]] = []

    def __call__(self, error: EngineUnavailableError, pause_s: float, number: int, count: int) -> None:
        self.told.append((str(error), pause_s, number, count))


async def place(script: Script, clock: HastyClock | None = None) -> bytes:
    async with client(script, clock) as engine:
        return (await engine.place_order(BODY, "key-1", Retries())).raw


async def test_an_order_is_posted_as_given_with_its_key() -> None:
    script = Script(httpx.Response(202, json=ACCEPTED))
    assert json.loads(await place(script)) == ACCEPTED
    [request] = script.requests
    assert (request.method, request.url.path) == ("POST", "/api/orders/execute")
    assert request.headers["Idempotency-Key"] == "key-1"
    assert request.headers["Content-Type"] == "application/json"
    assert json.loads(request.content) == BODY


@pytest.mark.parametrize(
    "trouble",
    [
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("nothing came"),
        httpx.RemoteProtocolError("cut off"),
        httpx.Response(503, json=unavailable("unavailable")),
        httpx.Response(503, json=unavailable("outcome-unknown")),
        httpx.Response(409, json=unavailable("key-under-way") | {"status": 409}),
        httpx.Response(502, text="a proxy"),
    ],
)
async def test_what_may_pass_is_repeated_with_the_same_key(trouble: httpx.Response | httpx.TransportError) -> None:
    script = Script(trouble, httpx.Response(202, json=ACCEPTED))
    clock = HastyClock()
    assert json.loads(await place(script, clock)) == ACCEPTED
    assert [request.headers["Idempotency-Key"] for request in script.requests] == ["key-1", "key-1"]
    assert clock.slept == [0.5]


async def test_the_engines_retry_after_is_kept_and_told() -> None:
    busy = httpx.Response(503, json=unavailable("intake-full"), headers={"Retry-After": "3"})
    script = Script(busy, httpx.Response(202, json=ACCEPTED))
    clock = HastyClock()
    retries = Retries()
    async with client(script, clock) as engine:
        await engine.place_order(BODY, "key-1", retries)
    assert clock.slept == [3.0]
    assert retries.told == [("503 for intake-full", 3.0, 1, 3)]


async def test_a_pause_longer_than_a_person_waits_is_not_made() -> None:
    busy = httpx.Response(503, json=unavailable("intake-full"), headers={"Retry-After": "3600"})
    clock = HastyClock()
    with pytest.raises(EngineUnavailableError):
        await place(Script(busy), clock)
    assert clock.slept == []


async def test_repetition_ends_and_says_that_nothing_was_ordered() -> None:
    script = Script(*(httpx.ConnectError("refused") for _ in range(4)))
    clock = HastyClock()
    with pytest.raises(EngineUnavailableError, match=r"no engine at http://127\.0\.0\.1:4000: start one") as raised:
        await place(script, clock)
    assert clock.slept == [0.5, 1.0, 2.0]
    assert not raised.value.maybe_done
    assert raised.value.exit_code == ExitCode.UNAVAILABLE


async def test_one_lost_answer_leaves_the_outcome_unknown_whatever_follows() -> None:
    script = Script(httpx.ReadTimeout("nothing came"), *(httpx.ConnectError("refused") for _ in range(3)))
    with pytest.raises(EngineUnavailableError) as raised:
        await place(script)
    assert raised.value.maybe_done


@pytest.mark.parametrize(
    ("code", "maybe_done"), [("intake-full", False), ("unavailable", False), ("outcome-unknown", True)]
)
async def test_a_503_tells_whether_something_may_be_stored(code: str, maybe_done: bool) -> None:
    script = Script(*(httpx.Response(503, json=unavailable(code)) for _ in range(4)))
    with pytest.raises(EngineUnavailableError) as raised:
        await place(script)
    assert raised.value.maybe_done is maybe_done


async def test_a_refused_order_is_not_repeated() -> None:
    script = Script(httpx.Response(422, json=INVALID))
    with pytest.raises(ProblemError) as raised:
        await place(script)
    assert raised.value.exit_code == ExitCode.REFUSED
    assert raised.value.problem is not None
    assert [each.pointer for each in raised.value.problem.errors] == ["/tokenIn", "/amount"]


@pytest.mark.parametrize(
    ("status", "exit_code"),
    [
        (400, ExitCode.REFUSED),
        (404, ExitCode.NOT_FOUND),
        (409, ExitCode.REFUSED),
        (422, ExitCode.REFUSED),
        (500, ExitCode.UNAVAILABLE),
        (503, ExitCode.UNAVAILABLE),
    ],
)
@pytest.mark.parametrize("as_problem", [True, False])
async def test_exit_codes_follow_the_http_status(status: int, exit_code: ExitCode, as_problem: bool) -> None:
    body = json.dumps({**NOT_FOUND, "status": status}) if as_problem else "<html>"
    async with client(Script(httpx.Response(status, text=body))) as engine:
        with pytest.raises(CommandError) as raised:
            await engine.get("/api/wallet")
    assert raised.value.exit_code == exit_code


async def test_queries_leave_out_what_is_not_given() -> None:
    script = Script(httpx.Response(200, json={}))
    async with client(script) as engine:
        await engine.get("/api/orders", {"status": None, "pair": "SOL/USDC", "limit": 5})
    assert script.requests[0].url.query == b"pair=SOL%2FUSDC&limit=5"


async def test_an_answer_of_something_else_is_not_taken_for_the_engines() -> None:
    async with client(Script(httpx.Response(200, text="<html>hello</html>"))) as engine:
        answer = await engine.get("/api/wallet")
    with pytest.raises(CommandError, match="not understood"):
        answer.read(Wallet)


@pytest.mark.parametrize("url", ["", "foo", "ftp://host", "http://", "http://host:99999", "http://[::1"])
def test_a_url_that_cannot_be_called_is_bad_usage(url: str) -> None:
    with pytest.raises(CommandError, match="not the URL of an engine") as raised:
        checked_url(url)
    assert raised.value.exit_code == ExitCode.REFUSED


def test_a_url_may_end_with_a_slash_and_have_a_path() -> None:
    assert checked_url("https://example.com/bestex/") == "https://example.com/bestex"


def test_only_this_machines_own_addresses_are_called_past_proxies() -> None:
    assert all(map(is_loopback, ["http://127.0.0.1:4000", "http://localhost", "http://[::1]:4000"]))
    assert not any(map(is_loopback, ["http://10.0.0.1:4000", "https://example.com"]))


def test_an_order_id_cannot_leave_its_place_in_the_path() -> None:
    assert order_path("../wallet?x", "/history") == "/api/orders/..%2Fwallet%3Fx/history"
