"""What goes over the wire: calls one way, answers and news the other. MessagePack; a message is an array of these.

Both sides are of one release: `PROTOCOL` changes with whatever is written here or in the structs that it carries.
"""

from collections import deque
from typing import Final

import msgspec

from bestex.domain.events import SignedTransaction
from bestex.domain.launches import Launch
from bestex.domain.route import Fill, Quote, QuoteRequest, SwapRequest
from bestex.domain.tokens import Pair, Token
from bestex.ports import (
    BlockHeight,
    Curve,
    LaunchWish,
    SimulationStatus,
    StatusReport,
    Tick,
    WalletTransaction,
)
from bestex.venues.meteora.damm_v2 import CollectFeeMode
from bestex.venues.simulated.curves import CpmmCurve, DammCurve

PROTOCOL: Final = 1
PATH: Final = "/simnet"
MAX_MESSAGE_BYTES: Final = 8 * 1024 * 1024
"""A message of more is refused, and the connection with it."""
FULL_MESSAGE_BYTES: Final = 1024 * 1024
"""A message that has come to so much gets no more added."""
_ARRAY_32: Final = b"\xdd"  # of MessagePack, with its length in four bytes


# --- Calls -------------------------------------------------------------------------------------------------------


class Call(msgspec.Struct, frozen=True, array_like=True):
    """Its answer has the same number."""

    number: int


class AskQuote(Call, frozen=True, tag=1):
    venue: str
    request: QuoteRequest


class Build(Call, frozen=True, tag=2):
    venue: str
    request: SwapRequest


class SendTransaction(Call, frozen=True, tag=3):
    transaction: SignedTransaction


class AskStatuses(Call, frozen=True, tag=4):
    signatures: list[str]


class AskFills(Call, frozen=True, tag=5):
    signatures: list[str]


class AskHeight(Call, frozen=True, tag=6):
    pass


class AskBalances(Call, frozen=True, tag=7):
    pass


class AskHistory(Call, frozen=True, tag=8):
    before: str | None
    limit: int


class AskPrices(Call, frozen=True, tag=9):
    pair: Pair


class AskLaunches(Call, frozen=True, tag=10):
    since_us: int
    limit: int


class AskSimulation(Call, frozen=True, tag=11):
    pass


class Fund(Call, frozen=True, tag=12):
    token: Token
    units: int


class MovePrice(Call, frozen=True, tag=13):
    pair: Pair
    percent: float


class MakeLaunch(Call, frozen=True, tag=14):
    wish: LaunchWish


class Migrate(Call, frozen=True, tag=15):
    mint: str


class SetFaults(Call, frozen=True, tag=16):
    changes: dict[str, float]


class Reset(Call, frozen=True, tag=17):
    pass


class FollowPairs(msgspec.Struct, frozen=True, array_like=True, tag=18):
    """Send ticks of these pairs from now on, and of no others. Like the next two, it has no answer."""

    pairs: list[Pair]


class FollowLaunches(msgspec.Struct, frozen=True, array_like=True, tag=19):
    """Send launches, and what is measured of the open pools."""


class FollowStatuses(msgspec.Struct, frozen=True, array_like=True, tag=20):
    """Send the signatures whose status may have changed."""


Request = (
    AskQuote
    | Build
    | SendTransaction
    | AskStatuses
    | AskFills
    | AskHeight
    | AskBalances
    | AskHistory
    | AskPrices
    | AskLaunches
    | AskSimulation
    | Fund
    | MovePrice
    | MakeLaunch
    | Migrate
    | SetFaults
    | Reset
    | FollowPairs
    | FollowLaunches
    | FollowStatuses
)


# --- Answers -----------------------------------------------------------------------------------------------------


class WireCpmm(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """`CpmmCurve`; integers that may have more than 64 bits go as text."""

    venue: str
    pool: str
    reserve_base: str
    reserve_quote: str
    fee_ppm: int


class WireDamm(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """`DammCurve`."""

    venue: str
    pool: str
    liquidity: str
    sqrt_price: str
    fee_billionths: int
    fee_mode: CollectFeeMode
    base_is_a: bool


class WireTick(msgspec.Struct, frozen=True, array_like=True):
    """`Tick`, the pair by its mints."""

    base: str
    quote: str
    slot: int
    at_us: int
    curves: list[WireCpmm | WireDamm]


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """The answer to the call of that number, in `value` of every kind of it but `Failed`."""

    number: int


class Quoted(Answer, frozen=True, tag=1):
    value: Quote


class Built(Answer, frozen=True, tag=2):
    value: SignedTransaction


class Done(Answer, frozen=True, tag=3):
    value: None = None


class Statuses(Answer, frozen=True, tag=4):
    value: StatusReport


class Fills(Answer, frozen=True, tag=5):
    value: list[Fill | None]


class Height(Answer, frozen=True, tag=6):
    value: BlockHeight


class Balances(Answer, frozen=True, tag=7):
    value: dict[str, str]  # base units as text, by mint


class History(Answer, frozen=True, tag=8):
    value: list[WalletTransaction]


class Prices(Answer, frozen=True, tag=9):
    value: WireTick | None


class Launches(Answer, frozen=True, tag=10):
    value: list[Launch]


class Launched(Answer, frozen=True, tag=11):
    value: Launch


class SimulationIs(Answer, frozen=True, tag=12):
    value: SimulationStatus


class FaultsAre(Answer, frozen=True, tag=13):
    value: dict[str, float]


class Failed(Answer, frozen=True, tag=14):
    error: str  # a name in `faults`
    message: str


# --- News --------------------------------------------------------------------------------------------------------


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=20):
    """The first thing that a client hears."""

    protocol: int
    address: str  # the wallet's
    profile: str
    venues: list[str]


class Learn(msgspec.Struct, frozen=True, array_like=True, tag=21):
    """Launched tokens."""

    tokens: list[tuple[str, int]]  # mint and decimals


class Held(msgspec.Struct, frozen=True, array_like=True, tag=22):
    """What the wallet holds."""

    units: dict[str, str]  # base units as text, by mint
    is_all: bool  # else what has changed


class Landed(msgspec.Struct, frozen=True, array_like=True, tag=23):
    """Signatures whose status may have changed."""

    signatures: list[str]


class Ticked(msgspec.Struct, frozen=True, array_like=True, tag=24):
    tick: WireTick


class Listed(msgspec.Struct, frozen=True, array_like=True, tag=25):
    """A new pool, or one that moved, with its prices."""

    launch: Launch
    tick: WireTick | None


class Measured(msgspec.Struct, frozen=True, array_like=True, tag=26):
    """The open pools of launches as they look now."""

    slot: int
    launches: list[Launch]  # those that look otherwise than before
    closed: list[str]  # pools
    is_all: bool  # whether `launches` are all there are


class Beat(msgspec.Struct, frozen=True, array_like=True, tag=27):
    """Sign of life."""


News = Hello | Learn | Held | Landed | Ticked | Listed | Measured | Beat

Reply = (
    Quoted
    | Built
    | Done
    | Statuses
    | Fills
    | Height
    | Balances
    | History
    | Prices
    | Launches
    | Launched
    | SimulationIs
    | FaultsAre
    | Failed
    | News
)


# --- Reading and writing -----------------------------------------------------------------------------------------

_encoder = msgspec.msgpack.Encoder()
_requests = msgspec.msgpack.Decoder(list[Request])
_replies = msgspec.msgpack.Decoder(list[Reply])


def encode(message: Request | Reply) -> bytes:
    """One message, for the outboxes of several. `OverflowError` for an integer of more than 64 bits."""
    return _encoder.encode(message)


def read_requests(data: bytes) -> list[Request]:
    """Raises `msgspec.MsgspecError`."""
    return _requests.decode(data)


def read_replies(data: bytes) -> list[Reply]:
    """Raises `msgspec.MsgspecError`."""
    return _replies.decode(data)


class Outbox:
    """What is to be sent, as few messages as possible."""

    def __init__(self) -> None:
        self._body = bytearray()
        self._count = 0
        self._full: deque[bytes] = deque()
        self._full_bytes = 0

    def __len__(self) -> int:
        """Bytes that wait."""
        return self._full_bytes + len(self._body)

    def add(self, message: Request | Reply) -> None:
        """`OverflowError` for an integer of more than 64 bits, `ValueError` for too large a message: it is left out."""
        before = len(self._body)
        try:
            _encoder.encode_into(message, self._body, -1)
            self._added(before)
        except BaseException:
            del self._body[before:]
            raise

    def add_encoded(self, message: bytes) -> None:
        """`add` of what `encode` gave."""
        before = len(self._body)
        self._body += message
        self._added(before)

    def take(self) -> deque[bytes]:
        """All that waits, as messages."""
        if self._count:
            self._fill()
        full, self._full, self._full_bytes = self._full, deque(), 0
        return full

    def _added(self, before: int) -> None:
        size = len(self._body)
        if size < FULL_MESSAGE_BYTES:
            self._count += 1
            return
        if size - before > MAX_MESSAGE_BYTES - FULL_MESSAGE_BYTES:
            del self._body[before:]
            raise ValueError(f"a message of {size - before:,} bytes is too large to be sent")
        self._count += 1
        self._fill()

    def _fill(self) -> None:
        message = _ARRAY_32 + self._count.to_bytes(4, "big") + self._body
        self._full.append(message)
        self._full_bytes += len(message)
        self._body = bytearray()
        self._count = 0


# --- Prices ------------------------------------------------------------------------------------------------------


def wire_tick(tick: Tick) -> WireTick:
    return WireTick(
        tick.pair.base.mint, tick.pair.quote.mint, tick.slot, tick.at_us, [_wire_curve(each) for each in tick.curves]
    )


def tick_of(wire: WireTick, pair: Pair) -> Tick:
    """`pair` has the tick's mints."""
    return Tick(pair, wire.slot, wire.at_us, tuple([_curve(each) for each in wire.curves]))


def _wire_curve(curve: Curve) -> WireCpmm | WireDamm:
    match curve:
        case CpmmCurve(venue, pool, base, quote, fee_ppm):
            return WireCpmm(venue, pool, str(base), str(quote), fee_ppm)
        case DammCurve(venue, pool, liquidity, sqrt_price, fee_billionths, fee_mode, base_is_a):
            return WireDamm(venue, pool, str(liquidity), str(sqrt_price), fee_billionths, fee_mode, base_is_a)
        case _:
            raise TypeError(f"no wire form of {type(curve).__name__}")


def _curve(wire: WireCpmm | WireDamm) -> Curve:
    match wire:
        case WireCpmm(venue, pool, base, quote, fee_ppm):
            return CpmmCurve(venue, pool, int(base), int(quote), fee_ppm)
        case WireDamm(venue, pool, liquidity, sqrt_price, fee_billionths, fee_mode, base_is_a):
            return DammCurve(venue, pool, int(liquidity), int(sqrt_price), fee_billionths, fee_mode, base_is_a)
