"""What a client of the simulated world does without asking: quoting, signing, sending, and seeing what landed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from bestex.ambient import SystemClock
from bestex.domain.errors import ChainUnreachableError
from bestex.domain.events import SignedTransaction
from bestex.domain.route import Fill, Quote, QuoteRequest
from bestex.domain.tokens import load_tokens
from bestex.ports import Commitment, Venue
from bestex.venues.simnet import mirror as mirror_side
from bestex.venues.simnet import session as session_side
from bestex.venues.simnet import told_landings, wire
from bestex.venues.simnet.remote_world import connect_simnet
from bestex.venues.simnet.told_landings import ToldLandings
from tests.support.clock import FakeClock
from tests.support.simnet import Gate, ServedWorld, open_served, until

TOKENS = load_tokens()
SOL, USDC, JUP, BONK = (TOKENS.get(symbol) for symbol in ("SOL", "USDC", "JUP", "BONK"))
ONE_SOL = QuoteRequest(SOL, USDC, 10**9)
VENUES = ("raydium", "meteora")


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """The world's clock stands still between steps, the client's goes on: what was told gets older than in life."""
    monkeypatch.setattr(told_landings, "TOLD_LIFE_S", 60.0)


@asynccontextmanager
async def served(**options: object) -> AsyncIterator[ServedWorld]:
    world = await open_served(profile="instant", **options)
    try:
        yield world
    finally:
        await world.close()


async def quoted(venue: Venue, request: QuoteRequest) -> Quote:
    """The venue's quote, once it gives one without being asked over the wire."""
    found: list[Quote] = []

    def tried() -> bool:
        quote = venue.quote_at_once(request)
        found.extend([] if quote is None else [quote])
        return quote is not None

    await until(tried)
    return found[0]


def said(quote: Quote | None) -> tuple[object, ...]:
    assert quote is not None
    return tuple(getattr(quote, field) for field in quote.__struct_fields__ if field not in ("quoted_us", "stale_us"))


async def signed(world: ServedWorld, venue: Venue) -> SignedTransaction:
    quote = await quoted(venue, ONE_SOL)
    transaction = venue.build_at_once(world.swap_request("SOL", "USDC", quote))
    assert transaction is not None
    return transaction


async def test_a_client_quotes_by_itself_what_the_venue_would() -> None:
    async with served() as world:
        for pay, receive, amount in (
            (SOL, USDC, 10**9),
            (USDC, SOL, 5 * 10**8),
            (JUP, BONK, 10**7),
            (BONK, JUP, 10**8),
        ):
            request = QuoteRequest(pay, receive, amount)
            for remote, own in zip(world.remote.venues, world.served.venues, strict=True):
                assert remote.name == own.name
                assert said(await quoted(remote, request)) == said(own.quote_at_once(request)), (pay, receive)


async def test_what_no_venue_would_quote_is_asked_for() -> None:
    async with served() as world:
        venue = world.venue()
        await quoted(venue, ONE_SOL)
        for amount in (10**18, 1):
            assert venue.quote_at_once(QuoteRequest(BONK, SOL, amount)) is None
        assert venue.quote_at_once(QuoteRequest(SOL, USDC, 10**19)) is None


@pytest.mark.parametrize("name", VENUES)
async def test_a_swap_signed_by_the_client_lands_and_does_what_was_quoted(name: str) -> None:
    async with served() as world:
        venue = world.venue(name)
        quote = await quoted(venue, ONE_SOL)
        transaction = await signed(world, venue)
        assert world.remote.chain.send_at_once(transaction)
        await world.until_known(transaction.signature)
        fill = await world.fill(transaction.signature)
        assert (fill.amount_in, fill.amount_out) == (10**9, quote.amount_out)


async def test_a_swap_that_would_fail_is_left_to_the_venue_to_refuse() -> None:
    async with served() as world:
        venue = world.venue()
        quote = await quoted(venue, ONE_SOL)
        request = world.swap_request("SOL", "USDC", quote)
        change = msgspec.structs.replace
        assert venue.build_at_once(change(request, min_amount_out=quote.amount_out + 1)) is None
        assert venue.build_at_once(change(request, amount_in=2_000_000 * 10**9, min_amount_out=1)) is None
        assert venue.build_at_once(change(request, expires_us=world.clock.now_us() + 10**9)) is None
        assert venue.build_at_once(request) is not None


async def test_swaps_of_others_show_in_the_next_quote() -> None:
    async with served() as world:
        venue, other = world.venue(), await world.another_client()
        before = await quoted(venue, ONE_SOL)
        theirs = next(each for each in other.venues if each.name == "raydium")
        big = await theirs.quote(QuoteRequest(SOL, USDC, 100_000 * 10**9))
        await other.chain.send(await theirs.build(world.swap_request("SOL", "USDC", big)))
        await until(
            lambda: (quote := venue.quote_at_once(ONE_SOL)) is not None and quote.amount_out < before.amount_out
        )
        await other.close()


async def test_where_things_take_time_or_go_wrong_the_venue_is_asked() -> None:
    async with served() as world:
        venue = world.venue()
        quote = await quoted(venue, ONE_SOL)
        request = world.swap_request("SOL", "USDC", quote)
        await world.remote.control.set_faults({"raydium_down": 0.5})
        assert venue.quote_at_once(ONE_SOL) is None, "who set the fault knows of it"
        assert venue.build_at_once(request) is None
        await world.remote.control.set_faults({"raydium_down": 0.0})
        assert venue.quote_at_once(ONE_SOL) is not None
    slow = await open_served(profile="realistic")
    venue = slow.venue()
    assert venue.quote_at_once(ONE_SOL) is None
    await until(lambda: slow.remote._mirror._traded[SOL.mint, USDC.mint].sells is not None)
    assert venue.quote_at_once(ONE_SOL) is None
    await slow.close()


async def test_old_prices_are_not_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served() as world:
        await quoted(world.venue(), ONE_SOL)
        monkeypatch.setattr(mirror_side, "PRICES_LIFE_S", -1.0)
        assert world.venue().quote_at_once(ONE_SOL) is None


async def test_the_blockhash_is_of_the_newest_slot_that_the_chain_has_certainly_come_to() -> None:
    async with served() as world:
        venue = world.venue()
        mirror = world.remote._mirror
        quote = await quoted(venue, ONE_SOL)
        request = world.swap_request("SOL", "USDC", quote)
        mirror._clock = clock = FakeClock()
        await quoted(venue, ONE_SOL)
        prices = mirror.prices(SOL, USDC)
        assert prices is not None
        slots = []
        for passed_s in (0.0, 0.004, 0.008, 0.1):
            await clock.advance(prices.heard_at + passed_s - clock.monotonic())
            transaction = mirror.sign(request, "raydium", quote.pool, prices)
            assert transaction is not None
            slots.append(transaction.blockhash_slot - prices.slot)
        assert slots == [0, 0, 1, 24]


async def test_without_a_connection_nothing_is_quoted_or_sent_and_with_the_next_it_is() -> None:
    async with served() as world:
        venue = world.venue()
        transaction = await signed(world, venue)
        await world.stop_serving()
        await until(lambda: not world.remote.is_connected)
        assert venue.quote_at_once(ONE_SOL) is None
        with pytest.raises(ChainUnreachableError, match="no connection"):
            world.remote.chain.send_at_once(transaction)
        world.serve()
        await quoted(venue, ONE_SOL)


async def test_what_a_client_sent_is_shown_to_it_without_a_question() -> None:
    async with served() as world:
        gate = Gate(world.port)
        async with gate.running():
            remote = await connect_simnet(f"http://127.0.0.1:{gate.port}", load_tokens(), SystemClock())
            hinted: list[str] = []
            remote.chain.on_status(hinted.extend)
            remote._mirror._clock = world.clock
            venue = next(each for each in remote.venues if each.name == "meteora")
            transaction = await signed(world, venue)
            remote.chain.send_at_once(transaction)
            await until(lambda: hinted == [transaction.signature])
            sent = gate.sent
            report = await remote.chain.statuses([transaction.signature])
            [fill] = await remote.chain.fills([transaction.signature])
            assert gate.sent == sent, "nothing was asked"
            own = await world.served.chain.statuses([transaction.signature])
            assert report.statuses == own.statuses
            assert (report.endpoint, report.history_from_slot) == (own.endpoint, own.history_from_slot)
            assert [fill] == await world.served.chain.fills([transaction.signature])

            again = await remote.chain.statuses([transaction.signature])
            assert again.statuses == own.statuses
            assert gate.sent > sent, "the second look was asked for"
            await remote.close()


async def test_a_landing_is_told_to_who_sent_it_and_to_all_once_that_one_is_gone() -> None:
    async with served() as world:
        heard: list[str] = []
        other = await world.another_client()
        other.chain.on_status(heard.extend)
        first, second = await signed(world, world.venue()), await signed(world, world.venue())
        mine: list[str] = []
        world.remote.chain.on_status(mine.extend)
        await world.remote.control.status()  # both have said what they want
        await other.control.status()
        world.remote.chain.send_at_once(first)
        await until(lambda: mine == [first.signature])
        assert heard == []
        await world.served.chain.send(second)
        await until(lambda: heard == [second.signature])
        await other.close()


async def test_under_faults_a_landing_is_a_hint_only() -> None:
    async with served() as world:
        transaction = await signed(world, world.venue())
        await world.remote.control.set_faults({"fork_after_confirmed": 0.000001})
        hinted: list[str] = []
        world.remote.chain.on_status(hinted.extend)
        world.remote.chain.send_at_once(transaction)
        await until(lambda: hinted == [transaction.signature])
        assert len(world.remote._remote_chain._told) == 0


async def test_the_sent_that_never_land_are_forgotten_beyond_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_side, "MAX_SENT", 2)
    async with served() as world:
        heard: list[str] = []
        other = await world.another_client()
        other.chain.on_status(heard.extend)
        world.remote.chain.on_status(lambda _: None)
        await other.control.status()
        await world.remote.control.set_faults({"dropped": 1.0})
        for number in range(3):
            transaction = SignedTransaction(f"{number}", b"bytes", "hash", 1, 2)
            world.remote.chain.send_at_once(transaction)
        await world.remote.control.status()
        broadcast = world.server._broadcast
        assert broadcast is not None
        broadcast._landed(["0", "1", "2"])
        await until(lambda: heard == ["0"])
        await other.close()


async def test_a_pair_that_nobody_trades_any_more_is_not_followed() -> None:
    async with served() as world:
        clock = FakeClock()
        remote = await connect_simnet(world.url, load_tokens(), clock)
        venue = remote.venues[0]
        await quoted(venue, ONE_SOL)
        await clock.advance(mirror_side.UNUSED_S + 1)
        await world.clock.advance(1)
        await until(lambda: not remote._mirror._traded)
        broadcast = world.server._broadcast
        assert broadcast is not None
        await until(lambda: not broadcast._followers)
        await quoted(venue, ONE_SOL)
        await remote.close()


async def test_beyond_a_bound_pairs_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror_side, "PAIRS_MAX", 1)
    async with served() as world:
        venue = world.venue()
        await quoted(venue, ONE_SOL)
        assert venue.quote_at_once(QuoteRequest(JUP, SOL, 10**7)) is None
        assert list(world.remote._mirror._traded) == [(SOL.mint, USDC.mint)]


# --- What was told


def landed(*signatures: str) -> wire.Landed:
    return wire.Landed(list(signatures), [(7, Fill(1, 2, 3)) for _ in signatures], 9, 5)


def test_what_was_told_serves_one_look_at_all_of_it() -> None:
    told = ToldLandings(FakeClock())
    told.add(landed("a", "b"))
    assert told.fills(["a"]) is None, "its status is looked at first"
    report = told.report(["a", "b"])
    assert report is not None
    assert [(each.slot, each.commitment, each.error) for each in report.statuses if each] == [
        (7, Commitment.CONFIRMED, None)
    ] * 2
    assert (report.slot, report.finalized_slot) == (9, 5)
    assert told.fills(["b", "a"]) == [Fill(1, 2, 3)] * 2
    assert (told.report(["a"]), told.fills(["a"])) == (None, None)


def test_one_that_was_not_told_of_has_all_be_asked_for() -> None:
    told = ToldLandings(FakeClock())
    told.add(wire.Landed(["a", "b"], [(7, Fill(1, 2, 3)), None], 9, 5))
    assert told.report(["a", "b"]) is None
    assert told.report(["a"]) is None, "it was looked at"
    told.add(wire.Landed(["a"]))
    assert told.report(["a"]) is None


async def test_what_was_told_some_time_ago_has_to_be_asked_for() -> None:
    clock = FakeClock()
    told = ToldLandings(clock)
    told.add(landed("a"))
    await clock.advance(told_landings.TOLD_LIFE_S + 1)
    assert told.report(["a"]) is None


def test_no_more_is_remembered_than_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(told_landings, "TOLD_MAX", 2)
    told = ToldLandings(FakeClock())
    told.add(landed("a", "b", "c"))
    assert len(told) == 2
    assert told.report(["a"]) is None
    assert told.report(["b", "c"]) is not None
    told.add(landed("d", "e"))
    assert told.report(["d", "e"]) is not None
    assert len(told) == 2
