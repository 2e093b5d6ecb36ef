"""The wallet, the tokens and the simulated world."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bestex.cli.answers import FaultValues, Tokens, Wallet
from bestex.cli.views.text import clean, facts_table, plain_table, styled
from bestex.ports import SimulationStatus


def wallet_view(wallet: Wallet) -> RenderableType:
    table = plain_table("token", "amount", "mint", numbers=frozenset({"amount"}))
    table.columns[2].overflow = "fold"
    for balance in wallet.balances:
        table.add_row(styled(balance.symbol, "bold"), styled(balance.amount), styled(balance.mint, "dim"))
    return Group(Text.assemble(("wallet  ", "bold"), clean(wallet.address)), Text(), table)


def tokens_view(tokens: Tokens) -> RenderableType:
    table = plain_table("token", "decimals", "mint", numbers=frozenset({"decimals"}))
    for token in tokens.data:
        table.add_row(styled(token.symbol, "bold"), str(token.decimals), styled(token.mint))
    return table


def simulation_view(status: SimulationStatus) -> RenderableType:
    facts = facts_table()
    facts.add_row("profile", styled(f"{status.profile}, seed {status.seed}"))
    facts.add_row("slot", f"{status.slot}, finalized {status.finalized_slot}")
    facts.add_row("block height", str(status.block_height))
    facts.add_row("transactions", f"{status.transactions} landed, {status.in_flight} in flight")
    for number, (pair, percent) in enumerate(sorted(status.spreads.items())):
        dearer, cheaper = ("raydium", "meteora") if percent >= 0 else ("meteora", "raydium")
        told = f"{clean(pair):<10} {abs(percent):5.2f} % dearer at {dearer} than at {cheaper}"
        facts.add_row("" if number else "spreads", told)
    return Group(facts, Text("\nfaults", style="bold"), fault_table(status.faults))


def faults_view(faults: FaultValues) -> RenderableType:
    return fault_table(faults.faults)


def fault_table(faults: dict[str, float]) -> Table:
    """Every fault with its probability, its length or its size; what may strike stands out."""
    table = plain_table("fault", "value", numbers=frozenset({"value"}))
    for name, value in faults.items():
        is_size = name.endswith(("_s", "_slots", "_bps"))
        style = "dim" if is_size else "bold red" if value > 0 else ""
        table.add_row(styled(name), f"{value:g}", style=style)
    return table
