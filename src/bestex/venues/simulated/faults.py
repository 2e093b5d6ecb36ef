"""Everything that can go wrong in the simulated world, each with a probability, all of it from one seed.

With all probabilities at 0, the default, the generator is never asked: a world without faults is not changed by them.
"""

import random  # noqa: TID251 - only ever seeded, never ambient
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

OF_THE_FEED: Final = {
    "feed_gap": "prices come without one of the venues",
    "feed_stale": "the same old prices come again and again, for feed_stale_s",
    "feed_silent": "no prices come, for feed_silent_s",
}
"""What goes wrong with market data; never while nobody follows any."""

PROBABILITIES: Final = {
    "quote_timeout": "a quote takes quote_timeout_s, longer than anyone waits, then fails",
    "raydium_down": "raydium refuses a quote or a build",
    "meteora_down": "meteora refuses a quote or a build",
    "venue_down": "any venue refuses a quote or a build",
    "send_error_before": "a send fails before the chain took the bytes",
    "send_error_after": "a send fails although the chain took the bytes",
    "dropped": "the chain takes the bytes and loses them",
    "late_landing": "a transaction lands up to late_landing_slots later, or never when its blockhash runs out first",
    "lost_status": "a landed transaction stays invisible until it is final",
    "lagging_node": "a look-up is answered by a second node, lagging_node_slots behind",
    "pruned_history": "a look-up is answered by a node that keeps pruned_history_slots of history",
    "dying_fork_error": "a transaction lands with an error on a fork that dies: it becomes unknown and may land again",
    "fork_after_confirmed": "a confirmed transaction is taken back by a fork before it is final",
    "price_jump": "the pool moves price_jump_bps against a swap, before its build or before its landing",
    "chain_unreachable": "a call finds the chain gone, for chain_unreachable_s",
    **OF_THE_FEED,
}
"""Every fault and what it does; the value is the probability each time the occasion arises."""

SIZES: Final = {
    "quote_timeout_s": 10.0,
    "late_landing_slots": 160.0,
    "lagging_node_slots": 200.0,
    "pruned_history_slots": 64.0,
    "price_jump_bps": 120.0,
    "chain_unreachable_s": 3.0,
    "feed_stale_s": 5.0,
    "feed_silent_s": 5.0,
}
"""How long or how large the faults are that have a length or a size."""

_SIZE_MAX: Final = 1_000_000.0


def parse_faults(text: str) -> dict[str, float]:
    """The faults in text like "quote_timeout=0.1,raydium_down=1"; `ValueError` says what is wrong with it."""
    faults: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise ValueError(f"{part!r} must be NAME=VALUE, for example quote_timeout=0.1")
        if name in faults:
            raise ValueError(f"{name} stands twice")
        try:
            faults[name] = float(value)
        except ValueError:
            raise ValueError(f"{name} must be a number, not {value!r}") from None
        _check(name, faults[name])
    return faults


class Faults:
    """What goes wrong next. Deterministic: the same seed and the same occasions give the same faults."""

    def __init__(self, seed: str, values: Mapping[str, float]) -> None:
        """`ValueError` names an unknown fault or a bad value."""
        self._random = random.Random(seed)  # noqa: S311 - faults need repetition, not secrecy
        self.values: dict[str, float] = dict.fromkeys(PROBABILITIES, 0.0) | SIZES
        self.struck: Counter[str] = Counter()  # how often each fault has happened
        self.any = False  # whether any fault is possible: the quick way past all questions
        self._listeners: list[Callable[[], None]] = []
        self.change(values)

    def change(self, changes: Mapping[str, float]) -> None:
        """Take over `changes`, all or none; `ValueError` names an unknown fault or a bad value."""
        for name, value in changes.items():
            _check(name, value)
        self.values.update(changes)
        self.any = any(self.values[name] > 0 for name in PROBABILITIES)
        for listener in self._listeners:
            listener()

    def on_change(self, listener: Callable[[], None]) -> None:
        """Have `listener` called whenever they have changed."""
        self._listeners.append(listener)

    def clear(self) -> None:
        self.change(dict.fromkeys(PROBABILITIES, 0.0) | SIZES)

    def strikes(self, name: str) -> bool:
        """Whether the fault happens on this occasion."""
        if not self.any:
            return False
        probability = self.values[name]
        if probability <= 0 or self._random.random() >= probability:
            return False
        self.struck[name] += 1
        return True

    def size(self, name: str) -> float:
        """The length or size `name`, as set."""
        return self.values[name]

    def whole(self, lowest: int, highest: int) -> int:
        """A whole number from `lowest` to `highest`, for a fault that has struck."""
        return self._random.randint(lowest, max(lowest, highest))

    def coin(self) -> bool:
        return self._random.random() < 0.5


def _check(name: str, value: float) -> None:
    if name in PROBABILITIES:
        if not 0 <= value <= 1:
            raise ValueError(f"{name} is a probability from 0 to 1, not {value}")
    elif name in SIZES:
        if not 0 <= value <= _SIZE_MAX:
            raise ValueError(f"{name} must be from 0 to {_SIZE_MAX:.0f}, not {value}")
    else:
        raise ValueError(f"there is no fault {name!r}; there are {', '.join([*PROBABILITIES, *SIZES])}")
