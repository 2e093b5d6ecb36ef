"""What a client asks for, and what its changes and its trigger have made of it."""

from enum import StrEnum
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from bestex.domain.errors import UnknownTokenError
from bestex.domain.events import (
    Changes,
    Detail,
    Event,
    PendingDetail,
    RoutingDetail,
    SealedTokens,
    Trigger,
    WatchingDetail,
    timestamp_us,
    unseal_tokens,
)
from bestex.domain.money import format_amount, parse_amount
from bestex.domain.price import least_out, parse_price
from bestex.domain.terms import (
    NO_TERMS,
    RESTING,
    Kind,
    Terms,
    TimeInForce,
)
from bestex.domain.tokens import Pair, Token, TokenRegistry, pair_of


class Side(StrEnum):
    BUY = "buy"  # receives the pair's base token
    SELL = "sell"  # pays the pair's base token


UNKNOWN_TOKEN: Final = Token("*", "", 0)
"""What a sniper buys, until it has found it."""


class Order(msgspec.Struct, frozen=True, gc=False):
    """An accepted request, with what has become of it since by the client's changes and by its trigger."""

    id: str  # UUIDv7 as canonical text
    kind: Kind
    token_in: Token
    token_out: Token
    amount_in: int  # base units of token_in
    slippage_bps: int  # 0 to 10000
    created_us: int  # Unix time, microseconds
    client_order_id: str | None = None
    terms: Terms = NO_TERMS
    limit_price: str | None = None  # of the leg that fired, where that has one of its own

    @property
    def pair(self) -> Pair:
        return pair_of(self.token_in, self.token_out)

    @property
    def side(self) -> Side:
        return Side.SELL if self.sells_base else Side.BUY

    @property
    def sells_base(self) -> bool:
        return self.pair.base == self.token_in

    @property
    def rests(self) -> bool:
        """Whether it waits for something before it is executed."""
        if self.kind is Kind.LIMIT:
            return not self.is_immediate
        return self.kind in RESTING

    @property
    def is_immediate(self) -> bool:
        """Whether it executes now or not at all."""
        return self.terms.time_in_force in (TimeInForce.IOC, TimeInForce.FOK)

    @property
    def expires_us(self) -> int | None:
        """Unix microseconds."""
        return None if self.terms.expires_at is None else timestamp_us(self.terms.expires_at)

    def limit_out(self) -> int | None:
        """The least output that the order's limit allows, base units; None when it has no limit."""
        least = self.terms.min_amount_out
        if least is not None and self.terms.limit_price is None:
            return parse_amount(least, self.token_out.decimals)
        limit_price = self.limit_price or self.terms.limit_price
        if limit_price is None:
            return None
        return least_out(parse_price(limit_price), self.amount_in, self.pair, sells_base=self.sells_base)

    def sealed_tokens(self) -> SealedTokens:
        """The tokens as the first event seals them, so that a changed registry cannot change the order."""
        return SealedTokens(self.token_in.mint, self.token_out.mint, self.token_in.decimals, self.token_out.decimals)

    def pending_detail(self) -> PendingDetail:
        """The request as the order's first event keeps it: the log alone can rebuild the order."""
        pair = self.pair
        terms = {} if self.terms is NO_TERMS else {name: getattr(self.terms, name) for name in TERMS}
        return PendingDetail(
            kind=self.kind.value,
            token_in=self.token_in.symbol,
            token_out=self.token_out.symbol,
            amount=format_amount(self.amount_in, self.token_in.decimals),
            slippage_bps=self.slippage_bps,
            pair=pair.name,
            side=(Side.SELL if pair.base == self.token_in else Side.BUY).value,
            client_order_id=self.client_order_id,
            **terms,
        )


TERMS: Final = Terms.__struct_fields__


def has_terms(pending: PendingDetail) -> bool:
    """Whether an order demands anything that not every order does: most do not, and are spared the asking."""
    return (
        pending.kind != Kind.MARKET
        or pending.exits is not None
        or pending.expires_at is not None
        or pending.time_in_force is not TimeInForce.GTC
        or pending.parent_id is not None
    )


def terms_of(pending: PendingDetail) -> Terms:
    """The terms that an order's first event keeps."""
    return Terms(**{name: getattr(pending, name) for name in TERMS})


def order_from_pending(event: Event, tokens: TokenRegistry) -> Order:
    """The order that `event`, its first, describes.

    `UnknownTokenError` when the registry lost a token, or gives it other decimals than when the order was accepted.
    """
    detail = event.detail
    if not isinstance(detail, PendingDetail):
        raise TypeError(f"the first event of an order is pending, not {event.status}")
    sealed = unseal_tokens(event.sealed)
    token_in = _token(tokens, detail.token_in, sealed.mint_in, sealed.decimals_in)
    bought = UNKNOWN_TOKEN
    if sealed.mint_out:
        bought = _token(tokens, detail.token_out, sealed.mint_out, sealed.decimals_out)
    kind = Kind(detail.kind)
    return Order(
        id=event.order_id,
        kind=kind,
        token_in=token_in,
        token_out=bought,
        amount_in=parse_amount(detail.amount, token_in.decimals),
        slippage_bps=detail.slippage_bps,
        created_us=event.at_us,
        client_order_id=detail.client_order_id,
        terms=terms_of(detail) if has_terms(detail) else NO_TERMS,
    )


def order_as_it_stands(events: list[Event], tokens: TokenRegistry) -> Order:
    """The order that `events`, all of one order from the first on, lead to; raises as `order_from_pending` does."""
    order = order_from_pending(events[0], tokens)
    for event in events:
        order = order_after(order, event)
    return order


def changes_order(detail: Detail) -> bool:
    """Whether `order_after` may give another order; quick, for it is asked of every event."""
    return (type(detail) is RoutingDetail and detail.trigger is not None) or type(detail) is WatchingDetail


def order_after(order: Order, event: Event) -> Order:
    """`order` after an event that changes what is to be done: a client's change, or a trigger."""
    match event.detail:
        case WatchingDetail(changes=Changes() as changes):
            return order_changed(order, changes)
        case RoutingDetail(trigger=Trigger() as trigger):
            return _triggered(order, trigger)
        case _:
            return order


def order_changed(order: Order, changes: Changes) -> Order:
    """`order` as a client's changes make it."""
    changed = changed_terms(changes)
    slippage_bps = order.slippage_bps if changes.slippage_bps is None else changes.slippage_bps
    return replace(order, slippage_bps=slippage_bps, terms=replace(order.terms, **changed))


def changed_terms(changes: Changes) -> dict[str, Any]:
    changed = {name: value for name in _CHANGED if (value := getattr(changes, name)) is not None}
    if changes.expires_at is not None:
        changed["time_in_force"] = TimeInForce.GTT
    return changed


_CHANGED: Final = ("limit_price", "min_amount_out", "trigger_price", "expires_at")


def _triggered(order: Order, trigger: Trigger) -> Order:
    if trigger.mint is not None:
        bought = Token(trigger.mint, trigger.mint, trigger.decimals or 0)
        return replace(order, token_out=bought)
    if order.kind is not Kind.EXITS:
        return order
    amount_in = order.amount_in
    if trigger.amount is not None:
        amount_in = parse_amount(trigger.amount, order.token_in.decimals)
    slippage_bps = order.slippage_bps if trigger.slippage_bps is None else trigger.slippage_bps
    return replace(order, amount_in=amount_in, slippage_bps=slippage_bps, limit_price=trigger.limit_price)


def _token(tokens: TokenRegistry, symbol: str, mint: str, decimals: int) -> Token:
    token = tokens.find(mint)
    if token is None and symbol == mint:
        return tokens.learn(mint, decimals)  # it was launched: no registry has it, and its mint is all there is to know
    if token is None:
        raise UnknownTokenError(f"{symbol} ({mint}) is not in the token registry any more")
    if token.decimals != decimals:
        raise UnknownTokenError(f"{symbol} had {decimals} decimals in the token registry, now {token.decimals}")
    return token
