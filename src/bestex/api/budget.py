"""An order's latency budget: where its time went, from its events' times and what the engine timed between them."""

from collections.abc import Sequence
from itertools import pairwise

from bestex.domain.events import (
    FINALIZED,
    AttemptStory,
    CancelledDetail,
    ConfirmedDetail,
    Event,
    ExpiredDetail,
    FailedDetail,
    RoutingDetail,
    Timings,
    WatchingDetail,
)
from bestex.domain.lifecycle import ENDS, Status

_STAGES = {Status.ROUTING: "route", Status.BUILDING: "build"}
"""What is done while the order has the status."""


class Budget:
    """Milliseconds by stage, of the order and of each attempt."""

    def __init__(self, events: Sequence[Event]) -> None:
        """`events`: all of one order, from the first on."""
        self._events = events
        self._timings = _timings_by_attempt(events)

    def of_order(self) -> dict[str, float]:
        events, first = self._events, self._events[0]
        budget: dict[str, float] = {}
        accept = next((each.accept_ms for each in self._timings.values() if each.accept_ms is not None), None)
        if accept is not None:
            budget["accept"] = accept
        began = next((event for event in events if event.status in (Status.ROUTING, Status.WATCHING)), None)
        if began is not None:
            budget["queue"] = round(max(0.0, _between(first, began) - (accept or 0.0)), 3)
        watched = [_between(before, after) for before, after in pairwise(events) if before.status is Status.WATCHING]
        if watched:
            budget["watch"] = round(sum(watched), 3)
        end = next((event for event in events if event.status in ENDS), None)
        if end is not None:
            budget["total"] = _between(first, end)
            last = events[-1].detail
            if isinstance(last, ConfirmedDetail) and last.commitment == FINALIZED and events[-1] is not end:
                budget["finalize"] = _between(end, events[-1])
        return budget

    def of_attempt(self, number: int) -> dict[str, float]:
        budget: dict[str, float] = {}
        for before, after in pairwise(self._events):
            detail = after.detail
            pause = detail.pause_ms if isinstance(detail, RoutingDetail) and detail.pause_ms is not None else 0.0
            if after.attempt == number and pause:
                budget["pause"] = round(budget.get("pause", 0.0) + pause, 3)
            if before.attempt == number and (stage := _STAGES.get(before.status)) is not None:
                spent = max(0.0, _between(before, after) - pause)  # the pause before the next attempt is that one's
                budget[stage] = round(budget.get(stage, 0.0) + spent, 3)
        return budget | self._behind_signing(number)

    def _behind_signing(self, number: int) -> dict[str, float]:
        """From signed to the attempt's end: what the engine timed, and what is left of it."""
        of_attempt = [event for event in self._events if event.attempt == number]
        signed = next((event for event in of_attempt if event.status is Status.SUBMITTED), None)
        if signed is None:
            return {}
        timings = self._timings.get(number, Timings())
        stages = {"commit": timings.commit_ms, "send": timings.send_ms, "land": timings.land_ms}
        budget = {name: spent for name, spent in stages.items() if spent is not None}
        end = next((event for event in of_attempt if event.status in ENDS), None)
        if end is not None:
            budget["confirm"] = round(max(0.0, _between(signed, end) - sum(budget.values())), 3)
        return budget


def _timings_by_attempt(events: Sequence[Event]) -> dict[int, Timings]:
    found: dict[int, Timings] = {}
    for event in events:
        stories: tuple[AttemptStory, ...] = ()
        match event.detail:
            case ConfirmedDetail(timings=Timings() as timings):
                found.setdefault(event.attempt, timings)
            case (
                RoutingDetail(previous=AttemptStory() as story)
                | WatchingDetail(previous=AttemptStory() as story)
                | CancelledDetail(previous=AttemptStory() as story)
                | ExpiredDetail(previous=AttemptStory() as story)
            ):
                stories = (story,)
            case FailedDetail(attempts=attempts):
                stories = attempts
            case _:
                pass
        for story in stories:
            if story.timings is not None:
                found.setdefault(story.attempt, story.timings)
    return found


def _between(before: Event, after: Event) -> float:
    """0 where the wall clock was set back meanwhile."""
    return max(0, after.at_us - before.at_us) / 1000
