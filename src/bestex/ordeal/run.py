"""One ordeal: start the engine, load it, let the blows fall, heal, and check that nothing was lost or doubled."""

import asyncio
import random  # noqa: TID251 - only ever seeded, never ambient
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx

from bestex.domain.terms import Kind
from bestex.ordeal.asking import POLL_S, Asking
from bestex.ordeal.checks import (
    check_feed_watchers,
    check_intents,
    check_log,
    check_status_watchers,
)
from bestex.ordeal.clients import Clients
from bestex.ordeal.cluster import Cluster
from bestex.ordeal.engine import FAULTS
from bestex.ordeal.kinds import check_kinds
from bestex.ordeal.live import EngineAlone
from bestex.ordeal.process import EngineFailedError
from bestex.ordeal.report import ClusterPlan, LivePlan, LiveReport, Progress, Tally
from bestex.ordeal.system import Strike, System
from bestex.ordeal.watchers import FeedWatcher, read_log
from bestex.ordeal.world import World
from bestex.ports import Clock

CHECK_MAX_S: Final = 120.0
HEAL_MAX_S: Final = 90.0  # after the last blow every order must have ended and settled
PROGRESS_EVERY_S: Final = 0.25
FEED_WATCHERS: Final = 2
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

ProgressListener = Callable[[Progress], None]


async def run_live(plan: LivePlan, clock: Clock, on_progress: ProgressListener) -> LiveReport:
    """The ordeal of one engine, or with a `ClusterPlan` of a cluster. Raises `ValkeyMissingError`.

    No process of it is left afterwards, however it ends: cancelled, or by Ctrl-C or SIGTERM. These two raise
    `KeyboardInterrupt` when everything has been stopped. The folder with database and logs is removed, unless there
    are violations. Traffic goes to 127.0.0.1 only.
    """
    folder = _new_folder()
    kept = False
    try:
        with _interruptible():
            report = await _Ordeal(plan, clock, on_progress, folder).run()
        kept = report.kept is not None
        return report
    finally:
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)


class _Ordeal:
    def __init__(self, plan: LivePlan, clock: Clock, on_progress: ProgressListener, folder: Path) -> None:
        self._plan = plan
        self._clock = clock
        self._on_progress = on_progress
        self._folder = folder
        self._tally = Tally()
        self._system = system = _system(plan, folder, clock, self._tally)
        self._strikes = system.strikes()
        self._asking = Asking(system.urls, clock)
        self._world = World(system.urls, plan.seed, clock, self._tally)
        self._clients = Clients(system.urls, plan.seed, plan.orders_max, clock, self._tally, self._world)
        self._feeds = [
            FeedWatcher(system.urls, clock, random.Random(f"{plan.seed} feed {number}"), self._tally)  # noqa: S311
            for number in range(FEED_WATCHERS)
        ]
        self._phase = "starting"
        self._load_began_s: float | None = None

    async def run(self) -> LiveReport:
        began_s = self._clock.monotonic()
        tasks = [asyncio.create_task(self._system.keep()), asyncio.create_task(self._tell_progress())]
        try:
            trial = asyncio.create_task(self._trial())
            tasks.append(trial)
            await asyncio.wait((tasks[0], trial), return_when=asyncio.FIRST_COMPLETED)
            done = trial if trial.done() else tasks[0]
            done.result()
        except EngineFailedError as error:
            self._tally.findings.that("the engine lives on", False, str(error))
        finally:
            await _cancel(*tasks[1:])
            self._clients.stop()
            await self._system.stop()
            await _cancel(*tasks)
        for line in self._system.defects():
            self._tally.findings.that("the engine's log speaks of no defect", False, line)
        return self._report(self._clock.monotonic() - began_s)

    async def _trial(self) -> None:
        await self._system.until_ready()
        self._load_began_s = self._clock.monotonic()
        self._enter("under fire")
        feeds = [asyncio.create_task(feed.run()) for feed in self._feeds]
        load = asyncio.create_task(self._clients.run(self._plan.clients))
        world = asyncio.create_task(self._world.run())
        try:
            await self._fire()
            await _cancel(world)
            self._enter("healing")
            await self._heal(load)
        finally:
            await _cancel(world, load, *feeds)
        self._enter("checking")
        try:
            async with asyncio.timeout(CHECK_MAX_S):
                await self._check()
        except (TimeoutError, httpx.HTTPError) as error:
            told = f"the engine did not show its log: {error or type(error).__name__}"
            self._tally.findings.that("everything comes to its end", False, told)

    async def _fire(self) -> None:
        """Let the blows fall at their moments. Some last, and others fall meanwhile."""
        async with asyncio.TaskGroup() as group:
            for strike in self._strikes:
                await self._sleep_until(strike.at_s)
                striking = group.create_task(self._let_fall(strike))
                if strike.alone:
                    await striking
            await self._sleep_until(self._plan.seconds)

    async def _let_fall(self, strike: Strike) -> None:
        self._tally.blows[strike.blow] += 1
        self._tally.last_blow = strike.blow
        try:
            await strike.fall()
        except (TimeoutError, EngineFailedError) as error:
            told = f"{strike.blow}: {error or 'there was nothing to hit'}"
            self._tally.findings.that("engine and database come back", False, told)

    async def _heal(self, load: "asyncio.Task[None]") -> None:
        """Nothing is broken any more: everything must come to its end."""
        waiting_for = "the engine's readiness"
        try:
            async with asyncio.timeout(HEAL_MAX_S):
                await self._system.until_ready()
                await self._asking.ask("PATCH", "/api/sim/faults", dict.fromkeys(FAULTS, 0))
                await self._asking.ask("DELETE", "/api/deadman")
                self._clients.closing = True
                waiting_for = "a definite answer to every client"
                await load
                waiting_for = "the end of every order, and its finality"
                await self._asking.until_all_are_settled()
                waiting_for = "every watcher to see its order's end"
                await self._clients.watched()
                waiting_for = "the feed to show every event"
                while any(len(feed.seen) < self._asking.events for feed in self._feeds):
                    await self._clock.sleep(POLL_S)
        except (TimeoutError, EngineFailedError):
            told = f"{HEAL_MAX_S:g} s after the last blow this was still waited for: {waiting_for}"
            self._tally.findings.that("everything comes to its end", False, told)

    async def _check(self) -> None:
        await self._asking.look()
        views = self._asking.views
        log = await read_log(self._system.urls[0], self._asking.events)
        histories = check_log(self._tally.findings, log)
        check_intents(self._tally.findings, self._clients.intents, histories, views)
        check_kinds(self._tally.findings, histories, views)
        self._tally.firings.update(event.seen.fired_by for event in log if event.seen.fired_by is not None)
        check_status_watchers(self._tally.findings, self._clients.watchers, histories)
        check_feed_watchers(self._tally.findings, self._feeds, log)
        found = await self._system.audit()
        self._tally.findings.that("the audit finds nothing", not found, "; ".join(found))

    async def _sleep_until(self, at_s: float) -> None:
        if self._load_began_s is not None:
            await self._clock.sleep(max(0.0, self._load_began_s + at_s - self._clock.monotonic()))

    async def _tell_progress(self) -> None:
        while True:
            self._tell()
            await self._clock.sleep(PROGRESS_EVERY_S)

    def _enter(self, phase: str) -> None:
        self._phase = phase
        self._tell()

    def _tell(self) -> None:
        began_s = self._load_began_s
        self._on_progress(
            Progress(
                phase=self._phase,
                elapsed_s=self._clock.monotonic() - began_s if began_s is not None else 0.0,
                total_s=float(self._plan.seconds),
                last_blow=self._tally.last_blow,
                accepted=self._tally.accepted,
                blows=self._tally.blows.total(),
            )
        )

    def _report(self, seconds: float) -> LiveReport:
        tally = self._tally
        views = list(self._asking.views.values())
        violations = tuple(tally.findings.violations)
        return LiveReport(
            seed=self._plan.seed,
            seconds=round(seconds, 1),
            blows=dict(tally.blows),
            failed_starts=tally.failed_starts,
            fenced=tally.fenced,
            longest_start_s=round(tally.longest_start_s, 2),
            longest_without_acceptance_s=round(tally.longest_without_acceptance_s, 2),
            orders=tally.accepted,
            orders_by_end=dict(Counter(view.status for view in views)),
            orders_by_kind=dict(Counter(view.kind for view in views)),
            slices=sum(view.slice_number is not None for view in views),
            exits_by_end=dict(Counter(view.status for view in views if view.kind == Kind.EXITS)),
            firings=dict(tally.firings),
            world=dict(tally.world),
            answers=dict(tally.answers),
            cancels=dict(tally.cancels),
            changes=dict(tally.changes),
            watchers=len(self._clients.watchers) + len(self._feeds),
            reconnects=tally.reconnects,
            events=self._asking.events,
            checks=dict(tally.findings.made),
            violations=violations,
            kept=str(self._folder) if violations else None,
        )


@contextmanager
def _interruptible() -> Generator[None]:
    """The first SIGINT or SIGTERM cancels this task; further ones must not break off what it does to end in order."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    interrupted = False

    def interrupt() -> None:
        nonlocal interrupted
        if not interrupted and task is not None:
            interrupted = True
            task.cancel()

    for each in SIGNALS:
        loop.add_signal_handler(each, interrupt)
    try:
        yield
    except asyncio.CancelledError:
        if interrupted:
            raise KeyboardInterrupt from None
        raise
    finally:
        for each in SIGNALS:
            loop.remove_signal_handler(each)


def _system(plan: LivePlan, folder: Path, clock: Clock, tally: Tally) -> System:
    if isinstance(plan, ClusterPlan):
        return Cluster(plan, folder, clock, tally)
    return EngineAlone(plan, folder, clock, tally)


def _new_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="bestex-torture-"))
    folder.chmod(0o755)  # PostgreSQL passes it under another account when this process is root
    return folder


async def _cancel(*tasks: "asyncio.Task[None]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
