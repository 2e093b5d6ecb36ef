"""What bad input gets from the real server: the right problem, every bad field named, nothing stored, no harm done."""

import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import httpx
import pytest

from tests.support.engine import Json, Served, database_for_module, orders_stored, serving
from tests.support.postgres import PostgresServer

FRONT_END = "https://app.example"
EXECUTE = "/api/orders/execute"
GOOD: Json = {"tokenIn": "SOL", "tokenOut": "USDC", "amount": "0.25"}
JSON_HEADERS = {"Content-Type": "application/json"}
Test = TypeVar("Test", bound=Callable[..., None])
CPU_BOUND_S = 0.1  # generous: the naive reading of 1e999999 takes 30 s


@pytest.fixture(scope="module")
def database(postgres_server: PostgresServer) -> Iterator[str]:
    with database_for_module(postgres_server) as dsn:
        yield dsn


@pytest.fixture(scope="module")
def engine(database: str) -> Iterator[Served]:
    origins = f"{FRONT_END}, http://localhost:5173/"
    with serving(DATABASE_URL=database, CORS_ORIGINS=origins, ALLOWED_HOSTS="engine.example") as served:
        yield served


@pytest.fixture(autouse=True)
def _nothing_is_stored(engine: Served, database: str, request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test here leaves as many orders as it says it stores."""
    before = orders_stored(database)
    yield
    assert orders_stored(database) - before == getattr(request.function, "stores", 0)
    assert engine.http.get("/readyz").status_code == 200


def stores(count: int) -> Callable[[Test], Test]:
    """The test stores so many orders."""

    def mark(test: Test) -> Test:
        test.stores = count  # type: ignore[attr-defined]
        return test

    return mark


def without(field: str) -> Json:
    return {name: value for name, value in GOOD.items() if name != field}


def text(**fields: str) -> str:
    """The good order's JSON with raw JSON text for some fields."""
    parts = {name: json.dumps(value) for name, value in GOOD.items()} | fields
    return "{" + ", ".join(f"{json.dumps(name)}: {value}" for name, value in parts.items()) + "}"


def problem(answer: httpx.Response, status: int, code: str) -> Json:
    """The problem document in an answer of this status and type."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: Json = answer.json()
    assert document["type"] == f"/problems/{code}"
    assert document["status"] == status
    assert document["title"]
    return document


def pointers(document: Json, kind: str = "pointer") -> list[str]:
    assert all(error["detail"] for error in document["errors"])
    return sorted(error[kind] for error in document["errors"])


def post(engine: Served, body: str | bytes, headers: dict[str, str] | None = None) -> httpx.Response:
    return engine.http.post(EXECUTE, content=body, headers=JSON_HEADERS | (headers or {}))


BAD_FIELDS = {
    "unknown token": (text(tokenIn='"DOGE"'), ["/tokenIn"]),
    "a token in the wrong case": (text(tokenIn='"sol"'), ["/tokenIn"]),
    "an unknown mint": (text(tokenOut='"11111111111111111111111111111111"'), ["/tokenOut"]),
    "empty token": (text(tokenIn='""'), ["/tokenIn"]),
    "same token twice": (text(tokenOut='"SOL"'), ["/tokenOut"]),
    "same token as symbol and mint": (
        text(tokenOut='"So11111111111111111111111111111111111111112"'),
        ["/tokenOut"],
    ),
    "no tokenIn": (json.dumps(without("tokenIn")), ["/tokenIn"]),
    "no amount": (json.dumps(without("amount")), ["/amount"]),
    "nothing at all": ("{}", ["/amount", "/tokenIn", "/tokenOut"]),
    "amount zero": (text(amount='"0"'), ["/amount"]),
    "amount zero as a number": (text(amount="0"), ["/amount"]),
    "amount 0.000": (text(amount='"0.000"'), ["/amount"]),
    "amount 0e5": (text(amount="0e5"), ["/amount"]),
    "amount minus zero": (text(amount="-0"), ["/amount"]),
    "amount negative": (text(amount='"-1"'), ["/amount"]),
    "amount negative as a number": (text(amount="-0.5"), ["/amount"]),
    "amount NaN": (text(amount="NaN"), ["/amount"]),
    "amount NaN as text": (text(amount='"NaN"'), ["/amount"]),
    "amount Infinity": (text(amount="Infinity"), ["/amount"]),
    "amount -Infinity": (text(amount="-Infinity"), ["/amount"]),
    "amount Infinity as text": (text(amount='"Infinity"'), ["/amount"]),
    "amount 1e400": (text(amount="1e400"), ["/amount"]),
    "amount 1e400 as text": (text(amount='"1e400"'), ["/amount"]),
    "amount 1e999999": (text(amount="1e999999"), ["/amount"]),
    "amount 1e999999 as text": (text(amount='"1e999999"'), ["/amount"]),
    "amount 1e-999999": (text(amount="1e-999999"), ["/amount"]),
    "amount with an exponent of exponents": (text(amount=f'"1e{"9" * 1000}"'), ["/amount"]),
    "amount 10 decimals of SOL": (text(amount='"0.0000000001"'), ["/amount"]),
    "amount 10 decimals of SOL as a number": (text(amount="1.0000000001"), ["/amount"]),
    "amount 7 decimals of USDC": (text(tokenIn='"USDC"', tokenOut='"SOL"', amount='"0.0000001"'), ["/amount"]),
    "amount of 2^64 base units": (text(amount='"18446744073.709551616"'), ["/amount"]),
    "amount empty": (text(amount='""'), ["/amount"]),
    "amount blank": (text(amount='" 1"'), ["/amount"]),
    "amount hexadecimal": (text(amount='"0x10"'), ["/amount"]),
    "amount with an underscore": (text(amount='"1_000"'), ["/amount"]),
    "amount with a comma": (text(amount='"1,5"'), ["/amount"]),
    "amount in Arabic digits": (text(amount='"\u0661"'), ["/amount"]),
    "amount with a plus": (text(amount='"+1"'), ["/amount"]),
    "amount without whole": (text(amount='".5"'), ["/amount"]),
    "amount with a newline": (text(amount='"1\\n"'), ["/amount"]),
    "amount a boolean": (text(amount="true"), ["/amount"]),
    "amount null": (text(amount="null"), ["/amount"]),
    "amount an array": (text(amount="[1]"), ["/amount"]),
    "amount an object": (text(amount='{"value": 1}'), ["/amount"]),
    "tokenIn a number": (text(tokenIn="1"), ["/tokenIn"]),
    "tokenIn a boolean": (text(tokenIn="true"), ["/tokenIn"]),
    "tokenIn null": (text(tokenIn="null"), ["/tokenIn"]),
    "slippage -1": (text(slippageBps="-1"), ["/slippageBps"]),
    "slippage 10001": (text(slippageBps="10001"), ["/slippageBps"]),
    "slippage 50.5": (text(slippageBps="50.5"), ["/slippageBps"]),
    "slippage 5e1": (text(slippageBps="5e1"), ["/slippageBps"]),
    "slippage text": (text(slippageBps='"50"'), ["/slippageBps"]),
    "slippage a boolean": (text(slippageBps="true"), ["/slippageBps"]),
    "slippage null": (text(slippageBps="null"), ["/slippageBps"]),
    "slippage NaN": (text(slippageBps="NaN"), ["/slippageBps"]),
    "slippage 1e999999": (text(slippageBps="1e999999"), ["/slippageBps"]),
    "kind unknown": (text(kind='"iceberg"'), ["/kind"]),
    "kind in capitals": (text(kind='"MARKET"'), ["/kind"]),
    "kind null": (text(kind="null"), ["/kind"]),
    "kind a number": (text(kind="1"), ["/kind"]),
    "clientOrderId empty": (text(clientOrderId='""'), ["/clientOrderId"]),
    "clientOrderId 65 characters": (text(clientOrderId=f'"{"a" * 65}"'), ["/clientOrderId"]),
    "clientOrderId a number": (text(clientOrderId="7"), ["/clientOrderId"]),
    "clientOrderId with a line break": (text(clientOrderId='"a\\nb"'), ["/clientOrderId"]),
    "unknown field": (text(amuont='"1"'), ["/amuont"]),
    "unknown field with a slash and a tilde": (text(**{"a/b~c": "1"}), ["/a~1b~0c"]),
    "a field in snake case": (text(slippage_bps="1"), ["/slippage_bps"]),
    "a duplicate key": ('{"amount": "1", ' + text()[1:], ["/amount"]),
    "a duplicate unknown key": ('{"x": 1, "x": 2, ' + text()[1:], ["/x", "/x"]),
    "all bad at once": (
        '{"tokenIn": "DOGE", "tokenOut": 5, "amount": -1, "slippageBps": -9, "kind": "", "clientOrderId": "", "z": 1}',
        ["/amount", "/clientOrderId", "/kind", "/slippageBps", "/tokenIn", "/tokenOut", "/z"],
    ),
    **{
        f"a surrogate in {field}": (text(**{field: '"\\ud800"'}), [f"/{field}"])
        for field in ("tokenIn", "tokenOut", "amount", "kind", "clientOrderId")
    },
    **{
        f"NUL in {field}": (text(**{field: '"SOL\\u0000"'}), [f"/{field}"])
        for field in ("tokenIn", "tokenOut", "amount", "kind", "clientOrderId")
    },
    "NUL as a field": (text(**{"\0": "1"}), ["/\0"]),
}


@pytest.mark.parametrize(("body", "expected"), BAD_FIELDS.values(), ids=BAD_FIELDS.keys())
def test_every_bad_field_is_named_by_its_pointer(engine: Served, body: str, expected: list[str]) -> None:
    document = problem(post(engine, body), 422, "validation")
    assert pointers(document) == expected


def test_a_surrogate_in_the_name_of_a_field_is_answered(engine: Served) -> None:
    document = problem(post(engine, text()[:-1] + ', "\\ud800": 1}'), 422, "validation")
    assert len(document["errors"]) == 1


def test_a_very_long_field_name_is_not_sent_back_whole(engine: Served) -> None:
    answer = post(engine, text(**{"x" * 60_000: "1"}))
    problem(answer, 422, "validation")
    assert len(answer.content) < 1_000


def test_thousands_of_unknown_fields_get_a_bounded_answer(engine: Served) -> None:
    answer = post(engine, text(**{f"f{number}": "1" for number in range(4_000)}))
    assert 2 <= len(problem(answer, 422, "validation")["errors"]) <= 100


def test_the_fields_that_exist_are_named_even_behind_thousands_of_unknown_ones(engine: Served) -> None:
    unknown = {f"f{number}": "1" for number in range(4_000)}
    document = problem(post(engine, text(**unknown, amount="-1")), 422, "validation")
    assert "/amount" in [error["pointer"] for error in document["errors"]]


MALFORMED = {
    "an empty body": b"",
    "blanks": b"  \n",
    "a single brace": b"{",
    "a trailing comma": b'{"tokenIn": "SOL",}',
    "two documents": text().encode() * 2,
    "text behind": text().encode() + b"x",
    "single quotes": text().replace('"', "'").encode(),
    "a comment": b"/* */" + text().encode(),
    "invalid UTF-8": text(clientOrderId='"é"').encode("latin-1"),
    "an overlong UTF-8 sequence": text().encode().replace(b"SOL", b"\xc0\xaf"),
    "a surrogate in UTF-8": text().encode().replace(b"SOL", b"\xed\xa0\x80"),
    "UTF-16": text().encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + text().encode(),
    "a raw NUL": text().encode().replace(b"SOL", b"S\0L"),
    "a raw line break in a string": text().encode().replace(b"SOL", b"S\nL"),
    "a number with a leading zero": text(amount="01").encode(),
    "a number with a plus": text(amount="+1").encode(),
    "a hexadecimal number": text(amount="0x1").encode(),
    "arrays nested deeply": b"[" * 60_000,
    "closed arrays nested deeply": b"[" * 30_000 + b"]" * 30_000,
    "objects nested deeply": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "a field nested deeply": text(amount="[" * 30_000 + "]" * 30_000).encode(),
    "form data": b"tokenIn=SOL&tokenOut=USDC",
    "gzip": b"\x1f\x8b\x08\x00",
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_no_json_is_a_bad_request(engine: Served, body: bytes) -> None:
    document = problem(post(engine, body), 400, "malformed-json")
    assert document["detail"]


@pytest.mark.parametrize("body", ["[]", '"SOL"', "null", "1", "true", "NaN", f"[{text()}]"])
def test_what_is_no_object_is_named_at_the_root(engine: Served, body: str) -> None:
    assert pointers(problem(post(engine, body), 422, "validation")) == [""]


def cpu_of(engine: Served, requests: Callable[[], None]) -> float:
    before = engine.cpu_s()
    requests()
    return engine.cpu_s() - before


@pytest.mark.parametrize(
    "body",
    [
        text(amount="1e999999"),
        text(amount='"1e999999"'),
        text(amount="1e-999999"),
        text(amount="9" * 65_000),
        text(amount='"' + "9" * 65_000 + '"'),
        text(amount='"0.' + "0" * 65_000 + '1"'),
        text(amount="1e" + "9" * 65_000),
        text(slippageBps="9" * 65_000),
        text(slippageBps="1e999999"),
        text(tokenIn='"' + "z" * 65_000 + '"'),
        text(clientOrderId='"' + "z" * 65_000 + '"'),
        "[" * 65_000,
        "{" + ",".join(f'"{number}":1' for number in range(6_000)) + "}",
        "{" + ",".join(['"a":1'] * 10_000) + "}",
    ],
    ids=lambda body: f"{body[:1]}{body[-60:][:40]}",
)
def test_costly_input_is_answered_at_once(engine: Served, body: str) -> None:
    def ten_times() -> None:
        for _ in range(10):
            began = time.monotonic()
            assert post(engine, body).status_code in (400, 422)
            assert time.monotonic() - began < 1

    assert cpu_of(engine, ten_times) < 10 * CPU_BOUND_S


def test_a_body_over_64_kib_is_refused(engine: Served) -> None:
    padded = text()[:-1] + " " * 70_000 + "}"
    problem(post(engine, padded), 413, "body-too-large")


@stores(1)
def test_a_body_of_exactly_64_kib_is_read(engine: Served) -> None:
    good = text(clientOrderId='"exactly 64 KiB"')
    padded = good[:-1] + " " * (65_536 - len(good)) + "}"
    assert len(padded) == 65_536
    assert post(engine, padded).status_code == 202
    problem(post(engine, padded + " "), 413, "body-too-large")


def test_an_endless_chunked_body_is_refused(engine: Served) -> None:
    chunks = (b" " * 8_000 for _ in range(1_000))
    answer = engine.http.post(EXECUTE, content=chunks, headers=JSON_HEADERS)
    problem(answer, 413, "body-too-large")


@stores(1)
def test_a_chunked_body_is_read(engine: Served) -> None:
    chunks = (bytes([byte]) for byte in text().encode())
    assert engine.http.post(EXECUTE, content=chunks, headers=JSON_HEADERS).status_code == 202


MEDIA_TYPES = [
    None,
    "",
    "text/plain",
    "text/json",
    "application/jsonp",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/json; charset=latin-1",
    "application/json; charset=utf-16",
    "text/plain; application/json",
    "application/problem+json",
    "application/json, text/plain",
]


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
@pytest.mark.parametrize(
    ("method", "path"), [("POST", EXECUTE), ("POST", "/api/sim/fund"), ("PATCH", "/api/sim/faults")]
)
def test_another_content_type_is_refused(engine: Served, method: str, path: str, media_type: str | None) -> None:
    headers = {} if media_type is None else {"Content-Type": media_type}
    answer = engine.http.request(method, path, content=text(), headers=headers)
    problem(answer, 415, "unsupported-media-type")


@stores(3)
@pytest.mark.parametrize(
    "media_types", [("application/json; charset=utf-8", "Application/JSON", 'application/json;charset="UTF-8"')]
)
def test_json_by_any_of_its_names_is_read(engine: Served, media_types: list[str]) -> None:
    for media_type in media_types:
        assert post(engine, text(), {"Content-Type": media_type}).status_code == 202


def test_two_content_types_are_not_believed(engine: Served) -> None:
    headers = [("Content-Type", "text/plain"), ("Content-Type", "application/json")]
    problem(engine.http.post(EXECUTE, content=text(), headers=headers), 415, "unsupported-media-type")


# --- Headers


@pytest.mark.parametrize("key", ["", "a\tb", "é", "x" * 256])
def test_a_bad_idempotency_key_is_named(engine: Served, key: str) -> None:
    headers = {**JSON_HEADERS, "Idempotency-Key": key.encode("latin-1")}
    answer = engine.http.post(EXECUTE, content=text(), headers=headers)  # type: ignore[arg-type]
    assert pointers(problem(answer, 422, "validation"), "header") == ["Idempotency-Key"]


def test_two_idempotency_keys_are_refused(engine: Served) -> None:
    headers = [*JSON_HEADERS.items(), ("Idempotency-Key", "one"), ("Idempotency-Key", "two")]
    answer = engine.http.post(EXECUTE, content=text(), headers=headers)
    assert pointers(problem(answer, 422, "validation"), "header") == ["Idempotency-Key"]


@stores(1)
def test_a_second_order_under_a_key_is_refused(engine: Served) -> None:
    key = {"Idempotency-Key": "a key of this test"}
    assert post(engine, text(), key).status_code == 202
    problem(post(engine, text(amount='"0.5"'), key), 422, "key-reused")


HOSTS = {
    "127.0.0.1": 200,
    "127.0.0.1:1": 200,
    "localhost": 200,
    "LOCALHOST:99": 200,
    "[::1]": 200,
    "[::1]:4000": 200,
    "engine.example": 200,
    "engine.example:4000": 200,
    "evil.example": 403,
    "localhost.evil.example": 403,
    "127.0.0.1.evil.example": 403,
    "evil.example:127.0.0.1": 403,
    "0.0.0.0": 403,
    "[::1": 403,
    "[::2]": 403,
    "": 403,
    "user@127.0.0.1": 403,
    "127.0.0.1 ,evil.example": 403,
}


@pytest.mark.parametrize(("host", "status"), HOSTS.items())
@pytest.mark.parametrize("path", ["/api/tokens", EXECUTE, "/api/events", "/healthz", "/schema/openapi.json"])
def test_only_the_engines_own_hosts_are_answered(engine: Served, path: str, host: str, status: int) -> None:
    if path == EXECUTE:
        body = text(tokenIn='"DOGE"')
        answer = engine.http.post(path, content=body, headers=JSON_HEADERS | {"Host": host})
        assert answer.status_code == (422 if status == 200 else 403)
    else:
        with engine.http.stream("GET", path, headers={"Host": host}) as answer:
            assert answer.status_code == status
            if status == 403:
                answer.read()
    if status == 403:
        problem(answer, 403, "foreign-host")


FOREIGN_ORIGINS = [
    "https://evil.example",
    "null",
    "",
    f"{FRONT_END}.evil.example",
    f"{FRONT_END}:8443",
    "http://app.example",
    f"{FRONT_END}/",
    "HTTPS://APP.EXAMPLE",
    "http://localhost:5174",
    "file://",
    f"{FRONT_END}, https://evil.example",
]


@pytest.mark.parametrize("origin", FOREIGN_ORIGINS)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "DELETE", "HEAD"])
def test_a_foreign_page_may_do_nothing(engine: Served, method: str, origin: str) -> None:
    answer = engine.http.request(method, EXECUTE, headers={**JSON_HEADERS, "Origin": origin}, content=text())
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers
    if method != "HEAD":
        problem(answer, 403, "foreign-origin")


@stores(4)
def test_the_own_page_and_named_front_ends_may_order(engine: Served) -> None:
    own = f"http://127.0.0.1:{engine.port}"
    for origin in (own, f"https://127.0.0.1:{engine.port}", FRONT_END, "http://localhost:5173"):
        answer = post(engine, text(), {"Origin": origin})
        assert answer.status_code == 202
        assert answer.headers["access-control-allow-origin"] == origin
        assert answer.headers["vary"].lower() == "origin"
        assert "location" in answer.headers["access-control-expose-headers"].lower()


@pytest.mark.parametrize("path", [EXECUTE, "/api/orders/x", "/api/events", "/nowhere"])
def test_a_preflight_of_a_named_front_end_is_granted(engine: Served, path: str) -> None:
    headers = {"Origin": FRONT_END, "Access-Control-Request-Method": "POST"}
    answer = engine.http.options(path, headers=headers)
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == FRONT_END
    allowed = answer.headers["access-control-allow-headers"].lower()
    assert {"content-type", "idempotency-key", "last-event-id"} <= set(allowed.split(", "))
    assert "DELETE" in answer.headers["access-control-allow-methods"]
    assert "access-control-allow-credentials" not in answer.headers


def test_errors_reach_a_named_front_end(engine: Served) -> None:
    answer = post(engine, "{}", {"Origin": FRONT_END})
    problem(answer, 422, "validation")
    assert answer.headers["access-control-allow-origin"] == FRONT_END


# --- Paths, methods, parameters


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", EXECUTE, "POST"),
        ("PUT", EXECUTE, "POST"),
        ("PUT", "/api/orders", "DELETE"),
        ("PUT", "/api/deadman", "POST"),
        ("POST", "/api/launches", "GET"),
        ("POST", "/api/orders", "GET"),
        ("POST", "/api/quotes", "GET"),
        ("POST", "/api/events", "GET"),
        ("DELETE", "/api/events", "GET"),
        ("POST", "/healthz", "GET"),
        ("POST", "/schema", "GET"),
        ("GET", "/api/sim/fund", "POST"),
        ("PUT", "/api/orders/00000000-0000-7000-8000-000000000000", "PATCH"),
    ],
)
def test_another_method_is_refused_with_those_that_are_allowed(
    engine: Served, method: str, path: str, allowed: str
) -> None:
    answer = engine.http.request(method, path, headers=JSON_HEADERS)
    problem(answer, 405, "method-not-allowed")
    assert allowed in answer.headers["allow"].split(", ")


@pytest.mark.parametrize(
    "path",
    [
        "/nowhere",
        "/api",
        "/api/order",
        "/api/orders/x/y",
        "/problems/none",
        "/assets/swagger-ui/none.js",
        "/%00",
        "/..%2f",
    ],
)
def test_what_is_not_there_is_not_found(engine: Served, path: str) -> None:
    problem(engine.http.get(path), 404, "not-found")


@pytest.mark.parametrize("path", ["/assets/swagger-ui/..%2f..%2f__init__.py", "/assets/swagger-ui/%2e%2e/%2e%2e/x"])
def test_assets_do_not_lead_elsewhere(engine: Served, path: str) -> None:
    assert raw_request(engine, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())[0] == 404


@stores(1)
def test_a_slash_behind_the_path_is_the_same_path(engine: Served) -> None:
    assert engine.http.get("/api/orders/").status_code == 200
    answer = engine.http.post(f"{EXECUTE}/", json=GOOD)
    assert answer.status_code in (202, 404), answer.text
    if answer.status_code == 404:
        assert engine.http.post(EXECUTE, json=GOOD).status_code == 202


def test_options_without_an_origin_is_answered(engine: Served) -> None:
    for path in (EXECUTE, "/api/orders", "/api/events", "/"):
        assert engine.http.options(path).status_code in (200, 204, 404, 405)


def test_head_answers_without_a_body(engine: Served) -> None:
    for path in ("/", "/healthz", "/api/orders", "/nowhere", EXECUTE, "/api/events"):
        answer = engine.http.head(path)
        assert answer.status_code < 500
        assert answer.content == b""


BAD_IDS = [
    "x",
    "1",
    "0" * 36,
    "00000000-0000-7000-8000-00000000000",
    "00000000-0000-7000-8000-000000000000x",
    "%00",
    "00000000_0000_7000_8000_000000000000",
    "{00000000-0000-7000-8000-000000000000}",
    "%F0%9F%92%A9",
    "\u0660" * 8 + "-0000-7000-8000-000000000000",
    "00000000-0000-7000-8000-000000000000%0a",
]


@pytest.mark.parametrize("order_id", BAD_IDS)
@pytest.mark.parametrize(("method", "suffix"), [("GET", ""), ("GET", "/history"), ("GET", "/receipt"), ("DELETE", "")])
def test_a_malformed_id_is_refused(engine: Served, method: str, suffix: str, order_id: str) -> None:
    problem(engine.http.request(method, f"/api/orders/{order_id}{suffix}"), 422, "malformed-id")


@pytest.mark.parametrize(("method", "suffix"), [("GET", ""), ("GET", "/history"), ("GET", "/receipt"), ("DELETE", "")])
def test_an_unknown_order_is_not_found(engine: Served, method: str, suffix: str) -> None:
    path = f"/api/orders/00000000-0000-7000-8000-000000000000{suffix}"
    problem(engine.http.request(method, path), 404, "order-not-found")


BAD_QUERIES = {
    "/api/orders?status=done": ["status"],
    "/api/orders?status=": ["status"],
    "/api/orders?status=CONFIRMED": ["status"],
    "/api/orders?kind=iceberg": ["kind"],
    "/api/orders?limit=0": ["limit"],
    "/api/orders?limit=-1": ["limit"],
    "/api/orders?limit=501": ["limit"],
    "/api/orders?limit=ten": ["limit"],
    "/api/orders?limit=1e1": ["limit"],
    "/api/orders?limit=" + "9" * 5000: ["limit"],
    "/api/orders?limit=%D9%A1": ["limit"],
    "/api/orders?cursor=x": ["cursor"],
    "/api/orders?cursor=": ["cursor"],
    "/api/orders?cursor=%00": ["cursor"],
    "/api/orders?pair=%00": ["pair"],
    "/api/orders?pair=" + "x" * 1000: ["pair"],
    "/api/orders?page=2": ["page"],
    "/api/orders?status=x&limit=0&cursor=x&kind=x&pair=%00&y=1": ["cursor", "kind", "limit", "pair", "status", "y"],
    "/api/quotes": ["amount", "tokenIn", "tokenOut"],
    "/api/quotes?tokenIn=SOL&tokenOut=SOL&amount=0": ["amount", "tokenOut"],
    "/api/quotes?tokenIn=DOGE&tokenOut=USDC&amount=1e999999": ["amount", "tokenIn"],
    "/api/quotes?tokenIn=SOL&tokenOut=USDC&amount=1&x=1": ["x"],
    "/api/events?after=-1": ["after"],
    "/api/events?after=x": ["after"],
    "/api/events?after=": ["after"],
    "/api/events?after=" + "9" * 30: ["after"],
}


@pytest.mark.parametrize(("path", "expected"), BAD_QUERIES.items(), ids=lambda value: str(value)[:60])
def test_every_bad_parameter_is_named(engine: Served, path: str, expected: list[str]) -> None:
    assert pointers(problem(engine.http.get(path), 422, "validation"), "parameter") == expected


@pytest.mark.parametrize(
    "path",
    [
        "/api/orders?limit=1&limit=2",
        "/api/orders?status=failed&status=failed",
        "/api/quotes?tokenIn=SOL&tokenIn=RAY&tokenOut=USDC&amount=1",
        "/api/events?after=0&after=1",
    ],
)
def test_a_parameter_that_stands_twice_is_refused(engine: Served, path: str) -> None:
    problem(engine.http.get(path), 422, "validation")


@pytest.mark.parametrize("path", ["/api/orders", "/api/quotes", "/api/events"])
def test_hundreds_of_parameters_are_refused(engine: Served, path: str) -> None:
    query = "&".join(f"p{number}=1" for number in range(500))
    problem(engine.http.get(f"{path}?{query}"), 422, "validation")


@pytest.mark.parametrize("last_id", ["x", "-1", "1.5", "9" * 30, "1 2"])
def test_a_bad_last_event_id_is_refused(engine: Served, last_id: str) -> None:
    document = problem(engine.http.get("/api/events", headers={"Last-Event-ID": last_id}), 422, "validation")
    assert len(document["errors"]) == 1


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("{}", ["/amount", "/token"]),
        ('{"token": "DOGE", "amount": "-1", "x": 1}', ["/amount", "/token", "/x"]),
        ('{"token": "SOL", "amount": "18446744073.709551615"}', ["/amount"]),
    ],
)
def test_bad_funding_is_refused(engine: Served, body: str, expected: list[str]) -> None:
    before = engine.balances()
    answer = engine.http.post("/api/sim/fund", content=body, headers=JSON_HEADERS)
    assert pointers(problem(answer, 422, "validation")) == expected
    assert engine.balances() == before


@pytest.mark.parametrize(
    "body",
    [
        '{"quote_timeout": 2}',
        '{"quote_timeout": -0.5}',
        '{"quote_timeout": NaN}',
        '{"quote_timeout": Infinity}',
        '{"quote_timeout": 1e999}',
        '{"quote_timeout": "1"}',
        '{"quote_timeout": true}',
        '{"no_such_fault": 1}',
        '{"no\\ud800such": 1}',
        '{"dropped": 1, "no_such_fault": 1}',
        '{"dropped": 1, "dropped": 0}',
        '{"late_landing_slots": -1}',
        '{"chain_unreachable_s": NaN}',
        "[]",
    ],
)
def test_bad_faults_change_nothing(engine: Served, body: str) -> None:
    before = engine.http.get("/api/sim/faults").json()
    problem(engine.http.patch("/api/sim/faults", content=body, headers=JSON_HEADERS), 422, "validation")
    assert engine.http.get("/api/sim/faults").json() == before


def test_other_bodies_are_bounded_too(engine: Served) -> None:
    body = b'{"token": "SOL", "amount": "1"' + b" " * 70_000 + b"}"
    problem(engine.http.post("/api/sim/fund", content=body, headers=JSON_HEADERS), 413, "body-too-large")
    problem(engine.http.patch("/api/sim/faults", content=body, headers=JSON_HEADERS), 413, "body-too-large")


# --- The connection itself


def raw(engine: Served, data: bytes, *, answers: int = 1, timeout_s: float = 10.0) -> bytes:
    """What the server says to these bytes, until it has closed or given so many status lines."""
    with socket.create_connection(("127.0.0.1", engine.port), timeout=timeout_s) as connection:
        connection.sendall(data)
        said = b""
        while chunk := connection.recv(65_536):
            said += chunk
            if said.count(b"HTTP/1.1 ") >= answers and said.endswith(b"}"):
                break
        return said


def raw_request(engine: Served, data: bytes) -> tuple[int, bytes]:
    said = raw(engine, data.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
    return int(said.split(b" ", 2)[1]), said


def request_bytes(body: bytes, *headers: str, length: int | None = None) -> bytes:
    lines = [
        f"POST {EXECUTE} HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/json",
        f"Content-Length: {len(body) if length is None else length}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@stores(20)
def test_pipelined_orders_are_answered_in_their_order(engine: Served) -> None:
    bodies = [text(clientOrderId=f'"pipelined {number}"').encode() for number in range(20)]
    said = raw(engine, b"".join(map(request_bytes, bodies)), answers=20)
    assert said.count(b"HTTP/1.1 202 ") == 20
    ids = [line.split(b"/")[-1].strip().decode() for line in said.splitlines() if line.lower().startswith(b"location:")]
    names = [engine.view(order_id)["clientOrderId"] for order_id in ids]
    assert names == [f"pipelined {number}" for number in range(20)]


@stores(2)
def test_a_bad_request_between_good_ones_spoils_neither(engine: Served) -> None:
    data = request_bytes(text().encode()) + request_bytes(b"{}") + request_bytes(text().encode())
    said = raw(engine, data, answers=3)
    assert re.findall(rb"HTTP/1\.1 (\d+) ", said) == [b"202", b"422", b"202"]


def test_a_body_shorter_than_announced_stores_nothing(engine: Served) -> None:
    body = text().encode()
    with socket.create_connection(("127.0.0.1", engine.port), timeout=10) as connection:
        connection.sendall(request_bytes(body, length=len(body) + 10))
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(2)
        said = b""
        try:
            while chunk := connection.recv(65_536):
                said += chunk
        except TimeoutError:
            pass
    assert b"202" not in said


def test_a_body_longer_than_announced_is_not_an_order(engine: Served) -> None:
    body = text().encode()
    said = raw(engine, request_bytes(body, length=len(body) - 1))
    assert b" 400 " in said
    assert b" 202 " not in said


@pytest.mark.parametrize(
    "header_lines",
    [
        ("Content-Length: 5",),
        ("Transfer-Encoding: chunked",),
        ("Transfer-Encoding: xchunked",),
    ],
)
def test_lengths_that_contradict_each_other_are_refused(engine: Served, header_lines: tuple[str, ...]) -> None:
    said = raw(engine, request_bytes(text().encode(), *header_lines))
    assert said.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("length", ["-1", "1e3", "0x10", "99999999999999999999999", " ", "1 1"])
def test_a_content_length_that_is_no_number_is_refused(engine: Served, length: str) -> None:
    data = request_bytes(b"").replace(b"Content-Length: 0", f"Content-Length: {length}".encode())
    assert raw(engine, data).startswith(b"HTTP/1.1 400 ")


def test_a_huge_announced_body_is_refused_before_it_is_sent(engine: Served) -> None:
    said = raw(engine, request_bytes(b"x", length=10**12))
    assert b" 413 " in said


@pytest.mark.parametrize(
    "data", [b"\x16\x03\x01\x02\x00\x01", b"\0" * 100, b"GET\r\n\r\n", b"\r\n" * 50 + b"x\r\n\r\n"]
)
def test_what_is_no_http_is_refused(engine: Served, data: bytes) -> None:
    assert raw(engine, data).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "head",
    [
        b"X-Big: " + b"x" * 5_000_000,
        b"".join(b"X-%d: y\r\n" % number for number in range(100_000)) + b"Z: z",
        b"Cookie: " + b"x" * 300_000,
    ],
    ids=["one header of 5 MB", "100,000 headers", "a cookie of 300 kB"],
)
def test_a_huge_header_is_refused_and_not_kept(engine: Served, head: bytes) -> None:
    data = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n" + head + b"\r\n\r\n"
    assert refused_or_cut(engine, data)


def test_an_endless_request_line_is_refused(engine: Served) -> None:
    assert refused_or_cut(engine, b"GET /" + b"x" * 5_000_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")


def refused_or_cut(engine: Served, data: bytes) -> bool:
    """Whether the server answers 4xx, or cuts the connection before it has taken everything."""
    with socket.create_connection(("127.0.0.1", engine.port), timeout=10) as connection:
        try:
            connection.sendall(data)
            said = connection.recv(65_536)
        except (ConnectionError, BrokenPipeError):
            return True
    return said == b"" or said.split(b" ")[1].startswith(b"4")


def test_a_request_that_expects_to_continue_is_told_so(engine: Served) -> None:
    body = b'{"tokenIn": "DOGE"}'
    with socket.create_connection(("127.0.0.1", engine.port), timeout=10) as connection:
        connection.sendall(request_bytes(body, "Expect: 100-continue")[: -len(body)])
        assert connection.recv(65_536).startswith(b"HTTP/1.1 100 ")
        connection.sendall(body)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 422 ")


def test_clients_that_vanish_in_the_middle_do_no_harm(engine: Served) -> None:
    data = request_bytes(text().encode())
    for cut in range(1, len(data), 7):
        with socket.create_connection(("127.0.0.1", engine.port), timeout=10) as connection:
            connection.sendall(data[:cut])
    assert engine.http.get("/healthz").status_code == 200


def test_bad_input_from_many_at_once_is_refused_each_for_its_own(engine: Served) -> None:
    cases = [*BAD_FIELDS.values()] * 3

    def ask(case: tuple[str, list[str]]) -> bool:
        answer = post(engine, case[0])  # each on a connection of its own
        return answer.status_code == 422 and pointers(answer.json()) == case[1]

    with ThreadPoolExecutor(8) as clients:
        assert all(clients.map(ask, cases))


# --- The operator


@pytest.mark.parametrize(
    ("body", "headers", "code", "pointers"),
    [
        (b'{"reason":"a\\u0000b"}', JSON_HEADERS, "validation", ["/reason"]),
        (b'{"reason":5}', JSON_HEADERS, "validation", ["/reason"]),
        (b'{"raeson":"x"}', JSON_HEADERS, "validation", [""]),
        (b"[]", JSON_HEADERS, "validation", [""]),
        (b'{"reason":"\xff"}', JSON_HEADERS, "malformed-json", []),
        (b"{", JSON_HEADERS, "malformed-json", []),
        (b"{}", {"Content-Type": "text/plain"}, "unsupported-media-type", []),
        (b"{}", JSON_HEADERS | {"Origin": "https://elsewhere.example"}, "foreign-origin", []),
    ],
)
def test_a_bad_halt_halts_nothing(
    engine: Served, body: bytes, headers: dict[str, str], code: str, pointers: list[str]
) -> None:
    answer = engine.http.post("/api/operator/halt", content=body, headers=headers)
    problem = answer.json()
    assert problem["type"] == f"/problems/{code}"
    assert [each["pointer"] for each in problem.get("errors", [])] == pointers
    assert engine.http.get("/api/operator").json()["halted"] is False
