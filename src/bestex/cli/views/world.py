"""The wallet, the tokens and the simulated world."""

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bestex.cli.answers import FaultValues, LaunchedPool, PriceMove, Tokens, Wallet
from bestex.cli.views.text import clean, facts_table, plain_table, styled
from bestex.ports import SimulationStatus


def wallet_view(wallet: Wallet) -> RenderableType:
    table = plain_table("token", "amount", "mint", numbers=frozenset({"amount"}), folding=frozenset({"mint"}))
    for balance in wallet.balances:
        table.add_row(styled(balance.symbol or "?", "bold"), styled(balance.amount), styled(balance.mint, "dim"))
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
    likely = {name: value for name, value in status.faults.items() if value > 0 and not is_size(name)}
    facts.add_row("faults", "none" if not likely else fault_table(likely))
    if not status.spreads:
        return facts
    spreads = [Text(f"{clean(pair):<10}{percent:+6.2f} %") for pair, percent in sorted(status.spreads.items())]
    heading = Text("\nhow much dearer raydium is than meteora", style="dim")
    return Group(facts, heading, Columns(spreads, padding=(0, 3)))


def price_move_view(move: PriceMove) -> RenderableType:
    base = move.pair.partition("/")[0]
    change = "dearer" if move.percent >= 0 else "cheaper"
    return styled(f"{base} is {abs(move.percent):g} % {change} from now on; `bestex sim reset` takes it back")


def launched_view(launched: LaunchedPool) -> RenderableType:
    """A launched token and what was measured of its pool; what is bad about it stands out."""
    seen = launched.measured
    facts = facts_table()
    facts.add_row("token", styled(f"{launched.ticker}  {launched.name}", "bold"))
    facts.add_row("mint", styled(launched.mint))
    facts.add_row("pool", styled(f"{launched.pool} at {launched.venue}"))
    if launched.migrated_from is not None:
        facts.add_row("moved from", styled(launched.migrated_from))
    facts.add_row("liquidity", styled(f"{seen.liquidity} {launched.quote}"))
    facts.add_row("mint authority", _authority(seen.mint_authority_revoked))
    facts.add_row("freeze authority", _authority(seen.freeze_authority_revoked))
    facts.add_row("LP", f"{_percent(seen.lp_burnt_bps)} burnt, {_percent(seen.lp_locked_bps)} locked")
    facts.add_row("top holders", _percent(seen.top_holders_bps))
    facts.add_row("creator", styled(seen.creator))
    return facts


def _authority(is_revoked: bool) -> Text:
    return styled("revoked") if is_revoked else styled("kept", "bold red")


def _percent(bps: int) -> str:
    return f"{bps / 100:g} %"


def faults_view(faults: FaultValues) -> RenderableType:
    return fault_table(faults.faults)


def fault_table(faults: dict[str, float]) -> Table:
    """Every fault with its probability, its length or its size; what may strike stands out."""
    table = plain_table("fault", "value", numbers=frozenset({"value"}))
    for name, value in faults.items():
        style = "dim" if is_size(name) else "bold red" if value > 0 else ""
        table.add_row(styled(name), f"{value:g}", style=style)
    return table


def is_size(fault: str) -> bool:
    """Whether it says how long or how large a fault is, not how likely."""
    return fault.endswith(("_s", "_slots", "_bps"))
