"""From settings to a running process; what a person is told when that cannot be."""

import os
import sys
from collections.abc import Callable
from typing import Final, TypeVar

import asyncpg
import structlog
import uvloop
from pydantic import ValidationError

from bestex.bootstrap.process import EXIT_FAILED, Process
from bestex.config import Settings, unknown_settings
from bestex.domain.errors import BestexError
from bestex.domain.tokens import TokenRegistry, load_tokens
from bestex.journal.connections import LOST
from bestex.journal.embedded import EmbeddedPostgresError
from bestex.observability import set_up_logging
from bestex.venues.simulated.faults import parse_faults
from bestex.venues.simulated.ledger import LedgerUnavailableError

EXIT_BAD_SETTINGS: Final = 2

_NAMES_OF_HOSTS: Final = ("PORT", "DATABASE_URL", "REDIS_URL")

T = TypeVar("T")

_log = structlog.get_logger("bestex")

MakeProcess = Callable[[Settings, TokenRegistry, dict[str, float]], Process]
"""From settings, the token registry, and the simulated world's faults."""


def launch(make: MakeProcess, *needed: str, **overrides: object) -> int:
    """Run a process until it is told to stop; its exit code. `needed`: settings that it cannot do without."""
    try:
        settings = Settings(**overrides)  # type: ignore[arg-type] # checked by the settings themselves
        for name in needed:
            if getattr(settings, name) is None:
                raise _BadSettingError(f"{shown_name(name)}: this process cannot do without it")
        tokens = _named("BESTEX_TOKENS_FILE", lambda: _tokens(settings))
        faults = _named("BESTEX_SIM_FAULTS", lambda: parse_faults(settings.sim_faults))
    except ValidationError as error:
        for each in error.errors():
            where = f"{shown_name('_'.join(str(part) for part in each['loc']))}: " if each["loc"] else ""
            _complain(f"{where}{each['msg'].removeprefix('Value error, ')}")
        return EXIT_BAD_SETTINGS
    except _BadSettingError as error:
        _complain(str(error))
        return EXIT_BAD_SETTINGS
    set_up_logging(
        settings.log_level, as_json=not sys.stderr.isatty() if settings.log_json is None else settings.log_json
    )
    for name in unknown_settings(os.environ):
        _log.warning("settings.unknown", name=name)

    async def run() -> int:
        return await make(settings, tokens, faults).run()

    try:
        return uvloop.run(run())
    except (EmbeddedPostgresError, LedgerUnavailableError, BestexError) as error:
        _complain(str(error))
    except LOST as error:
        _complain(f"the database at {settings.database_host} cannot be reached: {error or type(error).__name__}")
    except asyncpg.PostgresError as error:
        _complain(f"the database at {settings.database_host} cannot be used: {error}")
    return EXIT_FAILED


def shown_name(field: str) -> str:
    """A setting as the environment has it."""
    name = field.upper()
    return name if name in _NAMES_OF_HOSTS else f"BESTEX_{name}"


def _tokens(settings: Settings) -> TokenRegistry:
    return load_tokens(settings.tokens_file.read_bytes() if settings.tokens_file else None)


def _named(variable: str, read: Callable[[], T]) -> T:
    """What `read` gives; `_BadSettingError` names the variable when it cannot be read."""
    try:
        return read()
    except (OSError, ValueError) as error:
        raise _BadSettingError(f"{variable}: {error}") from error


class _BadSettingError(Exception):
    """A setting that names something else is bad, or one that is needed is missing."""


def _complain(message: str) -> None:
    sys.stderr.write(f"bestex: {message}\n")
