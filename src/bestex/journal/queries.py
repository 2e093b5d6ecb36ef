"""The named queries of `sql/queries.sql` and `sql/archive.sql`, and the other SQL files, as text."""

import re
from hashlib import blake2b
from importlib import resources
from typing import Final

_NAME: Final = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def sql_text(name: str) -> str:
    """The text of a file of `journal/sql`."""
    return resources.files("bestex.journal").joinpath("sql", name).read_text(encoding="utf-8")


def _named(text: str) -> dict[str, str]:
    parts = _NAME.split(text)
    return {name: query.strip() for name, query in zip(parts[1::2], parts[2::2], strict=True)}


FUNCTIONS: Final = sql_text("functions.sql")

APPEND: Final = f"append_{blake2b(FUNCTIONS.encode(), digest_size=4).hexdigest()}"
"""This release's own append function: processes of another release beside this one call theirs."""


def named_append(text: str) -> str:
    """SQL text that names the append function."""
    return text.replace("{append}", APPEND)


_SHOWN: Final = """view, case when view is null then array(
           select row(e.seq, e.status, e.attempt, (extract(epoch from e.at) * 1000000)::bigint, e.detail)
             from bestex.events e where e.order_id = o.id order by e.seq) end as story"""
"""What shows an order o: its view where that stands, else its events, of the same snapshot."""

QUERIES: Final = _named(named_append(sql_text("queries.sql")).replace("{shown}", _SHOWN)) | _named(
    sql_text("archive.sql")
)
