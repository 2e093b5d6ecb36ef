"""`bestex health`: whether a part of the engine is ready, for containers and supervisors that ask again and again.

It needs nothing but the standard library: each run is a new process, and there is one every few seconds.
"""

import json
import os
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Annotated, Final
from urllib.parse import urlsplit

import typer

from bestex.cli.exit_codes import ExitCode
from bestex.cli.session import engine_url

ANSWER_BYTES_MAX: Final = 65_536
REASON_BYTES_MAX: Final = 200


def health(
    context: typer.Context,
    alive: Annotated[
        bool, typer.Option("--alive", help="Only whether the process lives: /healthz instead of /readyz.")
    ] = False,
    timeout: Annotated[float, typer.Option(min=0.1, max=60, help="Seconds to wait for the answer.")] = 3.0,
) -> None:
    """Ask a running engine, or a part of it, whether it is ready. Ends with 0 when it is, else with 4.

    It asks --url or BESTEX_URL, else this machine at BESTEX_HEALTH_PORT, which workers and watchers have, else at PORT.
    """
    url = _url(context)
    trouble = _trouble(url, "/healthz" if alive else "/readyz", timeout)
    if trouble is not None:
        typer.echo(f"error: {trouble}", err=True)
        raise typer.Exit(ExitCode.UNAVAILABLE)
    typer.echo("alive" if alive else "ready")


def _url(context: typer.Context) -> str:
    given = context.find_root().params.get("url")
    port = os.environ.get("BESTEX_HEALTH_PORT")
    return f"http://127.0.0.1:{port}" if port and not given else engine_url(context)


def _trouble(url: str, path: str, timeout_s: float) -> str | None:
    """What keeps it from being ready; None when it is."""
    try:
        parts = urlsplit(url)
        secure, host, port = parts.scheme == "https", parts.hostname or "", parts.port
    except ValueError as error:
        raise typer.BadParameter(f"{url!r} is not the URL of an engine: {error}") from error
    if parts.scheme not in ("http", "https") or not host:
        raise typer.BadParameter(f"{url!r} is not the URL of an engine, such as http://127.0.0.1:4000")
    connection = (HTTPSConnection if secure else HTTPConnection)(host, port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read(ANSWER_BYTES_MAX)
    except (OSError, HTTPException) as error:
        return f"{url} does not answer: {error or type(error).__name__}"
    finally:
        connection.close()
    return None if response.status == 200 else f"{url} answers {response.status}: {_reason(body)}"


def _reason(body: bytes) -> str:
    """The reason in a health answer, or what stands there instead of one."""
    try:
        told = json.loads(body)
    except ValueError:
        return body[:REASON_BYTES_MAX].decode(errors="replace").strip() or "nothing more"
    said = told.get("reason") or told.get("status") if isinstance(told, dict) else None
    return said if isinstance(said, str) else "no health document; is it a bestex engine?"
