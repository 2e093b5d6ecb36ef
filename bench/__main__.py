"""All benchmarks of the suite, one after the other, then the page of their results. `make bench-all`.

Each runs in a process of its own; one that fails does not keep the others from running.
"""

import argparse
import os
import signal
import subprocess
import sys

from rich.console import Console
from rich.table import Table

from bench import page
from bench.catalogue import BENCHMARKS
from bench.suite import INTERRUPTED


def run(name: str, console: Console) -> int:
    """Run one, whose end is waited for after Ctrl-C too: it ends its own processes."""
    process = subprocess.Popen([sys.executable, "-m", f"bench.{name}"])
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            console.print("Stopping.")
            process.send_signal(signal.SIGINT)


def main() -> int:
    names = [benchmark.name for benchmark in BENCHMARKS]
    parser = argparse.ArgumentParser(prog="python -m bench", description="All benchmarks, then the page of results.")
    parser.add_argument("--quick", action="store_true", help="a short pass, as BENCH_QUICK=1: rough figures")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"only these: {', '.join(names)}")
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - set(names)):
        parser.error(f"no such benchmark: {', '.join(unknown)}")
    if options.quick:
        os.environ["BENCH_QUICK"] = "1"
    console = Console()
    ended = Table("benchmark", "ended")
    failed = False
    for name in options.names or names:
        code = run(name, console)
        if code == INTERRUPTED:
            return code
        failed |= code != 0
        ended.add_row(name, "well" if code == 0 else f"[bold]with {code}[/bold]")
    console.print(ended)
    return page.main() or int(failed)


if __name__ == "__main__":
    sys.exit(main())
