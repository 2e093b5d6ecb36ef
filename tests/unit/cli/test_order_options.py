"""Options as bodies: a percentage is exact, a duration is a time, and what contradicts itself is bad usage."""

import pytest
import typer

from bestex.cli.order_options import exits_of, expiry_of, kind_of, only_one, seconds_in, together
from bestex.domain.terms import Kind

NOW_US = 1_795_000_000_000_000  # 2026-11-18T11:06:40Z


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ((None, None, None, None, None, None), Kind.MARKET),
        (("150", None, None, None, None, None), Kind.LIMIT),
        ((None, "200", None, None, None, None), Kind.LIMIT),
        (("118", None, "120", None, None, None), Kind.STOP),
        ((None, None, None, "200", None, None), Kind.TAKE_PROFIT),
        ((None, None, None, None, 500, None), Kind.TRAILING_STOP),
        (("150", None, None, None, None, 5), Kind.TWAP),
    ],
)
def test_the_kind_follows_from_what_is_said(said: tuple[object, ...], kind: Kind) -> None:
    assert kind_of(*said) is kind


@pytest.mark.parametrize("said", [("1", "2", None, None, None, None), (None, None, "1", None, 5, None)])
def test_two_kinds_at_once_are_bad_usage(said: tuple[object, ...]) -> None:
    with pytest.raises(typer.BadParameter, match="contradict each other: say one of them"):
        kind_of(*said)


def test_an_exit_is_a_share_of_the_price_or_a_price() -> None:
    assert exits_of("5%", "2.25 %", 100) == {
        "takeProfit": {"gainBps": 500},
        "stopLoss": {"lossBps": 225},
        "trailingStop": {"trailBps": 100},
    }
    assert exits_of("200", None, None) == {"takeProfit": {"triggerPrice": "200"}}
    assert exits_of(None, None, None) is None


@pytest.mark.parametrize("text", ["%", "five%", "0%", "-5%", "0.001%"])
def test_a_percentage_that_is_none_is_bad_usage(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="no percentage such as 5%"):
        exits_of(None, text, None)


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("30s", 30), ("10m", 600), ("6h", 21_600), ("7d", 604_800)])
def test_a_duration_is_told_in_seconds(text: str, seconds: int) -> None:
    assert seconds_in(text) == seconds


def test_an_expiry_is_a_time_or_a_duration_from_now() -> None:
    assert expiry_of("10m", NOW_US) == "2026-11-18T11:16:40.000Z"
    assert expiry_of("2027-01-01T00:00:00Z", NOW_US) == "2027-01-01T00:00:00Z"
    assert expiry_of("soon", NOW_US) == "soon", "the engine says what is wrong with it"
    assert expiry_of(None, NOW_US) is None


def test_what_goes_together_is_missed() -> None:
    together(slices=5, every=60)
    together(slices=None, every=None)
    with pytest.raises(typer.BadParameter, match="--slices and --every go together: --every is missing"):
        together(slices=5, every=None)


def test_one_of_several_is_enough() -> None:
    only_one(ioc=False, expires="10m")
    with pytest.raises(typer.BadParameter, match="--ioc and --expires contradict"):
        only_one(ioc=True, expires="10m")
