"""Options of the command line as bodies of the API. Contradictions are bad usage; the engine checks the rest."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Final

import typer

from bestex.domain.money import AmountError, parse_amount

if TYPE_CHECKING:  # what `bestex --help` need not load
    from bestex.domain.terms import Kind

_DURATION: Final = re.compile(r"(\d{1,9})([smhd]?)", re.ASCII)
_UNIT_S: Final = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
_PERCENT_DECIMALS: Final = 2
"""A hundredth of a percent is a basis point."""

ExitTakeProfit = Annotated[
    str | None,
    typer.Option("--exit-take-profit", metavar="GAIN%|PRICE", help="Close the position at such a gain, or price."),
]
ExitStopLoss = Annotated[
    str | None,
    typer.Option("--exit-stop-loss", metavar="LOSS%|PRICE", help="Close the position at such a loss, or price."),
]
ExitTrail = Annotated[
    int | None,
    typer.Option("--exit-trail", metavar="BPS", help="Close it once the price is so far back from its best."),
]
Expires = Annotated[
    str | None,
    typer.Option("--expires", metavar="IN|AT", help="When to give up: 30s, 10m, 6h, 7d from now, or an RFC 3339 time."),
]

Body = dict[str, object]


def given(options: Mapping[str, object]) -> Body:
    """Those that were said: neither None nor off."""
    return {name: value for name, value in options.items() if value is not None and value is not False}


def only_one(**options: object) -> None:
    """Bad usage when more than one of these was said; names as in Python, without dashes."""
    said = [f"--{name.replace('_', '-')}" for name, value in options.items() if value not in (None, False)]
    if len(said) > 1:
        raise typer.BadParameter(f"{' and '.join(said)} contradict each other: say one of them")


def together(**options: object) -> None:
    """Bad usage when some of these were said and others not."""
    names = {f"--{name.replace('_', '-')}": value not in (None, False) for name, value in options.items()}
    if any(names.values()) and not all(names.values()):
        missing = [name for name, said in names.items() if not said]
        raise typer.BadParameter(f"{' and '.join(names)} go together: {' and '.join(missing)} is missing")


def kind_of(limit: object, min_out: object, stop: object, take_profit: object, trail: object, slices: object) -> "Kind":
    """Which kind of order is meant by the options that say prices."""
    from bestex.domain.terms import Kind

    only_one(stop=stop, take_profit=take_profit, trail=trail, slices=slices)
    only_one(limit=limit, min_out=min_out)
    kinds = (
        (stop, Kind.STOP),
        (take_profit, Kind.TAKE_PROFIT),
        (trail, Kind.TRAILING_STOP),
        (slices, Kind.TWAP),
        (limit, Kind.LIMIT),
        (min_out, Kind.LIMIT),
    )
    return next((kind for option, kind in kinds if option is not None), Kind.MARKET)


def exits_of(take_profit: str | None, stop_loss: str | None, trail_bps: int | None) -> Body | None:
    exits: Body = {}
    if take_profit is not None:
        exits["takeProfit"] = _share_or_price(take_profit, "gainBps", "--exit-take-profit")
    if stop_loss is not None:
        exits["stopLoss"] = _share_or_price(stop_loss, "lossBps", "--exit-stop-loss")
    if trail_bps is not None:
        exits["trailingStop"] = {"trailBps": trail_bps}
    return exits or None


def expiry_of(text: str | None, now_us: int) -> str | None:
    """A time as it stands; a duration from now on."""
    from bestex.domain.events import timestamp_text

    if text is None or (seconds := seconds_in(text)) is None:
        return text
    return timestamp_text(now_us + seconds * 1_000_000)


def seconds_in(text: str) -> int | None:
    """The seconds in a duration such as 90, 30s, 10m, 6h or 7d; None for other text."""
    match = _DURATION.fullmatch(text)
    return int(match[1]) * _UNIT_S[match[2]] if match is not None else None


def _share_or_price(text: str, share: str, option: str) -> Body:
    if not text.endswith("%"):
        return {"triggerPrice": text}
    try:
        return {share: parse_amount(text[:-1].strip(), _PERCENT_DECIMALS)}
    except AmountError as error:
        raise typer.BadParameter(f"{option}: {text!r} is no percentage such as 5% or 2.5%: it {error}") from error
