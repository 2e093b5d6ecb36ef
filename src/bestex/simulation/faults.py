"""What can go wrong in a simulated run, by name, each with a probability."""

import random  # noqa: TID251 - only ever seeded, never ambient
from collections import Counter
from collections.abc import Mapping
from typing import Final

from bestex.venues.simulated.faults import OF_THE_FEED
from bestex.venues.simulated.faults import PROBABILITIES as OF_THE_WORLD
from bestex.venues.simulated.faults import SIZES as SIZES_OF_THE_WORLD

OF_THE_JOURNAL: Final = {
    "journal_unavailable": "the database cannot be reached: nothing is read or stored, for up to journal_away_s",
    "journal_unknown_before": "a commit's answer is lost, and nothing was stored",
    "journal_unknown_after": "a commit's answer is lost, and everything was stored",
    "journal_late": "a commit's answer is lost, and the rows are stored a moment later",
    "journal_slow": "a commit takes up to journal_slow_s",
    "claim_lost": "an engine is given the leases of orders, and the answer is lost",
}
OF_THE_ENGINE: Final = {
    "stall": "the engine's process is stopped for a while, and another may take its place",
    "restart": "the engine is told to stop, drains, and another starts",
    "halt": "an operator halts the signing, and resumes it later",
}
OF_THE_CLIENTS: Final = {
    "connection_lost": "a client or a watcher loses its connection, and comes back",
    "cancel": "a client cancels its order",
    "cancel_many": "a client cancels all its open orders, or those of a pair or a kind",
    "amend": "a client changes its order while it waits",
    "dead_man": "a client arms the dead-man switch, renews it, and lets it go off or disarms it",
    "repeat": "a client whose order was accepted sends it again under the same key",
}
PROBABILITIES: Final = OF_THE_WORLD | OF_THE_JOURNAL | OF_THE_ENGINE | OF_THE_CLIENTS
"""Every fault and what it does; the value is its probability each time the occasion arises."""

SIZES: Final = SIZES_OF_THE_WORLD | {"journal_away_s": 8.0, "journal_slow_s": 6.0}
"""How long or how large the faults are that have a length or a size."""

_ALL_AT_ONCE: Final = 0.05  # the probability of a fault that is named without one
_LIKELY: Final = (0.03, 0.1, 0.2, 0.4)  # of the faults in a random mix
_SIZES: Final = (0.2, 1.0, 1.0, 3.0, 8.0)  # in a random mix, times the usual
_LAGS: Final = (1.0, 3.0, 10.0, 40.0)  # a node must lag for longer than a blockhash lives to mislead
_LIKELIHOODS: Final = {  # of those that must be likelier to matter
    "feed_silent": (0.01, 0.05, 0.2),  # asked once for each price
    "feed_stale": (0.05, 0.2, 0.5),
    "lagging_node": (0.1, 0.4, 0.6),
    "lost_status": (0.1, 0.4, 1.0),
    "stall": (0.5, 1.0),
    "restart": (0.3, 1.0),
    "halt": (0.3, 1.0),
    "cancel": (0.2, 0.5, 1.0),
    "repeat": (0.2, 1.0),
    "cancel_many": (0.3, 1.0),
    "amend": (0.3, 1.0),
    "dead_man": (0.5, 1.0),
}
_SHARE_OF_CALM: Final = 0.05  # of the random mixes, those without any fault
_SHARE_OF_FAULTS: Final = 0.3  # of the faults, those in a random mix
_SHARE_OF_THEMES: Final = 0.6  # of the random mixes, those with a theme
_SHARE_IN_THEME: Final = 0.75  # of a theme's faults, those in the mix
_SHARE_OF_TRAPS: Final = 0.1
_TRAP: Final = {"lagging_node": 0.5, "lagging_node_slots": 2000.0, "chain_unreachable": 0.2}
"""Two nodes that disagree, after a silence in which a blockhash expires: rare in a random mix, so drawn apart."""

_THEMES: Final = (  # faults that are worst together
    ("lagging_node", "pruned_history", "lost_status", "chain_unreachable"),
    ("lagging_node", "chain_unreachable", "dropped", "late_landing", "send_error_after"),
    ("dying_fork_error", "fork_after_confirmed", "lost_status", "price_jump", "lagging_node"),
    tuple(OF_THE_JOURNAL),
    ("stall", "claim_lost", "journal_late", "journal_slow", "connection_lost"),
    ("journal_unknown_before", "journal_unknown_after", "journal_late", *OF_THE_CLIENTS),
    (*OF_THE_ENGINE, "cancel", "journal_slow", "raydium_down", "price_jump"),
    (*OF_THE_FEED, "claim_lost", "journal_late", "stall"),
    (*OF_THE_FEED, "price_jump", "chain_unreachable", "dropped"),
    ("cancel", "cancel_many", "amend", "journal_slow", "journal_late", "connection_lost"),
    ("amend", "dead_man", "restart", "stall", "journal_unknown_after", "feed_stale"),
    ("restart", "halt", "journal_unavailable", "dead_man", "feed_gap"),
)


def random_faults(luck: random.Random) -> dict[str, float]:
    """Some faults, some more likely than others, and how long or how large they are."""
    if luck.random() < _SHARE_OF_CALM:
        return {}
    if luck.random() < _SHARE_OF_TRAPS:
        return dict(_TRAP)
    theme = luck.choice(_THEMES) if luck.random() < _SHARE_OF_THEMES else ()
    share = luck.uniform(0.05, 0.1) if theme else luck.uniform(0.1, 2 * _SHARE_OF_FAULTS)
    faults: dict[str, float] = {}
    for name in PROBABILITIES:
        if luck.random() < (_SHARE_IN_THEME if name in theme else share):
            faults[name] = luck.choice(_LIKELIHOODS.get(name, _LIKELY))
    for name, usual in SIZES.items():
        faults[name] = round(usual * luck.choice(_LAGS if name == "lagging_node_slots" else _SIZES), 3)
    return faults


def chosen_faults(text: str) -> dict[str, float]:
    """The faults of a text such as "dropped=0.2,stall" or "all"; `ValueError` says what is wrong with it."""
    faults: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if name in ("all", "none"):
            faults |= dict.fromkeys(PROBABILITIES, _number(name, value, equals)) if name == "all" else {}
        elif name in PROBABILITIES or name in SIZES:
            faults[name] = _number(name, value, equals)
        else:
            raise ValueError(f"there is no fault {name!r}; there are all, none, {', '.join([*PROBABILITIES, *SIZES])}")
    return faults


def _number(name: str, text: str, given: str) -> float:
    if not given and name not in SIZES:
        return _ALL_AT_ONCE
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{name} must be a number, not {text!r}") from None
    if not 0 <= value <= (1 if name not in SIZES else 1_000_000):
        raise ValueError(f"{name} must be from 0 to {1 if name not in SIZES else 1_000_000}, not {text}")
    return value


class Luck:
    """Which faults strike that are not the simulated world's own. Deterministic: the same seed, the same faults."""

    def __init__(self, seed: str, values: Mapping[str, float]) -> None:
        self.random = random.Random(seed)  # noqa: S311 -- faults need repetition, not secrecy
        self.struck: Counter[str] = Counter()
        self._values = SIZES | dict(values)

    def strikes(self, name: str) -> bool:
        """Whether the fault happens on this occasion."""
        probability = self._values.get(name, 0.0)
        if not probability or self.random.random() >= probability:
            return False
        self.struck[name] += 1
        return True

    def up_to(self, name: str) -> float:
        """A random length or size, at most what `name` says."""
        return self.random.random() * self._values[name]

    def heal(self, name: str) -> None:
        """This fault never strikes again."""
        self._values[name] = 0.0


def of_the_world(faults: Mapping[str, float]) -> dict[str, float]:
    """Those that the simulated world itself commits."""
    return {name: value for name, value in faults.items() if name in OF_THE_WORLD or name in SIZES_OF_THE_WORLD}
