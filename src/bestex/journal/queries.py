"""The named queries of `sql/queries.sql`, and the other SQL files, as text."""

import re
from importlib import resources
from typing import Final

_NAME: Final = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def sql_text(name: str) -> str:
    """The text of a file of `journal/sql`."""
    return resources.files("bestex.journal").joinpath("sql", name).read_text(encoding="utf-8")


def _named(text: str) -> dict[str, str]:
    parts = _NAME.split(text)
    return {name: query.strip() for name, query in zip(parts[1::2], parts[2::2], strict=True)}


QUERIES: Final = _named(sql_text("queries.sql"))
