"""What api, worker and watcher have in common: processes that share a database, and one simulated chain."""

from contextlib import AsyncExitStack, suppress
from typing import Final

import structlog

from bestex import __version__
from bestex.api.health import HealthApp
from bestex.api.server import HttpServer, listen
from bestex.api.stream import OpenStreams
from bestex.bootstrap.journal_process import JournalProcess
from bestex.bootstrap.process import STOP_DRAIN_S, within
from bestex.config import Settings
from bestex.domain.errors import JournalUnavailableError
from bestex.domain.tokens import TokenRegistry
from bestex.engine.halt_following import HaltFollower
from bestex.hub.follower import LogFollower
from bestex.hub.postgres import HALT_CHANNEL, LOG_CHANNEL, PostgresSignals
from bestex.hub.redis import RedisPublisher, RedisSignals, log_channel
from bestex.journal.postgres import PostgresJournal
from bestex.observability import Metrics
from bestex.venues.simnet.remote_world import RemoteWorld, connect_simnet

LOOK_AT_HALT_S: Final = 1.0

_log = structlog.get_logger("bestex")


class SharedProcess(JournalProcess):
    """A process beside others over one database."""

    def __init__(self, settings: Settings, tokens: TokenRegistry, faults: dict[str, float]) -> None:
        """`faults` are simnet's to have."""
        super().__init__(settings, tokens)

    async def _open_shared_journal(self, metrics: Metrics, exits: AsyncExitStack) -> PostgresJournal:
        """This process's place on the database, and its journal, running."""
        journal = await self._open_journal(self._dsn, exits)
        await self._halt_if_behind(journal, exits)
        journal.listen(metrics.committed)
        exits.push_async_callback(journal.close)
        self._start("journal", journal.run(), exits)
        return journal

    async def _connect_world(self, exits: AsyncExitStack) -> RemoteWorld:
        """The simulated world, once simnet is reached: it is waited for."""
        url = self._settings.simnet_url
        _log.info("simnet.connecting", url=url)
        world = await connect_simnet(url, self._tokens, self._clock)
        exits.push_async_callback(lambda: within(world.close(), STOP_DRAIN_S))
        self._start("simulated world", world.run(), exits)
        return world

    async def _hear(
        self, journal: PostgresJournal, halts: HaltFollower, follower: LogFollower | None, exits: AsyncExitStack
    ) -> None:
        """Hear of halts, and with `follower` of what all processes commit."""
        self._start("heads", self._publish_when_reconciled(journal, halts, exits), exits)
        signals = PostgresSignals(self._dsn, self._clock)
        signals.on(HALT_CHANNEL, lambda _: halts.look())
        if self._settings.redis_url is not None:
            await self._hear_over_redis(self._settings.redis_url, journal, follower, exits)
        elif follower is not None:
            signals.on(LOG_CHANNEL, follower.hear)
        self._start("signals", signals.run(), exits)
        if follower is not None:
            self._start("follower", follower.run(), exits)

    async def _hear_over_redis(
        self, url: str, journal: PostgresJournal, follower: LogFollower | None, exits: AsyncExitStack
    ) -> None:
        """Tell the others of this process's commits over Redis, and hear of theirs."""
        channel = log_channel((await journal.log_head()).journal_id)
        publisher = RedisPublisher(url, channel, self._clock)
        journal.on_head(lambda position, _: publisher.publish(position))
        self._start("publisher", publisher.run(), exits)
        if follower is not None:
            signals = RedisSignals(url, self._clock)
            signals.on(channel, follower.hear)
            self._start("redis signals", signals.run(), exits)

    async def _publish_when_reconciled(
        self, journal: PostgresJournal, halts: HaltFollower, exits: AsyncExitStack
    ) -> None:
        """Publish the head of a journal that was behind once it is reconciled, by whichever process."""
        while True:
            await self._clock.sleep(LOOK_AT_HALT_S)
            if not halts.journal_is_behind:
                with suppress(JournalUnavailableError):  # the next look may find it
                    await self._publish_anew(journal, exits)

    def _serve_health(self, journal: PostgresJournal, metrics: Metrics, exits: AsyncExitStack) -> None:
        """Answer supervisors, where a port is named."""
        settings = self._settings
        if settings.health_port is None:
            return
        listener = exits.enter_context(listen(settings.host, settings.health_port))
        app = HealthApp(lambda: self._what_keeps_from_work(journal), metrics.text)
        self._start("health", HttpServer(app, listener, OpenStreams()).run(), exits)

    def _ready(self, began: float, **more: object) -> None:
        self._collect_seldom()
        self._not_ready = None
        seconds = round(self._clock.monotonic() - began, 2)
        _log.info(f"{self.mode}.ready", version=__version__, **more, seconds=seconds)

    @property
    def _dsn(self) -> str:
        return self._settings.database_url or ""  # `launch` has seen to it
