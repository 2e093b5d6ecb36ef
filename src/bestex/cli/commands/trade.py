"""`bestex order`, `watch`, `cancel`: what an order goes through."""

from typing import TYPE_CHECKING, Annotated

import typer

from bestex.cli.exit_codes import ExitCode
from bestex.cli.session import Amount, AsJson, OrderId, TokenIn, TokenOut, run

if TYPE_CHECKING:
    from bestex.cli.engine_client import Answer, EngineClient
    from bestex.cli.errors import EngineUnavailableError
    from bestex.cli.terminal import Terminal


def order(
    context: typer.Context,
    token_in: TokenIn,
    token_out: TokenOut,
    amount: Amount,
    slippage_bps: Annotated[
        int, typer.Option(help="How much less than quoted the swap may pay, in basis points.")
    ] = 50,
    client_order_id: Annotated[str | None, typer.Option(help="Your own id for the order, used once.")] = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option(help="Repeating the command with the same key orders once.", show_default="a new one"),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Stay and draw the order's timeline to its end.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Swap AMOUNT of TOKEN_IN into TOKEN_OUT at the best venue.

    Lost answers are safe: the order is posted again under the same idempotency key, which never orders twice.
    """
    body: dict[str, object] = {
        "tokenIn": token_in,
        "tokenOut": token_out,
        "amount": amount,
        "slippageBps": slippage_bps,
    }
    if client_order_id is not None:
        body["clientOrderId"] = client_order_id

    async def command(engine: "EngineClient", terminal: "Terminal") -> ExitCode | None:
        from bestex.ambient import SystemClock, SystemIds
        from bestex.cli.answers import Accepted
        from bestex.cli.watching import watch_order

        key = idempotency_key or SystemIds().order_id()
        answer = await _place(engine, terminal, body, key)
        accepted = answer.read(Accepted)
        terminal.if_interrupted = f"the order goes on; to follow it: bestex watch {accepted.order_id}"
        if watch:
            return await watch_order(engine, terminal, SystemClock(), accepted.order_id, engine_seen=True)
        if terminal.as_json:
            terminal.json(answer.raw)
        else:
            terminal.say(f"order {accepted.order_id} {accepted.status}")
            if terminal.out.is_terminal:
                terminal.say(f"to follow it: bestex watch {accepted.order_id}")
        return None

    run(context, as_json, command)


async def _place(engine: "EngineClient", terminal: "Terminal", body: dict[str, object], key: str) -> "Answer":
    """Post the order; when it stays unknown whether it was accepted, say how to find out."""
    from bestex.cli.errors import EngineUnavailableError

    find_out = f"whether the order was accepted is unknown; the same command with --idempotency-key {key} tells"
    terminal.if_interrupted = find_out

    def on_retry(error: "EngineUnavailableError", pause_s: float, number: int, count: int) -> None:
        terminal.note(f"{error}; trying again in {pause_s:g} s ({number} of {count})")

    try:
        return await engine.place_order(body, key, on_retry)
    except EngineUnavailableError as error:
        terminal.note(find_out if error.maybe_done else "nothing was ordered")
        raise


def watch(
    context: typer.Context,
    order_id: OrderId,
    after: Annotated[int, typer.Option(min=0, metavar="SEQ", help="Show only updates behind this number.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Follow an order to its end: every step, its quotes, and why.

    A lost connection is made again; no update is missed or shown twice. With --json: one update per line.
    """

    async def command(engine: "EngineClient", terminal: "Terminal") -> ExitCode:
        from bestex.ambient import SystemClock
        from bestex.cli.watching import watch_order

        return await watch_order(engine, terminal, SystemClock(), order_id, after=after)

    run(context, as_json, command)


def cancel(context: typer.Context, order_id: OrderId, as_json: AsJson = False) -> None:
    """Cancel an order: at once before it is signed, else from its next attempt on."""

    async def command(engine: "EngineClient", terminal: "Terminal") -> None:
        from bestex.cli.engine_client import order_path
        from bestex.cli.views.orders import cancelled_view
        from bestex.domain.orders import OrderView

        terminal.show(await engine.delete(order_path(order_id)), OrderView, cancelled_view)

    run(context, as_json, command)
