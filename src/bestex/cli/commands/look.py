"""`bestex quote`, `orders`, `show`, `launches`, `wallet`, `tokens`: looking without changing anything."""

from typing import TYPE_CHECKING, Annotated, Final

import typer

from bestex.cli.session import Amount, AsJson, OrderId, TokenIn, TokenOut, run

if TYPE_CHECKING:
    from bestex.cli.engine_client import EngineClient
    from bestex.cli.terminal import Terminal

CHILDREN_MAX: Final = 500
"""Of an order's slices, those that `show` lists: the newest."""


def quote(
    context: typer.Context, token_in: TokenIn, token_out: TokenOut, amount: Amount, as_json: AsJson = False
) -> None:
    """What every venue offers now, side by side; nothing is ordered."""

    async def command(engine: "EngineClient", terminal: "Terminal") -> None:
        from bestex.cli.answers import Quotes
        from bestex.cli.views.quotes import quotes_view

        query = {"tokenIn": token_in, "tokenOut": token_out, "amount": amount}
        terminal.show(await engine.get("/api/quotes", query), Quotes, quotes_view)

    run(context, as_json, command)


def orders(
    context: typer.Context,
    status: Annotated[str | None, typer.Option(help="Only orders with this status, such as confirmed.")] = None,
    pair: Annotated[str | None, typer.Option(help="Only orders of this pair, such as SOL/USDC.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only orders of this kind, such as market.")] = None,
    parent: Annotated[str | None, typer.Option(metavar="ORDER_ID", help="Only its slices, or its exits.")] = None,
    limit: Annotated[int, typer.Option(help="How many.")] = 20,
    cursor: Annotated[str | None, typer.Option(help="Where the page before ended.")] = None,
    as_json: AsJson = False,
) -> None:
    """List orders, newest first."""

    async def command(engine: "EngineClient", terminal: "Terminal") -> None:
        from bestex.ambient import SystemClock
        from bestex.cli.answers import OrdersPage
        from bestex.cli.views.orders import orders_view

        query = {"status": status, "pair": pair, "kind": kind, "parentId": parent, "limit": limit, "cursor": cursor}
        answer = await engine.get("/api/orders", query)
        terminal.show(answer, OrdersPage, lambda page: orders_view(page, SystemClock().now_us(), terminal.out.width))

    run(context, as_json, command)


def show(context: typer.Context, order_id: OrderId, as_json: AsJson = False) -> None:
    """One order with its timeline and its receipt: every quote, choice and fill.

    With --json: an object with `order`, `history` and `receipt`, and `children` where it has slices or exits.
    """

    async def command(engine: "EngineClient", terminal: "Terminal") -> None:
        from bestex.cli.answers import History, OrdersPage, Receipt
        from bestex.cli.engine_client import order_path
        from bestex.cli.views.orders import whole_order_view
        from bestex.cli.views.steps import step_of
        from bestex.domain.order_state import OrderView

        order = await engine.get(order_path(order_id))
        history = await engine.get(order_path(order_id, "/history"))
        receipt = await engine.get(order_path(order_id, "/receipt"))
        view = order.read(OrderView)
        parts = {"order": order.raw, "history": history.raw, "receipt": receipt.raw}
        children: list[OrderView] = []
        if view.slices is not None or view.exits is not None:
            answer = await engine.get("/api/orders", {"parentId": order_id, "limit": CHILDREN_MAX})
            parts["children"] = answer.raw
            children = answer.read(OrdersPage).data
        if terminal.as_json:
            terminal.json(b"{%b}" % b",".join(b'"%b":%b' % (name.encode(), raw) for name, raw in parts.items()))
            return
        steps = [step_of(update) for update in history.read(History).data]
        terminal.say(whole_order_view(view, steps, receipt.read(Receipt), terminal.out.width, children))

    run(context, as_json, command)


def launches(
    context: typer.Context,
    mint: Annotated[str | None, typer.Option(help="Only pools of this token.")] = None,
    limit: Annotated[int, typer.Option(help="How many.")] = 20,
    cursor: Annotated[str | None, typer.Option(help="Where the page before ended.")] = None,
    as_json: AsJson = False,
) -> None:
    """New pools that were seen, newest first: which filters they failed, and what buying would have made since."""

    async def command(engine: "EngineClient", terminal: "Terminal") -> None:
        from bestex.ambient import SystemClock
        from bestex.cli.answers import LaunchesPage
        from bestex.cli.views.launches import launches_view

        answer = await engine.get("/api/launches", {"mint": mint, "limit": limit, "cursor": cursor})
        terminal.show(answer, LaunchesPage, lambda page: launches_view(page, SystemClock().now_us()))

    run(context, as_json, command)


def wallet(context: typer.Context, as_json: AsJson = False) -> None:
    """The wallet's address and balances."""

    async def command(engine: "EngineClient", terminal: "Terminal") -> None:
        from bestex.cli.answers import Wallet
        from bestex.cli.views.world import wallet_view

        terminal.show(await engine.get("/api/wallet"), Wallet, wallet_view)

    run(context, as_json, command)


def tokens(context: typer.Context, as_json: AsJson = False) -> None:
    """The tokens that the engine knows."""

    async def command(engine: "EngineClient", terminal: "Terminal") -> None:
        from bestex.cli.answers import Tokens
        from bestex.cli.views.world import tokens_view

        terminal.show(await engine.get("/api/tokens"), Tokens, tokens_view)

    run(context, as_json, command)
