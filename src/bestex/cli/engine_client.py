"""The engine's HTTP API, seen from a client: one request, one answer or one clear error."""

import ipaddress
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, Self, TypeVar
from urllib.parse import quote, urlsplit

import httpx
import msgspec

from bestex.api.problems import Problem
from bestex.cli.answers import decode
from bestex.cli.errors import (
    CommandError,
    EngineUnavailableError,
    ProblemError,
    exit_code_of,
    no_engine,
    problem_code,
)
from bestex.cli.exit_codes import ExitCode
from bestex.ports import Clock

T = TypeVar("T")

CONNECT_TIMEOUT_S: Final = 5.0
ANSWER_TIMEOUT_S: Final = 15.0
RETRY_PAUSES_S: Final = (0.5, 1.0, 2.0)
"""Before each further try at placing an order, unless the engine asks for another pause."""
RETRY_AFTER_MAX_S: Final = 30.0
"""A longer pause than this is left to the person or the script."""

RetryListener = Callable[[EngineUnavailableError, float, int, int], None]
"""Called before a further try: the error, the pause in seconds, which retry it is, and how many there are."""


class Answer(msgspec.Struct, frozen=True):
    """A successful answer's JSON."""

    http_status: int
    raw: bytes

    def read(self, kind: type[T]) -> T:
        return decode(self.raw, kind)


class EngineClient:
    """One engine's API. Use it in an `async with` block."""

    def __init__(self, url: str, clock: Clock, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.url = checked_url(url)
        self._clock = clock
        self._http = httpx.AsyncClient(
            base_url=self.url,
            timeout=httpx.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            trust_env=not is_loopback(self.url),  # no proxy can reach this machine's own addresses
            transport=transport,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def get(self, path: str, query: Mapping[str, str | int | None] | None = None) -> Answer:
        given = {name: value for name, value in (query or {}).items() if value is not None}
        return await self._send("GET", path, query=given)

    async def post(self, path: str, body: Mapping[str, object] | None = None) -> Answer:
        return await self._send("POST", path, body=body)

    async def patch(self, path: str, body: Mapping[str, object]) -> Answer:
        return await self._send("PATCH", path, body=body)

    async def delete(self, path: str, query: Mapping[str, str] | None = None) -> Answer:
        return await self._send("DELETE", path, query=query)

    async def place_order(self, order: Mapping[str, object], idempotency_key: str, on_retry: RetryListener) -> Answer:
        """Post an order, again if need be: the key makes every repetition the same order.

        The `EngineUnavailableError` of the last try has `maybe_done` if any try may have been accepted.
        """
        headers = {"Idempotency-Key": idempotency_key}
        maybe_done = False
        for number, pause_s in enumerate((*RETRY_PAUSES_S, None), start=1):
            try:
                return await self._send("POST", "/api/orders/execute", body=order, headers=headers)
            except EngineUnavailableError as error:
                maybe_done = error.maybe_done = error.maybe_done or maybe_done
                wait_s = pause_s if error.retry_after_s is None else error.retry_after_s
                if pause_s is None or wait_s is None or wait_s > RETRY_AFTER_MAX_S:
                    raise
                on_retry(error, wait_s, number, len(RETRY_PAUSES_S))
                await self._clock.sleep(wait_s)
        raise AssertionError("the last try either answers or raises")

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str | int] | None = None,
        body: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        try:
            response = await self._http.request(method, path, params=query, json=body, headers=headers)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise EngineUnavailableError(no_engine(self.url)) from error
        except httpx.TransportError as error:
            told = f"the engine at {self.url} did not answer: {error or type(error).__name__}"
            raise EngineUnavailableError(told, maybe_done=method != "GET") from error
        if response.is_success:
            return Answer(response.status_code, response.content or b"{}")
        raise self._error(response, maybe_done=method != "GET")

    def _error(self, response: httpx.Response, *, maybe_done: bool) -> CommandError:
        status = response.status_code
        try:
            problem = msgspec.json.decode(response.content, type=Problem)
        except msgspec.DecodeError:
            told = f"{self.url} answered {status} without a problem document: is it a bestex engine?"
            code = exit_code_of(status)
            if code is ExitCode.UNAVAILABLE:
                return EngineUnavailableError(told, maybe_done=maybe_done)
            return CommandError(told, code)
        code_name = problem_code(problem)
        if code_name == "halted":  # nothing was stored, and until a person resumes nothing will be
            return ProblemError(problem)
        if code_name == "key-under-way" or exit_code_of(status) is ExitCode.UNAVAILABLE:
            return EngineUnavailableError(
                problem.detail or problem.title,
                maybe_done=maybe_done and code_name not in ("intake-full", "unavailable"),  # those store nothing
                retry_after_s=_seconds(response.headers.get("Retry-After")),
                problem=problem,
            )
        return ProblemError(problem)


def order_path(order_id: str, part: str = "") -> str:
    """The path of an order, or of a part of it, whatever stands in the id."""
    return f"/api/orders/{quote(order_id, safe='')}{part}"


def checked_url(url: str) -> str:
    """`url` without a trailing slash; `CommandError` when it is not one that can be called."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable:
        raise CommandError(f"{url!r} is not the URL of an engine, such as http://127.0.0.1:4000", ExitCode.REFUSED)
    return url.rstrip("/")


def is_loopback(url: str) -> bool:
    """Whether `url` means this machine itself."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _seconds(retry_after: str | None) -> float | None:
    return float(retry_after) if retry_after is not None and retry_after.isdecimal() else None
