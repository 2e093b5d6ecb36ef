"""Put processes together and run them. The only package that knows which adapter stands behind which port."""

import os
from typing import Final

from bestex.bootstrap.api import ApiProcess
from bestex.bootstrap.inline import InlineProcess
from bestex.bootstrap.launch import launch
from bestex.bootstrap.simnet import SimnetProcess
from bestex.bootstrap.watcher import WatcherProcess
from bestex.bootstrap.worker import WorkerProcess

__all__ = ["run_api", "run_server", "run_simnet", "run_watcher", "run_worker"]

SIMNET_PORT: Final = 4100


def run_server(**overrides: object) -> int:
    """`bestex serve`: run the engine until it is told to stop; the process's exit code."""
    return launch(InlineProcess, **overrides)


def run_api(**overrides: object) -> int:
    """`bestex api`."""
    return launch(ApiProcess, "database_url", **overrides)


def run_worker(**overrides: object) -> int:
    """`bestex worker`."""
    return launch(WorkerProcess, "database_url", **overrides)


def run_watcher(**overrides: object) -> int:
    """`bestex watcher`."""
    return launch(WatcherProcess, "database_url", **overrides)


def run_simnet(**overrides: object) -> int:
    """`bestex simnet`."""
    if "port" not in overrides and "PORT" not in os.environ:
        overrides = overrides | {"port": SIMNET_PORT}
    return launch(SimnetProcess, "database_url", **overrides)
