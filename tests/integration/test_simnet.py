"""The simulated world behind a socket: what holds when connections break, and when clients misbehave."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from itertools import count

import msgspec
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

from bestex.ambient import SystemClock
from bestex.domain.errors import (
    BestexError,
    ChainUnreachableError,
    ExpiresTooSoonError,
    InsufficientFundsError,
    VenueDownError,
)
from bestex.domain.events import SignedTransaction
from bestex.domain.launches import Launch
from bestex.domain.route import QuoteRequest
from bestex.domain.tokens import Token, load_tokens, pair_of
from bestex.ports import LaunchWish, Tick
from bestex.venues.simnet import broadcast as broadcast_side
from bestex.venues.simnet import connection as client_side
from bestex.venues.simnet import server as server_side
from bestex.venues.simnet import session as session_side
from bestex.venues.simnet import wire
from bestex.venues.simnet.connection import AnotherWorldError, Connection
from bestex.venues.simnet.outbox import Outbox
from bestex.venues.simnet.remote_market import MEASURE_LIFE_S
from bestex.venues.simnet.remote_world import RemoteWorld, connect_simnet
from bestex.venues.simnet.session import Session
from bestex.venues.simulated.ledger import MemoryLedger
from tests.support.clock import FakeClock
from tests.support.simnet import Gate, ServedWorld, open_served, until

TOKENS = load_tokens()
SOL, USDC, BONK = (TOKENS.get(symbol) for symbol in ("SOL", "USDC", "BONK"))
SOL_USDC = pair_of(SOL, USDC)
ONE_SOL = QuoteRequest(SOL, USDC, 10**9)
TRANSACTION = SignedTransaction("signature", b"bytes", "hash", 1, 2)


@pytest.fixture(autouse=True)
def quick_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broadcast_side, "MEASURE_EVERY_S", 0.05)


@asynccontextmanager
async def served(**options: object) -> AsyncIterator[ServedWorld]:
    world = await open_served(**options)
    try:
        yield world
    finally:
        await world.close()


@asynccontextmanager
async def client_of(port: int, clock: FakeClock | SystemClock | None = None) -> AsyncIterator[RemoteWorld]:
    remote = await connect_simnet(f"http://127.0.0.1:{port}", load_tokens(), clock or SystemClock())
    try:
        yield remote
    finally:
        await remote.close()


def chain_calls(remote: RemoteWorld) -> dict[str, Callable[[], Awaitable[object]]]:
    """Every method of the chain and the wallet that asks something."""
    return {
        "send": lambda: remote.chain.send(TRANSACTION),
        "statuses": lambda: remote.chain.statuses(["x"]),
        "finalized_height": remote.chain.finalized_height,
        "fills": lambda: remote.chain.fills(["x"]),
        "balances": remote.wallet.balances,
        "history": lambda: remote.wallet.history(None, 10),
        "launches": lambda: remote.market_data.launches(0, 10),
        "status": remote.control.status,
        "fund": lambda: remote.control.fund(SOL, 1),
        "reset": remote.control.reset,
    }


# --- What crosses the wire


async def test_errors_cross_with_their_class_and_their_words() -> None:
    async with served(profile="instant") as world:
        remote, venue = world.remote, world.venue()
        quote = await venue.quote(ONE_SOL)
        request = world.swap_request("SOL", "USDC", quote)
        too_much = msgspec.structs.replace(request, amount_in=10**9 * 2_000_000)
        with pytest.raises(InsufficientFundsError, match="holds 1000000 SOL, the swap needs 2000000"):
            await venue.build(too_much)
        with pytest.raises(ExpiresTooSoonError, match="no time to land in"):
            await venue.build(msgspec.structs.replace(request, expires_us=world.clock.now_us()))
        with pytest.raises(ValueError, match="unknown"):
            await remote.control.set_faults({"unknown": 1})
        with pytest.raises(ValueError, match="the bytes are no transaction"):
            await remote.chain.send(TRANSACTION)
        with pytest.raises(ValueError, match="no launched token with the mint"):
            await remote.control.migrate("nobody")
        await remote.control.set_faults({"raydium_down": 1})
        with pytest.raises(VenueDownError, match="simulated: raydium is down"):
            await venue.quote(ONE_SOL)
        assert venue.quote_at_once(ONE_SOL) is None


async def test_what_cannot_be_said_is_an_error_of_that_call_alone() -> None:
    async with served(profile="instant") as world:
        venue = world.venue()
        good = venue.quote(ONE_SOL)
        with pytest.raises(ValueError, match="it cannot be said"):
            await venue.quote(QuoteRequest(SOL, USDC, 2**70))
        assert (await good).amount_out > 0
        with pytest.raises(ValueError, match="no token is like that"):
            await venue.quote(QuoteRequest(Token("XYZ", "XYZ", 10**9), USDC, 1))


async def test_prices_come_with_the_curves_of_the_world_itself() -> None:
    async with served() as world:
        for pair in (SOL_USDC, pair_of(BONK, USDC)):
            tick = await world.remote.market_data.read(pair)
            assert tick == world.served.market_data.latest(pair)
            assert tick is not None
            assert len(tick.curves) == 2


async def test_a_followed_pair_has_prices_before_time_passes() -> None:
    async with served() as world:
        world.remote.market_data.follow([SOL_USDC])
        await until(lambda: world.remote.market_data.latest(SOL_USDC) is not None)
        world.remote.market_data.follow([])
        assert world.remote.market_data.latest(SOL_USDC) is None


async def test_what_the_wallet_holds_is_known_without_asking_whoever_changed_it() -> None:
    async with served(profile="instant") as world:
        wallet, start = world.remote.wallet, 1_000_000 * 10**9
        assert wallet.held(SOL.mint) == start
        assert wallet.held("a mint that was never held") == 0
        async with client_of(world.port) as other:
            await other.control.fund(SOL, 5)
            await until(lambda: wallet.held(SOL.mint) == start + 5)
            landed: list[str] = []
            seen: list[int | None] = []
            world.remote.chain.on_status(landed.extend)
            world.remote.chain.on_status(lambda _: seen.append(wallet.held(SOL.mint)))
            transaction = await world.built("SOL", "USDC", "1")
            await world.remote.chain.send(transaction)
            await until(lambda: landed == [transaction.signature])
            fill = await world.fill(transaction.signature)
            assert seen == [start + 5 - 10**9 - fill.fee_paid], "what it cost is known when it is told of"
            await until(lambda: other.wallet.held(SOL.mint) == seen[0])


async def test_a_slow_call_does_not_hold_up_a_quick_one() -> None:
    async with served() as world:
        slow = world.venue().quote(ONE_SOL)  # takes time, which stands still
        assert (await world.remote.control.status()).profile == "realistic"
        assert not slow.done()  # type: ignore[attr-defined] # it is a future
        quote = await world.during(slow)
        assert quote is not None


async def test_launched_tokens_are_learnt_by_all_and_told_to_who_listens() -> None:
    async with served() as world:
        early = await world.remote.control.launch(LaunchWish(ticker="EARLY"))
        async with client_of(world.port) as other:
            tokens = load_tokens()
            late = await connect_simnet(world.url, tokens, SystemClock())
            assert tokens.find(early.token.mint) == early.token, "those of before are learnt with the connection"
            heard: list[tuple[Launch, Tick | None]] = []
            market = other.market_data
            market.on_launch(lambda launch: heard.append((launch, market.latest(pair_of(launch.token, SOL)))))
            await until(lambda: market.look_again(early.pool) is not None)
            heard.clear()  # it was asked for before it was known
            launch = await world.remote.control.launch(LaunchWish(ticker="LATER"))
            await until(lambda: len(heard) == 1)
            told, tick = heard[0]
            assert told.pool == launch.pool
            assert tick is not None, "the prices come with it"
            assert tick.curves[0].pool == launch.pool
            await until(lambda: tokens.find(launch.token.mint) is not None)
            assert [each.pool for each in await market.launches(0, 10)] == [early.pool, launch.pool]
            await late.close()


async def test_a_pool_is_looked_at_as_it_is_measured_now_until_it_is_gone() -> None:
    async with served(profile="instant") as world:
        market = world.remote.market_data
        market.on_launch(lambda _: None)
        launch = await world.remote.control.launch(LaunchWish(liquidity="100", venue="raydium"))
        await until(lambda: market.look_again(launch.pool) is not None)
        await world.clock.advance(5)

        def later() -> bool:
            looked = market.look_again(launch.pool)
            return looked is not None and looked.slot > launch.slot

        await until(later)
        await world.remote.control.migrate(launch.token.mint)
        await until(lambda: market.look_again(launch.pool) is None)


# --- Connections that break


async def test_without_a_connection_every_call_fails_at_once_as_its_port_says() -> None:
    async with served() as world:
        await world.stop_serving()
        remote = world.remote
        await until(lambda: not remote.is_connected)
        for call in chain_calls(remote).values():
            with pytest.raises(ChainUnreachableError, match="no connection to http"):
                await call()
        for venue in remote.venues:
            with pytest.raises(VenueDownError, match="no connection to http"):
                await venue.quote(ONE_SOL)
        assert remote.wallet.held(SOL.mint) is None
        assert await remote.market_data.read(SOL_USDC) is None


async def test_a_call_whose_connection_breaks_is_unknown() -> None:
    async with served() as world, Gate(world.port).running() as gate, client_of(gate.port) as remote:
        gate.hold()
        calls = {name: asyncio.ensure_future(call()) for name, call in chain_calls(remote).items()}
        quote = asyncio.ensure_future(remote.venues[0].quote(ONE_SOL))
        await asyncio.sleep(0)
        gate.cut()
        for each in calls.values():
            with pytest.raises(ChainUnreachableError, match="broke"):
                await each
        with pytest.raises(VenueDownError, match="broke"):
            await quote


async def test_bytes_whose_send_broke_off_may_have_arrived_and_are_found_afterwards() -> None:
    async with served(profile="instant") as world, Gate(world.port).running() as gate, client_of(gate.port) as remote:
        transaction = await world.built("SOL", "USDC", "1")
        gate.hold()
        sent = gate.sent
        sending = asyncio.ensure_future(remote.chain.send(transaction))
        await until(lambda: gate.sent > sent)
        await world.until_known(transaction.signature)
        assert not sending.done()
        gate.cut()
        with pytest.raises(ChainUnreachableError):
            await sending
        await until(lambda: remote.is_connected)
        [status] = (await remote.chain.statuses([transaction.signature])).statuses
        assert status is not None


async def test_after_a_break_all_is_as_before_without_anybody_asking() -> None:
    async with served() as world:
        remote = world.remote
        ticks: list[Tick] = []
        hints: list[str] = []
        launches: list[Launch] = []
        remote.market_data.follow([SOL_USDC])
        remote.market_data.on_tick(ticks.append)
        remote.market_data.on_launch(launches.append)
        remote.chain.on_status(hints.extend)
        first = await remote.control.launch(LaunchWish())
        await until(lambda: remote.market_data.look_again(first.pool) is not None)
        launches.clear()
        await world.stop_serving()
        await until(lambda: not remote.is_connected)
        assert remote.market_data.look_again(first.pool) is None, "nothing old is shown for new"
        missed = await world.served.control.launch(LaunchWish())
        await world.served.control.fund(SOL, 7)
        world.serve()
        await until(lambda: remote.is_connected)
        await until(lambda: {each.pool for each in launches} == {first.pool, missed.pool})
        assert world.known.find(missed.token.mint) == missed.token
        assert remote.wallet.held(SOL.mint) == 1_000_000 * 10**9 + 7
        ticks.clear()
        await world.clock.advance(1)
        await until(lambda: bool(ticks))
        transaction = await world.built("SOL", "USDC", "1")
        await remote.chain.send(transaction)
        await world.until_known(transaction.signature)
        assert hints == [transaction.signature]


async def test_a_server_that_falls_silent_is_given_up_and_calls_end_within_their_time() -> None:
    clock = FakeClock()
    async with served() as world, Gate(world.port).running() as gate, client_of(gate.port, clock) as remote:
        await remote.control.status()
        gate.hold()
        asked = asyncio.ensure_future(remote.chain.finalized_height())
        await clock.advance(client_side.SILENCE_S)
        assert not asked.done()
        assert remote.is_connected
        await clock.advance(1)
        with pytest.raises(ChainUnreachableError, match="has said nothing for 4 s"):
            await asked
        assert not remote.is_connected
        gate.cut()
        await clock.advance(client_side.BACKOFF_S[-1])

        async def connects() -> None:
            while not remote.is_connected:
                await clock.advance(1)
                await asyncio.sleep(0.002)

        await asyncio.wait_for(connects(), 10)


async def test_a_call_that_is_not_answered_in_its_time_fails_while_others_are_answered() -> None:
    clock = FakeClock()
    async with served() as world, client_of(world.port, clock) as remote:
        slow = remote.venues[0].quote(ONE_SOL)  # the world's time stands still
        for _ in range(6):
            await remote.control.status()
            await clock.advance(1)
        with pytest.raises(VenueDownError, match="did not answer within 5 s"):
            await slow
        assert remote.is_connected


async def test_pools_are_not_shown_when_their_measures_are_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broadcast_side, "MEASURE_EVERY_S", 3_600.0)
    clock = FakeClock()
    async with served() as world, client_of(world.port, clock) as remote:
        heard: list[Launch] = []
        remote.market_data.on_launch(heard.append)
        await until(lambda: remote.market_data.look_again("unknown") is None)
        launch = await remote.control.launch(LaunchWish())
        await until(lambda: remote.market_data.look_again(launch.pool) is not None)
        heard.clear()
        await clock.advance(MEASURE_LIFE_S + 0.1)
        assert remote.market_data.look_again(launch.pool) is None
        world.remote.market_data.on_launch(lambda _: None)  # who begins to listen has all measured
        await until(lambda: bool(heard))
        assert heard[0].pool == launch.pool, "who asked in vain is told once it is known"


async def test_another_wallet_at_the_same_address_is_another_world() -> None:
    async with served() as world:
        remote = world.remote
        await world.stop_serving()
        stranger = await open_served(entropy=b"another world's entropy", ledger=MemoryLedger())
        await stranger.stop_serving()
        stranger.port = world.port
        stranger.serve()
        with pytest.raises(AnotherWorldError, match=r"had .* before"):
            await asyncio.wait_for(remote.run(), 10)
        with pytest.raises(ChainUnreachableError):
            await remote.chain.finalized_height()
        await stranger.close()


async def test_a_client_waits_for_a_server_that_is_not_there_yet() -> None:
    async with served() as world:
        await world.stop_serving()
        coming = asyncio.ensure_future(connect_simnet(world.url, load_tokens(), SystemClock()))
        await asyncio.sleep(0)
        assert not coming.done()
        world.serve()
        remote = await asyncio.wait_for(coming, 10)
        assert remote.wallet.address == world.served.wallet.address
        await remote.close()


async def test_who_gives_up_waiting_leaves_nothing_behind() -> None:
    before = asyncio.all_tasks()
    coming = asyncio.ensure_future(connect_simnet("http://127.0.0.1:1", load_tokens(), SystemClock()))
    await asyncio.sleep(0.01)
    coming.cancel()
    await asyncio.gather(coming, return_exceptions=True)
    await until(lambda: asyncio.all_tasks() == before)


@pytest.mark.parametrize("url", ["127.0.0.1:4100", "ftp://x", "http://", "http://:4100", "http://x:port"])
async def test_a_bad_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="address"):
        await connect_simnet(url, load_tokens(), SystemClock())


# --- Many calls


@asynccontextmanager
async def scripted_server(
    script: Callable[[ServerConnection], Awaitable[None]],
) -> AsyncIterator[int]:
    """A server that does what the script says; its port."""
    server = await serve(script, "127.0.0.1", 0, compression=None)
    try:
        yield next(iter(server.sockets)).getsockname()[1]
    finally:
        server.close()


def said(*messages: wire.Reply | wire.Request) -> bytes:
    outbox = Outbox()
    for each in messages:
        outbox.add(each)
    [message] = outbox.take()
    return message


HELLO = wire.Hello(wire.PROTOCOL, "wallet", "instant", ["raydium"])


async def test_the_calls_of_one_turn_are_one_message() -> None:
    messages: list[int] = []

    async def script(connection: ServerConnection) -> None:
        await connection.send(said(HELLO))
        async for message in connection:
            assert isinstance(message, bytes)
            messages.append(len(wire.read_requests(message)))

    async with scripted_server(script) as port, client_of(port) as remote:
        asked = [asyncio.ensure_future(remote.chain.send(TRANSACTION)) for _ in range(100)]
        await until(lambda: bool(messages))
        assert messages == [100]
        await remote.close()
        await asyncio.gather(*asked, return_exceptions=True)


async def test_more_calls_than_may_wait_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_side, "MAX_CALLS", 3)
    async with served() as world:
        slow = [world.venue().quote(ONE_SOL) for _ in range(3)]
        with pytest.raises(VenueDownError, match=r"3 calls to .* wait for answers already"):
            await world.venue().quote(ONE_SOL)
        await world.during(asyncio.gather(*slow))
        await world.during(world.venue().quote(ONE_SOL))


def test_a_long_batch_goes_as_several_messages_and_none_is_lost() -> None:
    outbox = Outbox()
    for number in range(3_000):
        outbox.add(wire.AskStatuses(number, ["s" * 1_000]))
    messages = outbox.take()
    assert len(messages) == 3
    assert all(len(message) <= wire.MAX_MESSAGE_BYTES for message in messages)
    numbers = [request.number for message in messages for request in wire.read_requests(message)]  # type: ignore[union-attr] # they are calls
    assert numbers == list(range(3_000))
    assert len(outbox) == 0


def test_a_message_that_is_too_large_is_left_out() -> None:
    outbox = Outbox()
    outbox.add(wire.AskHeight(1))
    with pytest.raises(ValueError, match="too large to be sent"):
        outbox.add(wire.AskStatuses(2, ["s" * wire.MAX_MESSAGE_BYTES]))
    outbox.add(wire.AskHeight(3))
    [message] = outbox.take()
    assert wire.read_requests(message) == [wire.AskHeight(1), wire.AskHeight(3)]


@pytest.mark.parametrize(
    "nonsense",
    [b"", b"\xc1", b"\x90\x90", msgspec.msgpack.encode([[99, 1]]), said(HELLO)[:-1]],
)
async def test_a_server_that_talks_nonsense_is_left_and_tried_again(nonsense: bytes) -> None:
    connections = count(1)
    left: list[int] = []

    async def script(connection: ServerConnection) -> None:
        number = next(connections)
        await connection.send(said(HELLO))
        if number == 1:
            await connection.send(nonsense)
        await connection.wait_closed()
        left.append(number)

    async with scripted_server(script) as port, client_of(port) as remote:
        await until(lambda: left == [1])
        await until(lambda: remote.is_connected)


async def test_a_server_of_another_release_is_not_spoken_to() -> None:
    protocols = iter([wire.PROTOCOL + 1, wire.PROTOCOL + 1, wire.PROTOCOL])

    async def script(connection: ServerConnection) -> None:
        await connection.send(said(msgspec.structs.replace(HELLO, protocol=next(protocols))))
        await connection.wait_closed()

    async with scripted_server(script) as port, client_of(port) as remote:
        assert remote.is_connected
        assert next(protocols, None) is None


# --- Clients that misbehave


async def close_of(client: ClientConnection, message: str | bytes) -> int | None:
    """The code with which the server closes a connection that such a message came on."""
    with suppress(ConnectionClosed):
        await client.send(message)
    async with asyncio.timeout(10):
        with suppress(ConnectionClosed):
            while True:
                await client.recv()
    return client.close_code


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("text", 1007),
        (b"", 1007),
        (b"\xc1 is no MessagePack", 1007),
        (b"\x91" * 100_000, 1007),
        (msgspec.msgpack.encode([[99, 1]]), 1007),
        (msgspec.msgpack.encode([[1, 1, "raydium", {}]]), 1007),
        (msgspec.msgpack.encode([[18, [0] * 3]]), 1007),
        (bytes(wire.MAX_MESSAGE_BYTES + 1), 1009),
    ],
)
async def test_a_client_that_talks_nonsense_is_cut_off_and_nobody_else(frame: str | bytes, code: int) -> None:
    async with served(profile="instant") as world:
        async with connect(f"ws://127.0.0.1:{world.port}{wire.PATH}", compression=None) as bad:
            assert await close_of(bad, frame) == code
        assert (await world.venue().quote(ONE_SOL)).amount_out > 0
        assert world.remote.is_connected
        await until(lambda: world.server.clients == 1)


async def test_calls_that_no_client_makes_are_answered_with_errors() -> None:
    stranger = pair_of(Token("SOL", "not a mint", 6), USDC)
    async with served(profile="instant") as world:
        connection = Connection(world.url, SystemClock())
        running = asyncio.create_task(connection.run())
        await connection.has_met.wait()

        async def ask(call: wire.Call) -> object:
            return await connection.ask(call, BestexError)

        with pytest.raises(ValueError, match="there is no venue nowhere"):
            await ask(wire.AskQuote(connection.number(), "nowhere", ONE_SOL))
        with pytest.raises(ValueError, match="not in the token registry"):
            await ask(wire.Fund(connection.number(), stranger.base, 1))
        with pytest.raises(ValueError, match="no venue has a pool"):
            await ask(wire.MovePrice(connection.number(), stranger, 1.0))
        assert await ask(wire.AskPrices(connection.number(), stranger)) is None
        assert await ask(wire.AskHistory(connection.number(), None, -5)) == []
        connection.say(wire.FollowPairs([stranger]))
        assert await ask(wire.AskLaunches(connection.number(), 0, 10**9)) == []
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_client_with_too_many_calls_or_pairs_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_side, "MAX_CALLS", 2)
    monkeypatch.setattr(session_side, "MAX_PAIRS", 2)
    async with served() as world:
        too_many: list[list[list[wire.Request]]] = [
            [[wire.AskQuote(number, "raydium", ONE_SOL)] for number in range(3)],  # message by message
            [[wire.FollowStatuses()] * 3],
            [[wire.FollowPairs([SOL_USDC] * 3)]],
        ]
        for messages in too_many:
            async with connect(f"ws://127.0.0.1:{world.port}{wire.PATH}", compression=None) as greedy:
                for requests in messages[:-1]:
                    await greedy.send(said(*requests))
                assert await close_of(greedy, said(*messages[-1])) == 1008
                assert "more than" in (greedy.close_reason or "")
        assert world.remote.is_connected


async def test_a_client_that_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_side, "MAX_UNSENT_BYTES", 100_000)
    monkeypatch.setattr(session_side, "CLOSE_S", 0.01)
    async with served() as world:
        sent: list[object] = []

        async def never() -> dict[str, object]:
            await asyncio.get_running_loop().create_future()
            raise AssertionError

        async def takes_one(message: object) -> None:
            sent.append(message)
            if len(sent) > 1:
                await asyncio.get_running_loop().create_future()

        broadcast = world.server._broadcast
        assert broadcast is not None
        session = Session(world.served, world.registry, broadcast)
        serving = asyncio.ensure_future(session.serve(never, takes_one))
        for _ in range(8):
            session.tell(wire.Landed(["x" * 30_000]))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        await asyncio.wait_for(serving, 10)
        last = sent[-1]
        assert isinstance(last, dict)
        assert last["code"] == 1008


async def test_old_ticks_do_not_pile_up_for_a_slow_client() -> None:
    async with served() as world:
        blocked = asyncio.Event()
        sent: list[bytes] = []

        async def never() -> dict[str, object]:
            await asyncio.get_running_loop().create_future()
            raise AssertionError

        async def slow(message: dict[str, object]) -> None:
            data = message["bytes"]
            assert isinstance(data, bytes)
            sent.append(data)
            await blocked.wait()

        broadcast = world.server._broadcast
        assert broadcast is not None
        session = Session(world.served, world.registry, broadcast)
        serving = asyncio.ensure_future(session.serve(never, slow))  # type: ignore[arg-type] # messages are dicts
        session.tell(wire.Beat())
        await until(lambda: len(sent) == 1)
        broadcast.follow_pairs(session, [SOL_USDC])
        await world.clock.advance(10)
        blocked.set()
        await until(lambda: len(sent) == 2)
        [reply] = wire.read_replies(sent[1])
        assert isinstance(reply, wire.Ticked)
        assert reply.tick.at_us >= world.clock.now_us() - 500_000, "the newest"
        broadcast.leave(session)
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def test_web_pages_other_paths_and_too_many_clients_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served() as world:
        address = f"ws://127.0.0.1:{world.port}"
        for path, origin in ((wire.PATH, "http://evil.example"), ("/other", None)):
            with pytest.raises(InvalidStatus, match="403"):
                async with connect(address + path, origin=origin):  # type: ignore[arg-type] # a text is an origin
                    pass
        monkeypatch.setattr(server_side, "MAX_CLIENTS", 1)
        async with connect(address + wire.PATH) as one_too_many:
            with pytest.raises(ConnectionClosed, match="too many clients"):
                await one_too_many.recv()


async def test_its_health_can_be_asked_for() -> None:
    async with served() as world:

        async def answer(request: bytes) -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
            writer.write(request)
            found = await reader.read()
            writer.close()
            return found

        for path, status in ((b"/healthz", b"200"), (b"/readyz", b"200"), (b"/", b"404")):
            head = await answer(b"GET " + path + b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            assert head.split()[1] == status
        head = await answer(b"POST /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert head.split()[1] == b"405"
        assert await answer(b"GET /" + b"x" * 100_000) == b"", "a head without an end is not read to its end"
        assert (await answer(b"\x00\x01\x02\r\n\r\n")).split()[1] == b"400"
        assert (await world.remote.control.status()).profile == "realistic"


async def test_a_stopped_server_ends_its_connections_and_frees_its_address() -> None:
    async with served() as world:
        await world.stop_serving()
        await until(lambda: not world.remote.is_connected)
        with socket.create_server(("127.0.0.1", world.port)):
            pass
