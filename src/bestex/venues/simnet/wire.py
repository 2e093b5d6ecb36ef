"""What goes over the wire: calls one way, answers and news the other. MessagePack; a message is an array of these.

Both sides are of one release: `PROTOCOL` changes with whatever is written here or in the structs that it carries.
"""

from typing import Final

import msgspec

from bestex.domain.events import SignedTransaction
from bestex.domain.launches import Launch
from bestex.domain.route import Fill, Quote, QuoteRequest, SwapRequest
from bestex.domain.tokens import Pair, Token
from bestex.ports import (
    BlockHeight,
    LaunchWish,
    SimulationStatus,
    StatusReport,
    WalletTransaction,
)
from bestex.venues.meteora.damm_v2 import CollectFeeMode

PROTOCOL: Final = 2
PATH: Final = "/simnet"
MAX_MESSAGE_BYTES: Final = 8 * 1024 * 1024
"""A message of more is refused, and the connection with it."""


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


class HandOver(msgspec.Struct, frozen=True, array_like=True, tag=21):
    """Send a transaction. Nothing is said of whether it was taken: it is looked up."""

    transaction: SignedTransaction


class FollowTrading(msgspec.Struct, frozen=True, array_like=True, tag=22):
    """Send what is needed to quote and to sign as the venues do, now and whenever it changes."""


Wish = FollowPairs | FollowLaunches | FollowStatuses | FollowTrading

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
    | HandOver
    | FollowTrading
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
    executed: list[tuple[int, Fill] | None] = []  # of each: the slot and the fill, where it executed; or none at all
    slot: int = 0  # this and the next: of the node that shows them
    finalized_slot: int = 0


class Ticked(msgspec.Struct, frozen=True, array_like=True, tag=24):
    tick: WireTick
    fees: tuple[int, int] | None = None  # the network's for a swap, in base units of the base and of the quote token


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


class Trading(msgspec.Struct, frozen=True, array_like=True, tag=28):
    """What else it takes to quote and to sign as the venues do, from their prices."""

    at_once: bool  # whether they would do it at once; else they have to be asked
    key: bytes  # the paper wallet's
    slot_us: int  # how long a slot lasts, microseconds


News = Hello | Learn | Held | Landed | Ticked | Listed | Measured | Beat | Trading

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

encoder: Final = msgspec.msgpack.Encoder()
_requests = msgspec.msgpack.Decoder(list[Request])
_replies = msgspec.msgpack.Decoder(list[Reply])


def encode(message: Request | Reply) -> bytes:
    """One message, for the outboxes of several. `OverflowError` for an integer of more than 64 bits."""
    return encoder.encode(message)


def read_requests(data: bytes) -> list[Request]:
    """Raises `msgspec.MsgspecError`."""
    return _requests.decode(data)


def read_replies(data: bytes) -> list[Reply]:
    """Raises `msgspec.MsgspecError`."""
    return _replies.decode(data)
