"""Ages that options name, such as 90d, and times."""

from datetime import UTC, datetime, timedelta
from typing import Final

import typer

from bestex.ambient import SystemClock
from bestex.cli.order_options import seconds_in

AGE_S_MAX: Final = 100 * 365 * 86_400


def read_age(text: str, option: str) -> timedelta:
    """A duration; `typer.BadParameter`."""
    seconds = seconds_in(text)
    if seconds is None or seconds > AGE_S_MAX:
        raise typer.BadParameter(f"{text!r} is no age such as 30d, 12h or 90m", param_hint=option)
    return timedelta(seconds=seconds)


def read_time_before(text: str, option: str) -> int:
    """The time that was an age ago, or an RFC 3339 time that has passed, Unix microseconds; `typer.BadParameter`."""
    now_us = SystemClock().now_us()
    if seconds_in(text) is not None:
        return now_us - int(read_age(text, option).total_seconds()) * 1_000_000
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        what = f"{text!r} is no age such as 30d, and no RFC 3339 time"
        raise typer.BadParameter(what, param_hint=option) from error
    if at.tzinfo is None:
        raise typer.BadParameter(f"{text!r} names no offset from UTC, such as a Z at its end", param_hint=option)
    at_us = (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    if at_us > now_us:
        raise typer.BadParameter(f"{text!r} has not come yet", param_hint=option)
    return at_us
