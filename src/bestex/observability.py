"""Counts and gauges for Prometheus, and the form of the log."""

import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

import structlog
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from bestex.domain.events import CancelledDetail, FailedDetail, RoutingDetail, StoredEvent, ends
from bestex.domain.lifecycle import ENDS, Status

if TYPE_CHECKING:  # what an engine without a terminal need not load
    from rich.progress import Progress

Gauge = Callable[[], float]

_GIVING_UP: Final = frozenset({Status.ROUTING, Status.CANCELLED, Status.FAILED})
"""The statuses whose events may tell of an attempt that was given up."""


class Metrics(Collector):
    """Counts committed events as plain integers; Prometheus' own types would cost the hot path more."""

    def __init__(self) -> None:
        self._events: Counter[Status] = Counter()
        self._ended: Counter[Status] = Counter()
        self._given_up: Counter[str] = Counter()
        self._commits = 0
        self._gauges: dict[str, tuple[str, Gauge]] = {}
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def gauge(self, name: str, meaning: str, read: Gauge) -> None:
        """Show `read()` as `bestex_<name>`."""
        self._gauges[name] = (meaning, read)

    def committed(self, events: Sequence[StoredEvent]) -> None:
        """Count one commit's events; a listener of the journal."""
        self._commits += 1
        counts = self._events
        for stored in events:
            event = stored.event
            status = event.status
            counts[status] += 1
            if status in ENDS and ends(event):
                self._ended[status] += 1
            if status in _GIVING_UP:
                detail = event.detail
                if isinstance(detail, RoutingDetail | CancelledDetail):
                    if detail.previous is not None:
                        self._given_up[detail.previous.code] += 1
                elif isinstance(detail, FailedDetail):
                    self._given_up[detail.code] += 1

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        accepted = CounterMetricFamily("bestex_orders_accepted", "Orders stored")
        accepted.add_metric([], self._events[Status.PENDING])
        yield accepted
        ended = CounterMetricFamily("bestex_orders_ended", "Orders that ended, by status", labels=["status"])
        for status in sorted(ENDS):
            ended.add_metric([status.value], self._ended[status])
        yield ended
        events = CounterMetricFamily("bestex_events", "Events committed, by status", labels=["status"])
        for status in Status:
            events.add_metric([status.value], self._events[status])
        yield events
        given_up = CounterMetricFamily(
            "bestex_attempts_given_up", "Attempts that did not execute, by failure code", labels=["code"]
        )
        for code, count in sorted(self._given_up.items()):
            given_up.add_metric([code], count)
        yield given_up
        commits = CounterMetricFamily("bestex_commits", "Group commits")
        commits.add_metric([], self._commits)
        yield commits
        for name, (meaning, read) in self._gauges.items():
            yield GaugeMetricFamily(f"bestex_{name}", meaning, read())

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self._registry)


def set_up_logging(level: str, *, as_json: bool) -> None:
    """Structured log lines on standard error: for people on a terminal, JSON elsewhere."""
    renderer: structlog.types.Processor
    if as_json:
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    exceptions: list[structlog.types.Processor] = [structlog.processors.format_exc_info] if as_json else []
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *exceptions,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


class RecoveryProgress:
    """How far a recovery is: a bar for people on a terminal, a line of the log now and then elsewhere."""

    EVERY_ORDERS = 10_000  # a line of the log

    def __init__(self, what: str) -> None:
        """`what`: in words, such as "recovering"."""
        self._what = what
        self._bar: Progress | None = None
        self._told = 0  # pages of `EVERY_ORDERS`

    def __enter__(self) -> "RecoveryProgress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, orders: int, total: int) -> None:
        """So many orders are done."""
        if sys.stderr.isatty():
            if self._bar is None:
                self._bar = _bar(self._what, total)
            self._bar.update(self._bar.task_ids[0], completed=orders, total=total)
        elif orders // self.EVERY_ORDERS > self._told:
            self._told = orders // self.EVERY_ORDERS
            structlog.get_logger(__name__).info(f"engine.{self._what.replace(' ', '_')}", orders=orders, of=total)


def _bar(what: str, total: int) -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    bar.add_task(what, total=total)
    bar.start()
    return bar
