"""`bestex launches`: new pools, what the filters said of them, and what buying would have made."""

from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

from bestex.cli.answers import LaunchesPage, SeenLaunch, unix_us
from bestex.cli.views.text import age_text, clean, plain_table, styled

_NUMBERS: Final = frozenset({"age", "liquidity", "bought by", "since"})


def launches_view(page: LaunchesPage, now_us: int) -> RenderableType:
    """A table, newest first, and how to get the next page."""
    if not page.data:
        return Text("no launches", style="dim")
    table = plain_table(
        "age", "token", "venue", "liquidity", "verdict", "bought by", "since",
        numbers=_NUMBERS, folding=frozenset({"token", "verdict"}),
    )  # fmt: skip
    for launch in page.data:
        moved = f" from {launch.migrated_from}" if launch.migrated_from is not None else ""
        table.add_row(
            Text(age_text(now_us - unix_us(launch.listed_at)), style="dim"),
            Text.assemble((clean(launch.ticker), "bold"), f"\n{clean(launch.mint)}"),
            styled(launch.venue + moved),
            styled(f"{launch.measured.liquidity} {launch.quote}"),
            _verdicts(launch),
            Text(str(launch.bought_by) if launch.bought_by else ""),
            _since(launch),
        )
    if page.next_cursor is None:
        return table
    return Group(table, Text.assemble(("more: --cursor ", "dim"), clean(page.next_cursor)))


def _verdicts(launch: SeenLaunch) -> Text:
    """One line for each set of filters: the standard ones, then those of orders that wait."""
    lines = []
    for verdict in launch.verdicts:
        whose = "standard" if verdict.orders == 0 else "1 order" if verdict.orders == 1 else f"{verdict.orders} orders"
        if verdict.passed:
            lines.append(Text.assemble(("✔ ", "green"), whose))
            continue
        failed = [f"{check.filter} {check.measured}" for check in verdict.checks if not check.passed]
        lines.append(Text.assemble(("✘ ", "red"), whose, ":", "" if failed else " not yet often enough"))
        lines += [styled(f"  {each}") for each in failed]
    return Text("\n").join(lines)


def _since(launch: SeenLaunch) -> Text:
    if launch.since_listed is None:
        return Text("")
    percent = launch.since_listed.change_percent
    return Text(f"{percent:+.2f} %", style="green" if percent > 0 else "red" if percent < 0 else "")
