"""`bestex order`, `snipe`, `watch`: an order goes in, and is followed."""

from typing import TYPE_CHECKING, Annotated

import typer

from bestex.cli.exit_codes import ExitCode
from bestex.cli.order_options import (
    Body,
    ExitStopLoss,
    ExitTakeProfit,
    ExitTrail,
    Expires,
    exits_of,
    expiry_of,
    given,
    kind_of,
    only_one,
    together,
)
from bestex.cli.session import Amount, AsJson, OrderId, TokenIn, TokenOut, run

if TYPE_CHECKING:
    from bestex.cli.engine_client import Answer, EngineClient
    from bestex.cli.errors import EngineUnavailableError
    from bestex.cli.terminal import Terminal

ClientOrderId = Annotated[str | None, typer.Option(help="Your own id for the order, used once.")]
IdempotencyKey = Annotated[
    str | None, typer.Option(help="Repeating the command with the same key orders once.", show_default="a new one")
]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Stay and draw the order's timeline to its end.")]


def order(
    context: typer.Context,
    token_in: TokenIn,
    token_out: TokenOut,
    amount: Amount,
    slippage_bps: Annotated[
        int, typer.Option(help="How much less than quoted the swap may pay, in basis points.")
    ] = 50,
    limit: Annotated[
        str | None,
        typer.Option(metavar="PRICE", help="No worse than this, in quote token per base token."),
    ] = None,
    min_out: Annotated[str | None, typer.Option(metavar="AMOUNT", help="The same as an amount of TOKEN_OUT.")] = None,
    stop: Annotated[str | None, typer.Option(metavar="PRICE", help="Once the price is as bad as this.")] = None,
    take_profit: Annotated[str | None, typer.Option(metavar="PRICE", help="Once the price is as good as this.")] = None,
    trail: Annotated[
        int | None, typer.Option(metavar="BPS", help="Once the price is so far back from its best, in basis points.")
    ] = None,
    allow_immediate: Annotated[
        bool, typer.Option("--allow-immediate", help="The price may be beyond --stop or --take-profit already.")
    ] = False,
    slices: Annotated[int | None, typer.Option(metavar="N", help="In so many equal parts.")] = None,
    every: Annotated[int | None, typer.Option(metavar="SECONDS", help="Between the starts of two slices.")] = None,
    on_slice_failure: Annotated[
        str | None, typer.Option(metavar="continue|stop", help="What a failed slice means for the others.")
    ] = None,
    expires: Expires = None,
    ioc: Annotated[bool, typer.Option("--ioc", help="Now at this price, or not at all.")] = False,
    exit_take_profit: ExitTakeProfit = None,
    exit_stop_loss: ExitStopLoss = None,
    exit_trail: ExitTrail = None,
    client_order_id: ClientOrderId = None,
    idempotency_key: IdempotencyKey = None,
    watch: Watch = False,
    as_json: AsJson = False,
) -> None:
    """Swap AMOUNT of TOKEN_IN into TOKEN_OUT at the best venue: now, at a price, at a stop, or slice by slice.

    Lost answers are safe: the order is posted again under the same idempotency key, which never orders twice.
    """
    from bestex.ambient import SystemClock
    from bestex.domain.terms import Kind

    kind = kind_of(limit, min_out, stop, take_profit, trail, slices)
    together(slices=slices, every=every)
    only_one(ioc=ioc, expires=expires)
    body: Body = {
        "tokenIn": token_in,
        "tokenOut": token_out,
        "amount": amount,
        "slippageBps": slippage_bps,
    }
    if kind is not Kind.MARKET:
        body["kind"] = kind.value
    body |= given(
        {
            "limitPrice": limit,
            "minAmountOut": min_out,
            "triggerPrice": stop if stop is not None else take_profit,
            "trailBps": trail,
            "allowImmediate": allow_immediate,
            "slices": slices,
            "intervalSeconds": every,
            "onSliceFailure": on_slice_failure,
            "timeInForce": "IOC" if ioc else None,
            "expiresAt": expiry_of(expires, SystemClock().now_us()),
            "exits": exits_of(exit_take_profit, exit_stop_loss, exit_trail),
            "clientOrderId": client_order_id,
        }
    )
    _enter(context, body, idempotency_key, watch=watch, as_json=as_json)


def snipe(
    context: typer.Context,
    amount: Annotated[str, typer.Argument(metavar="AMOUNT", help="How much to pay, as in 0.5.", show_default=False)],
    pay_with: Annotated[str, typer.Option("--with", metavar="TOKEN", help="What to pay with.")] = "SOL",
    mint: Annotated[str | None, typer.Option(help="Wait for this token's pool, no other.")] = None,
    anything: Annotated[bool, typer.Option("--any", help="Buy whatever is launched next, without a filter.")] = False,
    min_liquidity: Annotated[str | None, typer.Option(help="The quote token's side of the pool, at least.")] = None,
    max_liquidity: Annotated[str | None, typer.Option(help="The same, at most.")] = None,
    mint_revoked: Annotated[bool, typer.Option("--mint-revoked", help="Nobody can mint more of it.")] = False,
    freeze_revoked: Annotated[bool, typer.Option("--freeze-revoked", help="Nobody can freeze accounts.")] = False,
    lp_secure: Annotated[bool, typer.Option("--lp-secure", help="The liquidity is burnt or locked.")] = False,
    top_holders: Annotated[
        int | None, typer.Option(metavar="BPS", help="The ten largest holders have at most this share.")
    ] = None,
    creator: Annotated[list[str] | None, typer.Option(help="Only launches of this address; may be repeated.")] = None,
    deny_creator: Annotated[list[str] | None, typer.Option(help="None of this address; may be repeated.")] = None,
    min_age: Annotated[int | None, typer.Option(metavar="SECONDS", help="Since it was listed, at least.")] = None,
    max_age: Annotated[int | None, typer.Option(metavar="SECONDS", help="The same, at most.")] = None,
    passes: Annotated[int | None, typer.Option(metavar="N", help="Looks in a row that must all pass.")] = None,
    migrations: Annotated[
        bool, typer.Option("--migrations", help="A pool that moves to another venue counts, too.")
    ] = False,
    exit_take_profit: ExitTakeProfit = None,
    exit_stop_loss: ExitStopLoss = None,
    exit_trail: ExitTrail = None,
    slippage_bps: Annotated[
        int, typer.Option(help="How much less than quoted the swap may pay, in basis points.")
    ] = 500,
    expires: Expires = None,
    client_order_id: ClientOrderId = None,
    idempotency_key: IdempotencyKey = None,
    watch: Watch = False,
    as_json: AsJson = False,
) -> None:
    """Buy a token as soon as its pool is listed: the one named, or the first that passes the filters."""
    from bestex.ambient import SystemClock
    from bestex.domain.terms import Kind

    filters = given(
        {
            "minLiquidity": min_liquidity,
            "maxLiquidity": max_liquidity,
            "mintAuthorityRevoked": mint_revoked,
            "freezeAuthorityRevoked": freeze_revoked,
            "lpBurntOrLocked": lp_secure,
            "topHoldersMaxBps": top_holders,
            "creatorsAllowed": creator or None,
            "creatorsDenied": deny_creator or None,
            "minAgeSeconds": min_age,
            "maxAgeSeconds": max_age,
            "consecutivePasses": passes,
        }
    )
    if anything and (filters or mint is not None):
        raise typer.BadParameter("--any contradicts --mint and the filters: leave it out, or them")
    if not (anything or filters or mint is not None):
        raise typer.BadParameter("say --mint, some filter such as --min-liquidity 20, or --any")
    body: Body = {"tokenIn": pay_with, "amount": amount, "kind": Kind.SNIPER.value, "slippageBps": slippage_bps}
    body |= given(
        {
            "mint": mint,
            "filters": filters if filters or anything else None,
            "migrations": migrations,
            "expiresAt": expiry_of(expires, SystemClock().now_us()),
            "exits": exits_of(exit_take_profit, exit_stop_loss, exit_trail),
            "clientOrderId": client_order_id,
        }
    )
    _enter(context, body, idempotency_key, watch=watch, as_json=as_json)


def _enter(context: typer.Context, body: Body, idempotency_key: str | None, *, watch: bool, as_json: bool) -> None:
    """Place the order, and stay with it if so asked."""

    async def command(engine: "EngineClient", terminal: "Terminal") -> ExitCode | None:
        from bestex.ambient import SystemClock, SystemIds
        from bestex.cli.answers import Accepted
        from bestex.cli.watching import watch_order

        key = idempotency_key or SystemIds().order_id()
        answer = await _place(engine, terminal, body, key)
        accepted = answer.read(Accepted)
        terminal.if_interrupted = f"the order goes on; to follow it: bestex watch {accepted.order_id}"
        if accepted.funds_covered is False:
            terminal.note("the wallet does not hold now what this order would pay: it fires only once it does")
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


async def _place(engine: "EngineClient", terminal: "Terminal", body: Body, key: str) -> "Answer":
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
