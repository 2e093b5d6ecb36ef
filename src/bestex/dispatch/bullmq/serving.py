"""Serves the jobs: tells of each one's order, and is done with it once the order's lease is taken, by whomever.

BullMQ's client is watched. When it ends, when Redis does not answer, or when jobs wait and it brings none though it
has room, it is thrown away, and a new one takes its place once Redis answers.
"""

import asyncio
import uuid
from collections.abc import Sequence
from contextlib import suppress

import structlog
from bullmq import Job, Queue, Worker

from bestex.dispatch.bullmq.queue import CLOSE_S, QUEUE, BullMqLimits, close, url_of
from bestex.ports import Clock, RingListener
from bestex.waiting import sleep_or

_log = structlog.get_logger(__name__)


class JobServer:
    """The jobs of one worker."""

    def __init__(self, redis_url: str, clock: Clock, limits: BullMqLimits) -> None:
        self._url = url_of(redis_url)
        self._clock = clock
        self._limits = limits
        self._listeners: list[RingListener] = []
        self._in_hand: dict[str, asyncio.Future[None]] = {}  # by order id: set once its lease is taken
        self._stop = asyncio.Event()
        self._stopped = asyncio.Event()
        self.served = 0  # jobs brought, since the start
        self.restarts = 0  # clients thrown away, since the start

    @property
    def in_hand(self) -> int:
        """Jobs whose orders' leases are not taken yet."""
        return len(self._in_hand)

    def on_job(self, listener: RingListener) -> None:
        self._listeners.append(listener)

    def taken(self, order_ids: Sequence[str]) -> None:
        """Be done with the jobs of these orders."""
        for order_id in order_ids:
            job = self._in_hand.get(order_id)
            if job is not None and not job.done():
                job.set_result(None)

    async def stop(self) -> None:
        """Fetch no more jobs, and be done with those in hand: workers find their orders by themselves."""
        self._stop.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limits.call_s):
                await self._stopped.wait()

    async def run(self) -> None:
        """Serve until told to stop; then do nothing, for ever."""
        told = ""
        while True:
            why = await self._serve()
            if self._stop.is_set():
                self._stopped.set()
                await asyncio.Event().wait()
            self.restarts += 1
            if why != told:  # not again and again while Redis is away
                _log.warning("dispatch.client_restarted", reason=why, restarts=self.restarts)
            told = why
            await self._clock.sleep(self._limits.retry_s)

    async def _serve(self) -> str:
        """Serve by one client until it is of no use any more; why it is not."""
        probe = Queue(QUEUE, {"connection": self._url})
        worker: Worker | None = None
        running: asyncio.Task[None] | None = None
        try:
            await self._jobs_waiting(probe)  # only once Redis answers is a client any good
            worker = self._worker()
            running = asyncio.create_task(worker.run(), name="BullMQ")
            why = await self._watch(probe, running)
            if self._stop.is_set():
                await self._finish(worker)
            return why
        except Exception as error:  # noqa: BLE001 -- whatever the client raises, another takes its place
            return f"Redis does not answer: {error!r}"
        finally:
            if running is not None:
                running.cancel()
                await asyncio.wait((running,), timeout=CLOSE_S)
            if worker is not None:
                await close(worker)
            await close(probe)

    async def _watch(self, probe: Queue, running: "asyncio.Task[None]") -> str:
        """Why the client is of no use any more."""
        brought, brought_at = self.served, self._clock.monotonic()
        while True:
            await sleep_or(self._clock, self._limits.look_every_s, self._stop)
            if self._stop.is_set():
                return "the worker stops"
            if running.done():
                return "it ended"
            waiting = await self._jobs_waiting(probe)
            now = self._clock.monotonic()
            if self.served != brought or not waiting or len(self._in_hand) >= self._limits.in_hand:
                brought, brought_at = self.served, now
            elif now - brought_at >= self._limits.hang_s:
                return "it brings no jobs, and some wait"

    async def _finish(self, worker: Worker) -> None:
        """Be done with the jobs in hand."""
        pausing = asyncio.ensure_future(worker.pause())
        self.taken(list(self._in_hand))
        await asyncio.wait((pausing,), timeout=self._limits.call_s / 2)

    async def _jobs_waiting(self, probe: Queue) -> int:
        async with asyncio.timeout(self._limits.call_s):
            counts: dict[str, int] = await probe.getJobCounts("waiting", "prioritized")
        return sum(counts.values())

    def _worker(self) -> Worker:
        limits = self._limits
        options = {
            "connection": self._url,
            "autorun": False,
            "concurrency": limits.in_hand,
            "lockDuration": round(limits.lock_s * 1000),
            "stalledInterval": round(limits.lock_s * 1000),
            "runRetryDelay": round(limits.retry_s * 1000),
            "removeOnComplete": True,
            "removeOnFail": True,
        }
        worker = Worker(QUEUE, self._process, options)
        worker.on("error", _tell)
        return worker

    async def _process(self, job: Job, _token: str) -> None:
        self.served += 1
        order_id = _order_id(job)
        if order_id is None:
            _log.warning("dispatch.strange_job", job_id=str(job.id))
            return
        done = self._in_hand.get(order_id)
        if done is None:
            done = self._in_hand[order_id] = asyncio.get_running_loop().create_future()
        for listener in self._listeners:
            listener((order_id,))
        if self._stop.is_set() and not done.done():
            done.set_result(None)
        try:
            await done
        finally:
            if self._in_hand.get(order_id) is done:
                del self._in_hand[order_id]


def _order_id(job: Job) -> str | None:
    """The id of the job's order; None for a job that another put there."""
    try:
        return str(uuid.UUID(job.data["orderId"]))
    except (LookupError, TypeError, ValueError, AttributeError):
        return None


def _tell(error: object, *_: object) -> None:
    _log.info("dispatch.client_error", error=repr(error))
