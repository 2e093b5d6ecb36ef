"""Put processes together and run them. The only package that knows which adapter stands behind which port."""

from bestex.bootstrap.inline import InlineProcess
from bestex.bootstrap.launch import launch

__all__ = ["run_server"]


def run_server(**overrides: object) -> int:
    """`bestex serve`: run the engine until it is told to stop; the process's exit code."""
    return launch(InlineProcess, **overrides)
