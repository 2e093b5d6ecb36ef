"""An engine of scripted answers on a real port, for whole commands."""

import contextlib
import json
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import uvicorn

START_S = 10.0


class FakeEngine:
    """Answers `"METHOD /path"` from `answers`, and a status WebSocket with `updates`. Keeps what it was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.forget()

    def forget(self) -> None:
        """As new, at the same address."""
        self.answers: dict[str, tuple[int, dict[str, Any]]] = {}
        self.headers: dict[str, str] = {}  # of every answer
        self.updates: list[dict[str, Any]] = []
        self.close_code = 1000
        self.requests: list[tuple[str, dict[str, str], Any]] = []  # method and path with its query, headers, body

    def answer(self, call: str, body: dict[str, Any], status: int = 200) -> None:
        self.answers[call] = (status, body)

    @property
    def calls(self) -> list[str]:
        return [call for call, _, _ in self.requests]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)

    async def _http(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        query = scope["query_string"].decode()
        call = f"{scope['method']} {scope['path']}"
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        asked = call + (f"?{unquote(query)}" if query else "")
        self.requests.append((asked, headers, json.loads(body) if body else None))
        status, answer = self.answers[call]
        given = [(name.encode(), value.encode()) for name, value in self.headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": given})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})

    async def _websocket(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        after = int(scope["query_string"].decode().partition("=")[2])
        updates = [update for update in self.updates if update["seq"] > after]
        await _say(send, {"type": "history", "data": updates[:1]})
        for update in updates[1:]:
            await _say(send, {"type": "update", "data": update})
        await send({"type": "websocket.close", "code": self.close_code})


async def _say(send: Any, message: dict[str, Any]) -> None:
    await send({"type": "websocket.send", "text": json.dumps(message)})


@contextlib.contextmanager
def running_engine() -> Iterator[FakeEngine]:
    engine = FakeEngine()
    config = uvicorn.Config(engine, port=0, lifespan="off", log_config=None, ws="websockets-sansio")
    started = threading.Event()

    class Started(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            started.set()

    server = Started(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert started.wait(START_S), "the fake engine did not start"
    [listening] = server.servers
    engine.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield engine
    finally:
        server.should_exit = True
        thread.join(START_S)
