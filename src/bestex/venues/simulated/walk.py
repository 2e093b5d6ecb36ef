"""The market's nature: fair prices that wander and venues that disagree, at any time, from one seed.

Everything here is a pure function of (seed, name, time): no step builds on the one before, so a restarted
market continues on the same path, and two processes see the same one. Times are seconds since the Unix
epoch, of any sign; prices are natural logarithms. They are floats because they describe the world, not
amounts; what trades is integers.

Uniform numbers come from BLAKE2b, and gaussian ones are sums of them: only operations that IEEE 754 rounds
exactly, so every platform computes the same path.
"""

import hashlib
import math
import struct
from functools import lru_cache

# A walk is cut into blocks, each halved until leaves remain; across a leaf the path is a straight line.
_LEVELS_PER_HASH = 3  # 7 midpoints from one digest
_HASHES_PER_BLOCK = 7
_LEVELS = _LEVELS_PER_HASH * _HASHES_PER_BLOCK
LEAVES_PER_SECOND = 4
BLOCK_S = 2**_LEVELS // LEAVES_PER_SECOND  # about 6 days
_COARSE_HASHES = 4  # the upper levels, kept: they change every 128 s
_COARSE_LEVELS = _LEVELS_PER_HASH * _COARSE_HASHES
_MEMO_ENTRIES_MAX = 256
_SECONDS_PER_DAY = 86_400
_KNOT = 255  # stands where a midpoint's hash has its number within the block, 0..6
_PLACE = struct.Struct("<Bq")
_WORDS = struct.Struct("<32H")  # a 64-byte digest
_WORD_MEAN = (2**16 - 1) / 2
_WORD_VARIANCE = (2**32 - 1) / 12

SPREAD_MEAN = 0.035  # log-difference of the two venues
SPREAD_SWING = 0.013  # so its magnitude stays within 0.022 and 0.048, except while the sign changes
SPREAD_SWING_PERIOD_S = 240.0
SPREAD_FLIP_PERIOD_S = 600.0
SPREAD_FLIP_SLOPE = 0.0011  # per second, at the moment the sign changes
# the share of a period, at either end, without a flip: room for the longest passage, 82 s on either side
_FLIP_MARGIN = 0.15
_SMOOTHERSTEP_SLOPE = 1.875  # the steepest


class Walk:
    """A Brownian path, log of the fair price over its base price, that stays near 0 for ever.

    The path passes through independent gaussian knots `BLOCK_S` apart; between them Lévy's construction
    fills a Brownian bridge: each midpoint is the mean of its neighbours and a gaussian displacement. The
    knots' variance is half of what a Brownian motion gains over a block, so that each block's increment has
    exactly a Brownian increment's variance, while the whole stays within a few times 1.74 daily
    volatilities of 0.
    """

    __slots__ = ("_coarse", "_hash", "_knot_scale", "_leaves", "_level_scales")

    def __init__(self, seed: int, name: str, volatility_per_sqrt_day: float) -> None:
        """`volatility_per_sqrt_day`: standard deviation of the log price's change over one day; 0.04 is 4 %.

        Raises ValueError when it is negative or not finite.
        """
        if not 0 <= volatility_per_sqrt_day < math.inf:
            raise ValueError(f"volatility_per_sqrt_day must be finite and not negative: {volatility_per_sqrt_day}")
        self._hash = hashlib.blake2b(_key("walk", seed, name))
        block_deviation = volatility_per_sqrt_day * math.sqrt(BLOCK_S / _SECONDS_PER_DAY)
        self._knot_scale = block_deviation * math.sqrt(0.5) / math.sqrt(32 * _WORD_VARIANCE)
        # a bridge over h has a standard deviation of sqrt(h) / 2 in its middle
        self._level_scales = [
            block_deviation * math.sqrt(0.5**level) / 2 / math.sqrt(4 * _WORD_VARIANCE) for level in range(_LEVELS)
        ]
        self._leaves: dict[int, tuple[float, float]] = {}
        self._coarse: dict[int, tuple[float, float]] = {}

    def log_at(self, t_s: float) -> float:
        """The path at `t_s`; continuous. The price is the base price times `exp` of it."""
        position = t_s * LEAVES_PER_SECOND
        leaf = math.floor(position)
        ends = self._leaves.get(leaf)
        if ends is None:
            ends = self._leaf_ends(leaf)
            _remember(self._leaves, leaf, ends)
        left, right = ends
        return left + (right - left) * (position - leaf)

    def _leaf_ends(self, leaf: int) -> tuple[float, float]:
        coarse_index = leaf >> (_LEVELS - _COARSE_LEVELS)
        ends = self._coarse.get(coarse_index)
        if ends is None:
            block = leaf >> _LEVELS
            ends = self._descend((self._knot(block), self._knot(block + 1)), leaf, 0, _COARSE_HASHES)
            _remember(self._coarse, coarse_index, ends)
        return self._descend(ends, leaf, _COARSE_HASHES, _HASHES_PER_BLOCK)

    def _knot(self, block: int) -> float:
        return (sum(self._words(_KNOT, block)) - 32 * _WORD_MEAN) * self._knot_scale

    def _descend(self, ends: tuple[float, float], leaf: int, first_hash: int, end_hash: int) -> tuple[float, float]:
        """Halve the interval with these `ends` towards `leaf`, through the levels of hashes first..end."""
        left, right = ends
        for number in range(first_hash, end_hash):
            level = number * _LEVELS_PER_HASH
            below = _LEVELS - level  # levels from this interval down to the leaf
            words = self._words(number, leaf >> below)
            node = 1  # heap order: 1 is the interval's midpoint, 2 and 3 its halves', 4..7 its quarters'
            for scale in self._level_scales[level : level + _LEVELS_PER_HASH]:
                at = node * 4
                displacement = words[at] + words[at + 1] + words[at + 2] + words[at + 3] - 4 * _WORD_MEAN
                middle = (left + right) * 0.5 + displacement * scale
                below -= 1
                if leaf >> below & 1:
                    left = middle
                    node = node * 2 + 1
                else:
                    right = middle
                    node = node * 2
        return left, right

    def _words(self, number: int, index: int) -> tuple[int, ...]:
        place = self._hash.copy()
        place.update(_PLACE.pack(number, index))
        return _WORDS.unpack(place.digest())


class Smooth:
    """Smooth noise in [-1, 1]: independent uniform values `period_s` apart, joined by smootherstep.

    The steepest slope is 3.75 / `period_s`; slope and curvature are continuous.
    """

    __slots__ = ("_key", "_period_s")

    def __init__(self, seed: int, name: str, period_s: float) -> None:
        """Raises ValueError when `period_s` is not positive and finite."""
        if not 0 < period_s < math.inf:
            raise ValueError(f"period_s must be positive and finite: {period_s}")
        self._key = _key("smooth", seed, name)
        self._period_s = period_s

    def at(self, t_s: float) -> float:
        """The noise at `t_s`."""
        position = t_s / self._period_s
        index = math.floor(position)
        left = 2 * _uniform(self._key, index) - 1
        right = 2 * _uniform(self._key, index + 1) - 1
        return left + (right - left) * _smootherstep(position - index)


def venue_spread(seed: int, pair: str, t_s: float) -> float:
    """By how much the log price at one venue exceeds that at the other, at `t_s`.

    Its magnitude drifts between 0.022 and 0.048. Its sign changes once in every `SPREAD_FLIP_PERIOD_S`, at
    an irregular moment, by a smooth passage of one to three minutes; only then is the magnitude smaller.
    The slope stays under 0.0012 per second.
    """
    key, magnitude_noise = _spread_parts(seed, pair)
    magnitude = SPREAD_MEAN + SPREAD_SWING * magnitude_noise.at(t_s)
    period = math.floor(t_s / SPREAD_FLIP_PERIOD_S)
    flip_at = period + _FLIP_MARGIN + (1 - 2 * _FLIP_MARGIN) * _uniform(key, period)
    since_flip_s = t_s - flip_at * SPREAD_FLIP_PERIOD_S
    # Dividing by the magnitude makes every passage equally steep, whatever it leads to.
    passage = since_flip_s * SPREAD_FLIP_SLOPE / (magnitude * _SMOOTHERSTEP_SLOPE)
    side = 2 * _smootherstep(min(max((passage + 1) / 2, 0.0), 1.0)) - 1
    return magnitude * (side if (period + key[0]) & 1 else -side)


@lru_cache(maxsize=1024)
def _spread_parts(seed: int, pair: str) -> tuple[bytes, Smooth]:
    return _key("spread", seed, pair), Smooth(seed, f"spread {pair}", SPREAD_SWING_PERIOD_S)


@lru_cache(maxsize=4096)
def _uniform(key: bytes, index: int) -> float:
    """A number in [0, 1), exact in 53 bits."""
    digest = hashlib.blake2b(_PLACE.pack(0, index), key=key, digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) * 2.0**-53


def _smootherstep(x: float) -> float:
    return x * x * x * (x * (x * 6 - 15) + 10)


def _key(kind: str, seed: int, name: str) -> bytes:
    return hashlib.blake2b(f"{kind}\0{seed}\0{name}".encode(), digest_size=32).digest()


def _remember(memo: dict[int, tuple[float, float]], index: int, ends: tuple[float, float]) -> None:
    if len(memo) >= _MEMO_ENTRIES_MAX:
        memo.clear()  # time moves on: what was asked long ago is rarely asked again
    memo[index] = ends
