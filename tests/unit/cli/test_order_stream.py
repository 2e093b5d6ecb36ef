"""The stream of one order's updates: each once and in order, whatever happens to the connection."""

import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from websockets.asyncio.server import Server, ServerConnection, serve

from bestex.cli.errors import EngineUnavailableError, ProblemError
from bestex.cli.exit_codes import ExitCode
from bestex.cli.order_stream import RECONNECTS_MAX, OrderStream
from tests.unit.cli.recorded import HAPPY, ORDER_ID, HastyClock

Visit = Callable[[ServerConnection], Any]


def after_of(connection: ServerConnection) -> int:
    assert connection.request is not None
    path, _, query = connection.request.path.partition("?after=")
    assert path == f"/api/orders/{ORDER_ID}/status"
    return int(query)


class ScriptedEngine:
    """A WebSocket server that treats each visit as the script says; it keeps where each visitor began."""

    def __init__(self, *visits: Visit) -> None:
        self.visits = list(visits)
        self.afters: list[int] = []

    async def __call__(self, connection: ServerConnection) -> None:
        self.afters.append(after_of(connection))
        await self.visits.pop(0)(connection)


def history(*updates: dict[str, Any]) -> str:
    return json.dumps({"type": "history", "data": updates})


def live(update: dict[str, Any]) -> str:
    return json.dumps({"type": "update", "data": update})


def says(*messages: str, code: int | None = None, reason: str = "") -> Visit:
    """Send the messages, then close with `code`, or cut the connection."""

    async def visit(connection: ServerConnection) -> None:
        for message in messages:
            await connection.send(message)
        if code is None:
            connection.transport.abort()
        else:
            await connection.close(code, reason)

    return visit


@contextlib.asynccontextmanager
async def serving(engine: ScriptedEngine) -> AsyncIterator[str]:
    async with serve(engine, "127.0.0.1", 0) as server:
        yield url_of(server)


def url_of(server: Server) -> str:
    [socket] = server.sockets
    return f"http://127.0.0.1:{socket.getsockname()[1]}"


class Watched:
    """What a watcher got to see."""

    def __init__(self) -> None:
        self.seqs: list[int] = []
        self.raws: list[Any] = []
        self.troubles: list[str] = []
        self.clock = HastyClock()

    async def watch(self, url: str, after: int = 0, *, engine_seen: bool = False) -> None:
        stream = OrderStream(url, ORDER_ID, self.clock, self.troubles.append, after=after)
        async for update, raw in stream.updates(engine_seen=engine_seen):
            self.seqs.append(update.seq)
            self.raws.append(json.loads(bytes(raw)))


async def watched(engine: ScriptedEngine, after: int = 0) -> Watched:
    watcher = Watched()
    async with serving(engine) as url:
        await watcher.watch(url, after)
    return watcher


async def test_history_and_live_updates_come_as_they_were_sent() -> None:
    watcher = await watched(ScriptedEngine(says(history(*HAPPY[:2]), *map(live, HAPPY[2:]), code=1000)))
    assert watcher.raws == HAPPY
    assert watcher.troubles == []


async def test_a_cut_connection_is_made_again_behind_the_last_update() -> None:
    engine = ScriptedEngine(
        says(history(*HAPPY[:2]), live(HAPPY[2])),
        says(history(HAPPY[3])),
        says(history(HAPPY[4]), code=1000),
    )
    watcher = await watched(engine)
    assert watcher.seqs == [1, 2, 3, 4, 5]
    assert engine.afters == [0, 3, 4]
    assert len(watcher.troubles) == 2


async def test_an_update_that_comes_twice_is_shown_once() -> None:
    engine = ScriptedEngine(says(history(*HAPPY[:3]), live(HAPPY[2]), *map(live, HAPPY[1:]), code=1000))
    assert (await watched(engine)).seqs == [1, 2, 3, 4, 5]


async def test_a_missing_update_is_fetched_before_the_later_ones() -> None:
    engine = ScriptedEngine(
        says(history(*HAPPY[:2]), live(HAPPY[3])),
        says(history(*HAPPY[2:]), code=1000),
    )
    watcher = await watched(engine)
    assert watcher.seqs == [1, 2, 3, 4, 5]
    assert engine.afters == [0, 2]
    assert "update 3 is missing before 4" in watcher.troubles[0]


async def test_an_engine_that_stops_is_waited_for_and_its_reason_told() -> None:
    engine = ScriptedEngine(
        says(history(*HAPPY[:2]), code=1001, reason="the engine is stopping"),
        says(history(*HAPPY[2:]), code=1000),
    )
    watcher = await watched(engine)
    assert watcher.seqs == [1, 2, 3, 4, 5]
    assert watcher.troubles == [f"the engine is stopping; trying again in 0.25 s (1 of {RECONNECTS_MAX})"]


async def test_a_resumed_stream_begins_behind_the_given_update() -> None:
    engine = ScriptedEngine(says(history(*HAPPY[3:]), code=1000))
    assert (await watched(engine, after=3)).seqs == [4, 5]
    assert engine.afters == [3]


async def test_a_stream_with_nothing_behind_after_just_ends() -> None:
    assert (await watched(ScriptedEngine(says(history(), code=1000)), after=5)).seqs == []


@pytest.mark.parametrize(("code", "exit_code"), [(4404, ExitCode.NOT_FOUND), (4422, ExitCode.REFUSED)])
async def test_a_refused_order_id_ends_the_watching(code: int, exit_code: ExitCode) -> None:
    engine = ScriptedEngine(says(code=code, reason="there is no such order"))
    with pytest.raises(ProblemError, match="there is no such order") as raised:
        await watched(engine)
    assert raised.value.exit_code == exit_code
    assert len(engine.afters) == 1


async def test_messages_of_a_newer_engine_are_passed_over() -> None:
    engine = ScriptedEngine(says('{"type":"weather","data":"fair"}', history(*HAPPY), code=1000))
    assert (await watched(engine)).seqs == [1, 2, 3, 4, 5]


async def test_without_an_engine_watching_fails_at_once() -> None:
    watcher = Watched()
    with pytest.raises(EngineUnavailableError, match="no engine at"):
        await watcher.watch(await url_of_nobody())
    assert watcher.clock.slept == []


async def test_an_engine_that_was_there_is_waited_for_but_not_forever() -> None:
    watcher = Watched()
    with pytest.raises(EngineUnavailableError, match=f"gave up after {RECONNECTS_MAX} tries"):
        await watcher.watch(await url_of_nobody(), engine_seen=True)
    assert watcher.clock.slept[:5] == [0.25, 0.5, 1.0, 2.0, 4.0]
    assert len(watcher.clock.slept) == RECONNECTS_MAX
    assert 40 < sum(watcher.clock.slept) < 60


async def test_an_update_resets_the_patience() -> None:
    drops = [says(history(HAPPY[0])), *([says()] * RECONNECTS_MAX)]
    engine = ScriptedEngine(
        *drops[:-1], says(history(HAPPY[1])), *([says()] * (RECONNECTS_MAX - 1)), says(history(*HAPPY[2:]))
    )
    assert (await watched(engine)).seqs == [1, 2, 3, 4, 5]


async def test_another_server_is_not_taken_for_the_engine() -> None:
    async def refuse(connection: ServerConnection, request: Any) -> Any:
        return connection.respond(404, "nothing here\n")

    async with serve(ScriptedEngine(), "127.0.0.1", 0, process_request=refuse) as server:
        with pytest.raises(EngineUnavailableError, match="is it a bestex engine"):
            await Watched().watch(url_of(server))


async def url_of_nobody() -> str:
    """A URL at which nothing listens any more."""
    async with serve(ScriptedEngine(), "127.0.0.1", 0) as server:
        return url_of(server)
