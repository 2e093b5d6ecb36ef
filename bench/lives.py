"""Market orders as the engine writes them, without the engine: for measuring what stands behind it."""

import hashlib
from typing import Final

import msgspec

from bestex.domain.events import (
    FINALIZED,
    BuildingDetail,
    ConfirmedDetail,
    Detail,
    Event,
    PendingDetail,
    QuoteRecord,
    RoutingDetail,
    SealedTokens,
    SignedTransaction,
    SubmittedDetail,
    Timings,
    seal,
)
from bestex.domain.lifecycle import Status
from bestex.domain.order_state import OrderState
from bestex.ports import Append, NewOrder

SOL_MINT: Final = "So11111111111111111111111111111111111111112"
USDC_MINT: Final = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v"
RAYDIUM_POOL: Final = "FJXAViwGJc1S5vuCDjr3WuAetQBz2QmoCVvwTSwcgLtW"
METEORA_POOL: Final = "4AUKrmQ9DgKvbnvB1vL2uTDKFQujC7gnKFqqhTPFU9Lg"
BLOCKHASH: Final = "FZSAGzs3iGNf6q38BSA2HnVidS9j2B4CgkCCwFKTQfX"
NETWORK_FEE: Final = 15_000  # lamports
HEIGHTS_TO_LIVE: Final = 146  # of a blockhash, from the slot that a transaction lands in

STAGES: Final = ((1,), (2, 3, 4), (5,), (6,))
"""The seqs that go into one commit together: accepted; routed, built and signed; confirmed; finalized."""

_BASE58: Final = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_FROM_HEX: Final = str.maketrans("0123456789abcdef", "23456789ABCDEFGH")
_TO_BASE58: Final = bytes(_BASE58[byte % len(_BASE58)] for byte in range(256))


class Side(msgspec.Struct, frozen=True):
    """One of the two orders that all lives are of: together they leave the wallet where it was, but for fees."""

    token_in: str
    token_out: str
    mint_in: str
    mint_out: str
    decimals_in: int
    decimals_out: int
    amount_in: str
    amount_out: str
    min_amount_out: str
    units_in: int  # base units
    units_out: int
    side: str


SELL: Final = Side(
    *("SOL", "USDC", SOL_MINT, USDC_MINT, 9, 6),
    *("0.25", "42.237937", "42.026747", 250_000_000, 42_237_937, "sell"),
)
BUY: Final = Side(
    *("USDC", "SOL", USDC_MINT, SOL_MINT, 6, 9),
    *("42.24", "0.257542877", "0.256257029", 42_240_000, 257_542_877, "buy"),
)


def signature_of(order_id: str) -> str:
    """A signature that no other order has, as long as a real one: 88 characters, growing with the ids' times."""
    digest = hashlib.sha512(order_id.encode()).digest()
    return (order_id[:8] + order_id[9:13]).translate(_FROM_HEX) + (digest + digest[::-1])[:76].translate(
        _TO_BASE58
    ).decode()


def events_of(order_id: str, signature: str, side: Side, at_us: int, slot: int) -> list[Event]:
    """All six events of an order that is executed at its first attempt, accepted at `at_us`."""
    body = f"\x93\xaa{order_id}{side.mint_in}{side.mint_out}{METEORA_POOL}{BLOCKHASH}meteora".encode()
    raw = hashlib.blake2b(body).digest() + body
    tokens = SealedTokens(side.mint_in, side.mint_out, side.decimals_in, side.decimals_out)
    signed = SignedTransaction(signature, raw, BLOCKHASH, slot - 4, slot + HEIGHTS_TO_LIVE)
    quotes = (
        QuoteRecord(
            *("raydium", 0.0, RAYDIUM_POOL, side.min_amount_out, "0.1056", side.token_in, 1, side.min_amount_out),
            reason="pays 0.008467199 less (3.29 %)",
        ),
        QuoteRecord(
            *("meteora", 0.0, METEORA_POOL, side.amount_out, "0.000516122", side.token_out, 1, side.amount_out),
            chosen=True,
        ),
    )
    told: list[tuple[Status, int, int, Detail, bytes]] = [
        (
            *(Status.PENDING, 0, 0),
            PendingDetail(
                kind="market",
                token_in=side.token_in,
                token_out=side.token_out,
                amount=side.amount_in,
                slippage_bps=50,
                pair="SOL/USDC",
                side=side.side,
            ),
            seal(tokens),
        ),
        (Status.ROUTING, 1, 12_000, RoutingDetail(), b""),
        (
            *(Status.BUILDING, 1, 12_030),
            BuildingDetail("meteora", METEORA_POOL, side.amount_out, side.min_amount_out, 1, quotes, wraps_sol=True),
            b"",
        ),
        (Status.SUBMITTED, 1, 12_050, SubmittedDetail("meteora", signature, slot + HEIGHTS_TO_LIVE), seal(signed)),
        (
            *(Status.CONFIRMED, 1, 30_000),
            ConfirmedDetail(
                venue="meteora",
                tx_hash=signature,
                amount_in=side.amount_in,
                amount_out=side.amount_out,
                executed_price="164.011524962501",
                slippage_bps=0.07,
                fee_paid="0.000015",
                commitment="confirmed",
                slot=slot,
                timings=Timings(24.758, 11.214, 0.01, 4.796),
            ),
            b"",
        ),
        (Status.CONFIRMED, 1, 450_000, ConfirmedDetail(commitment=FINALIZED), b""),
    ]
    return [
        Event(order_id, seq, status, attempt, at_us + after_us, detail, sealed)
        for seq, (status, attempt, after_us, detail, sealed) in enumerate(told, 1)
    ]


def appends_of(events: list[Event]) -> list[list[Append]]:
    """The order's appends, those of each stage in a list of their own."""
    state = OrderState()
    stages: list[list[Append]] = []
    for seqs in STAGES:
        stage: list[Append] = []
        for seq in seqs:
            event = events[seq - 1]
            base = state.status
            state.apply(event)
            view = state.view()
            new = NewOrder(event.order_id, view.kind, view.pair, "local") if seq == 1 else None
            stage.append(Append(event.order_id, seq - 1, base, 1, (event,), view, new))
        stages.append(stage)
    return stages
