"""What each event of an order says, in words: one or more lines for each status."""

from typing import assert_never

import msgspec
from rich.console import RenderableType
from rich.text import Text

from bestex.cli.answers import Update, detail_of
from bestex.cli.views.quotes import quote_reasons, quote_table
from bestex.cli.views.terms import request_text, terms_texts, trigger_text
from bestex.cli.views.text import clean, price_text, slippage_text, styled
from bestex.domain.events import (
    LOST,
    AttemptStory,
    BuildingDetail,
    CancelledDetail,
    ConfirmedDetail,
    Detail,
    ExpiredDetail,
    FailedDetail,
    PendingDetail,
    RoutingDetail,
    SubmittedDetail,
    Trigger,
    WatchingDetail,
)
from bestex.domain.lifecycle import Status
from bestex.domain.order_state import OrderView


class Swap(msgspec.Struct, frozen=True):
    """What is swapped for what: the names that amounts are shown with."""

    token_in: str
    token_out: str
    pair: str


class Step(msgspec.Struct, frozen=True):
    """One event, ready to be shown."""

    seq: int
    status: str
    attempt: int
    at_us: int  # Unix time, microseconds
    detail: Detail | dict[str, object]


def step_of(update: Update) -> Step:
    return Step(update.seq, update.status, update.attempt, update.at_us, detail_of(update))


def swap_of_view(order: OrderView) -> Swap:
    return Swap(order.token_in, order.token_out, order.pair)


def swap_after(swap: Swap | None, step: Step) -> Swap | None:
    """What is known of the swap behind `step`: `pending` names it, and the launch that a sniper fired on."""
    match step.detail:
        case PendingDetail() as pending:
            return Swap(pending.token_in, pending.token_out, pending.pair)
        case RoutingDetail(trigger=Trigger(mint=str() as mint, pair=pair)) if swap is not None:
            return Swap(swap.token_in, mint, pair or swap.pair)
        case _:
            return swap


def step_lines(step: Step, swap: Swap | None, *, quotes: bool = True) -> list[RenderableType]:
    """What the event says; with `quotes`, also the venues side by side."""
    token_in, token_out = (swap.token_in, swap.token_out) if swap is not None else ("", "")
    match step.detail:
        case PendingDetail() as pending:
            return [_pending(pending)]
        case RoutingDetail() as routing:
            return _routing(step, routing, swap, quotes=quotes)
        case BuildingDetail() as building:
            return _building(building, token_out, quotes=quotes)
        case SubmittedDetail() as submitted:
            return _submitted(submitted)
        case ConfirmedDetail() as confirmed:
            return _confirmed(confirmed, swap, token_in, token_out)
        case FailedDetail() as failed:
            return _failed(failed, quotes=quotes)
        case CancelledDetail() as cancelled:
            return _cancelled(cancelled)
        case WatchingDetail() as watching:
            return _watching(watching, token_in, quotes=quotes)
        case ExpiredDetail() as expired:
            given_up = [_given_up(expired.previous)] if expired.previous is not None else []
            return [*given_up, styled(expired.reason)]
        case dict() as unknown:
            return [styled(f"{name}: {value}") for name, value in unknown.items()]
        case _:
            assert_never(step.detail)


def _cancelled(cancelled: CancelledDetail) -> list[RenderableType]:
    by = f"by the {clean(cancelled.by)}"
    previous = cancelled.previous
    if previous is None:
        return [styled(by)]
    return [_given_up(previous), styled(by)]


def _given_up(previous: AttemptStory) -> Text:
    given_up = (f"attempt {previous.attempt} given up: ", "yellow")
    return Text.assemble(given_up, (clean(previous.code), "bold yellow"), " ", clean(previous.message))


def _pending(pending: PendingDetail) -> Text:
    text = styled(request_text(pending))
    text.append(f" · {clean(pending.kind)} · slippage at most {pending.slippage_bps} bps")
    for demand in terms_texts(pending):
        text.append(f" · {clean(demand)}")
    if pending.client_order_id is not None:
        text.append(f" · {clean(pending.client_order_id)}", style="dim")
    return text


def _watching(watching: WatchingDetail, token_in: str, *, quotes: bool) -> list[RenderableType]:
    """Why it waits again, or what changed while it does."""
    lines: list[RenderableType] = []
    if watching.previous is not None:
        lines.append(_given_up(watching.previous))
        lines += _unused_quotes(watching.previous) if quotes else []
    elif watching.reason is not None:
        lines.append(styled(watching.reason, "yellow"))
    if watching.not_before is not None:
        lines.append(styled(f"does not fire again before {watching.not_before}", "dim"))
    if watching.changes is not None:
        changed = msgspec.to_builtins(watching.changes)
        lines.append(styled("changed: " + ", ".join(f"{name} {value}" for name, value in changed.items())))
    if watching.slice is not None:
        part = watching.slice
        lines.append(styled(f"slice {part.number}: {part.amount} {token_in}".rstrip() + f" · {part.order_id}"))
    if watching.cancel_requested:
        lines.append(Text("cancel requested: no further slice will begin", style="yellow"))
    return lines


def _routing(step: Step, routing: RoutingDetail, swap: Swap | None, *, quotes: bool) -> list[RenderableType]:
    lines: list[RenderableType] = []
    if routing.trigger is not None:
        told = trigger_text(routing.trigger, swap.pair if swap is not None else None)
        lines.append(Text.assemble(("fired: ", "bold"), clean(told)))
    previous = routing.previous
    if previous is not None:
        lines.append(_given_up(previous))
        lines += _unused_quotes(previous) if quotes else []
    elif routing.reason is not None:
        lines.append(styled(routing.reason, "yellow"))
    if step.attempt > 1:
        lines.append(Text(f"attempt {step.attempt}", style="bold"))
    return lines


def _unused_quotes(story: AttemptStory) -> list[RenderableType]:
    """The quotes of an attempt that ended before a choice; where there were none, its message says why."""
    if all(quote.amount_out is None for quote in story.quotes):
        return []
    return [quote_table(story.quotes, net=False), *quote_reasons(story.quotes)]


def _building(building: BuildingDetail, token_out: str, *, quotes: bool) -> list[RenderableType]:
    text = Text.assemble(
        (clean(building.venue), "bold"),
        f" pays {clean(building.amount_out)} {clean(token_out)}".rstrip(),
        f" · at least {clean(building.min_amount_out)}",
    )
    if building.wraps_sol:
        text.append(" · wraps SOL", style="dim")
    if not quotes:
        return [text]
    losers = [quote for quote in building.quotes if not quote.chosen]
    return [text, quote_table(building.quotes, net=False), *quote_reasons(losers)]


def _submitted(submitted: SubmittedDetail) -> list[RenderableType]:
    lines: list[RenderableType] = []
    if submitted.signature is not None:
        lines.append(
            Text.assemble(("signature ", "dim"), clean(submitted.signature), no_wrap=True, overflow="ellipsis")
        )
    if submitted.cancel_requested:
        lines.append(Text("cancel requested: no further attempt will be made", style="yellow"))
    if submitted.note is not None:
        lines.append(styled(submitted.note, "dim"))
    return lines


def _confirmed(confirmed: ConfirmedDetail, swap: Swap | None, token_in: str, token_out: str) -> list[RenderableType]:
    lines: list[RenderableType] = []
    if confirmed.amount_out is not None:
        amounts = f"{confirmed.amount_in} {token_in}".rstrip() + " → " + f"{confirmed.amount_out} {token_out}".rstrip()
        price = price_text(confirmed.executed_price or "?", swap.pair if swap is not None else None)
        facts = [
            f"{confirmed.filled_slices} slices filled" if confirmed.filled_slices is not None else None,
            slippage_text(confirmed.slippage_bps) if confirmed.slippage_bps is not None else None,
            f"fee {confirmed.fee_paid} SOL" if confirmed.fee_paid is not None else None,
            confirmed.venue,
        ]
        lines.append(Text.assemble((clean(amounts), "bold green"), clean(f" at {price}")))
        lines.append(styled(" · ".join(fact for fact in facts if fact is not None)))
    if confirmed.commitment == LOST:
        lines.append(Text(f"{LOST} to a fork", style="bold red"))
    elif confirmed.commitment != Status.CONFIRMED:
        lines.append(Text(clean(confirmed.commitment), style="bold"))
    if confirmed.note is not None:
        lines.append(styled(confirmed.note, "dim"))
    return lines


def _failed(failed: FailedDetail, *, quotes: bool) -> list[RenderableType]:
    """The code and the message; of the attempts only the last, for `routing` told of those before it."""
    lines: list[RenderableType] = [Text.assemble((clean(failed.code), "bold red"), " ", clean(failed.message))]
    if failed.attempts:
        last = failed.attempts[-1]
        if last.message != failed.message:
            lines.append(Text.assemble(clean(f"attempt {last.attempt}: "), clean(last.message)))
        lines += _unused_quotes(last) if quotes else []
    if len(failed.attempts) > 1:
        lines.append(Text(f"after {len(failed.attempts)} attempts", style="dim"))
    return lines
