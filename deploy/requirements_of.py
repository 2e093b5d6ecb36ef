"""Which lines of requirements.txt some packages need: what an image installs, of the versions tested together.

    python requirements_of.py requirements.txt bestex > run.txt

Reads the `# via` comments that `make lock` writes. pip proves the answer: with --require-hashes it refuses a
package whose line is missing. It runs before anything is installed, so it imports nothing else.
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

_NAME = re.compile(r"^([a-z0-9-]+)==")
_REQUIRER = re.compile(r"^    #(?: via)? +([a-z0-9][a-z0-9-]*)")  # "# via pydantic", "#   bestex (pyproject.toml)"


@dataclass(frozen=True)
class Pin:
    """One package's lines."""

    name: str
    requirers: frozenset[str]
    text: str


def pins(requirements: str) -> list[Pin]:
    """Every pin of a requirements.txt, in order."""
    blocks: list[list[str]] = []
    for line in requirements.splitlines():
        if _NAME.match(line):
            blocks.append([line])
        elif blocks:
            blocks[-1].append(line)
    return [_pin(block) for block in blocks]


def _pin(lines: list[str]) -> Pin:
    named = _NAME.match(lines[0])
    if named is None:
        raise ValueError(f"not a pin: {lines[0]}")
    requirers = (found.group(1) for line in lines[1:] if (found := _REQUIRER.match(line)))
    return Pin(named.group(1), frozenset(requirers) - {"via"}, "\n".join(lines))


def needed_by(roots: list[str], every: list[Pin]) -> list[Pin]:
    """The pins of `roots` and of all that they need. `ValueError` for a root that nothing names."""
    known = {pin.name for pin in every} | {name for pin in every for name in pin.requirers}
    if unknown := sorted(set(roots) - known):
        raise ValueError(f"no line names {', '.join(unknown)}")
    wanted = set(roots)
    while more := {pin.name for pin in every if pin.requirers & wanted} - wanted:
        wanted |= more
    return [pin for pin in every if pin.name in wanted]


def main() -> int:
    file, *roots = sys.argv[1:]
    for pin in needed_by(roots, pins(Path(file).read_text(encoding="utf-8"))):
        print(pin.text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
