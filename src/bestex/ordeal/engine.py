"""What the engines under fire are told: a hostile world, and their own folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bestex.ordeal.process import Program

HOSTILE: Final = {
    "PROFILE": "realistic",
    "SIM_SLOT_MS": "40",  # ten times the real pace: a blockhash lives for 6 s, so that orders settle within the run
    "RETRY_BASE_MS": "100",
    "LOG_JSON": "true",
}
FAULTS: Final = {
    "quote_timeout": 0.02,
    "venue_down": 0.02,
    "send_error_before": 0.05,
    "send_error_after": 0.05,
    "dropped": 0.05,
    "late_landing": 0.10,
    "lost_status": 0.10,
    "lagging_node": 0.10,
    "pruned_history": 0.05,
    "dying_fork_error": 0.03,
    "price_jump": 0.03,
    "chain_unreachable": 0.0003,
    "fork_after_confirmed": 0.03,
    "feed_gap": 0.02,
    "feed_stale": 0.002,
    "feed_silent": 0.002,
}
"""What goes wrong in the simulated world meanwhile, by its probability."""

FAULT_SIZES: Final = {"chain_unreachable_s": 1.0, "feed_stale_s": 3.0, "feed_silent_s": 1.0}


def hostile_settings(data_dir: Path, seed: int) -> dict[str, str]:
    """A process's settings, as the environment has them."""
    return settings(HOSTILE | {"DATA_DIR": str(data_dir)} | world_settings(seed))


def world_settings(seed: int) -> dict[str, str]:
    """The simulated world's, by their names behind BESTEX_."""
    faults = ",".join(f"{name}={value}" for name, value in (FAULTS | FAULT_SIZES).items())
    return {"SEED": str(seed), "SIM_FAULTS": faults}


def settings(given: Mapping[str, str]) -> dict[str, str]:
    """Settings as the environment has them."""
    return {f"BESTEX_{name}": value for name, value in given.items()}


def engine_alone(data_dir: Path, port: int, seed: int) -> Program:
    """`bestex serve` with a database of its own."""
    return Program(
        name="the engine",
        arguments=("-m", "bestex", "serve"),
        settings=hostile_settings(data_dir, seed) | {"PORT": str(port)},
        ready_url=f"{url_of(port)}/readyz",
    )


def url_of(port: int) -> str:
    return f"http://127.0.0.1:{port}"
