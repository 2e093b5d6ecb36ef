"""The examples of the how-to guides: each body behind `<!-- example: name -->`, and the command that says the same."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import msgspec

GUIDES = Path(__file__).parents[2] / "docs" / "how-to" / "orders"
NOT_ORDERS = ("change", "deadman")
"""The examples of other bodies."""

_EXAMPLE = re.compile(r"<!-- example: (\w+) -->\n```json\n(.*?)```\n\n```sh\n(.*?)\n(?=```|\.venv)", re.DOTALL)


class Example(msgspec.Struct, frozen=True):
    name: str
    body: dict[str, Any]
    words: list[str]  # of the command line, without `bestex`


def examples() -> dict[str, Example]:
    """All of them, by name."""
    found = [
        Example(name, json.loads(body), shlex.split(command.replace("\\\n", " "))[1:])
        for guide in sorted(GUIDES.glob("*.md"))
        for name, body, command in _EXAMPLE.findall(guide.read_text(encoding="utf-8"))
    ]
    assert len({example.name for example in found}) == len(found)
    return {example.name: example for example in found}


def order_examples() -> dict[str, Example]:
    return {name: example for name, example in examples().items() if name not in NOT_ORDERS}
