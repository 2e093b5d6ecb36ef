"""The small parts of the simulated chain: base58, slots, transactions, the list of faults."""

import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestex.domain.tokens import BASE58_ALPHABET
from bestex.venues.simulated import base58
from bestex.venues.simulated.faults import PROBABILITIES, SIZES, Faults, parse_faults
from bestex.venues.simulated.slots import SlotClock, block_height, last_valid_height
from bestex.venues.simulated.transaction import MalformedTransactionError, Message, sign, verify

MESSAGE = Message("0198c0de-0000-7000-8000-000000000001", 1, "raydium", "pool", "in", "out", 5, 4, "hash", 7)


def slow_base58(data: bytes) -> str:
    number, digits = int.from_bytes(data, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        digits = BASE58_ALPHABET[digit] + digits
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + digits


@given(st.binary(min_size=32, max_size=32) | st.just(bytes(32)))
def test_addresses_are_base58_of_their_bytes(data: bytes) -> None:
    assert base58.address_text(data) == slow_base58(data)


@given(st.binary(min_size=64, max_size=64) | st.just(bytes(64)))
def test_signatures_are_base58_of_their_bytes(data: bytes) -> None:
    assert base58.signature_text(data) == slow_base58(data)


def test_slots_follow_time_and_never_run_backwards() -> None:
    slots = SlotClock(1_000_000, 10, 400_000, 0)
    assert slots.slot(1_000_000) == 10
    assert slots.slot(1_400_000) == 11
    assert slots.slot(1_000_000) == 11


def test_slots_start_at_the_highest_ever_shown() -> None:
    assert SlotClock(1_000_000, 10, 400_000, 500).slot(1_000_000) == 500


def test_some_slots_have_no_block_and_a_blockhash_lives_for_150_blocks() -> None:
    assert block_height(1000) == 950
    assert all(0 <= block_height(slot + 1) - block_height(slot) <= 1 for slot in range(100))
    assert last_valid_height(1000) == 1100


def test_signed_bytes_are_recognised_and_changed_ones_refused() -> None:
    signature, raw = sign(MESSAGE, b"k" * 32)
    assert verify(raw, b"k" * 32) == (signature, MESSAGE)
    for position in (0, 63, 64, len(raw) - 1):
        changed = bytearray(raw)
        changed[position] ^= 1
        with pytest.raises(MalformedTransactionError):
            verify(bytes(changed), b"k" * 32)
    with pytest.raises(MalformedTransactionError):
        verify(raw, b"l" * 32)


def test_every_field_takes_part_in_the_signature() -> None:
    signature, _ = sign(MESSAGE, b"k" * 32)
    for field in MESSAGE.__struct_fields__:
        value = getattr(MESSAGE, field)
        changed = msgspec.structs.replace(MESSAGE, **{field: value + 1 if isinstance(value, int) else value + "x"})
        assert sign(changed, b"k" * 32)[0] != signature


def test_signatures_grow_with_the_slots_also_as_text() -> None:
    slots = (0, 1, 57, 58, 255, 256, 2**32 - 1, 2**40 - 1)
    signatures = [sign(msgspec.structs.replace(MESSAGE, blockhash_slot=slot), b"k" * 32)[0] for slot in slots]
    assert signatures == sorted(signatures)
    assert len({len(signature) for signature in signatures}) == 1


def test_what_an_earlier_release_signed_is_recognised() -> None:
    body = sign(MESSAGE, b"k" * 32)[1][64:]
    earlier = hashlib.blake2b(body, key=b"k" * 32, digest_size=64).digest()
    assert verify(earlier + body, b"k" * 32) == (base58.signature_text(earlier), MESSAGE)


def test_faults_are_parsed() -> None:
    assert parse_faults("quote_timeout=0.1, raydium_down=1,") == {"quote_timeout": 0.1, "raydium_down": 1.0}
    assert parse_faults("") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("quote_timeout", "must be NAME=VALUE"),
        ("quote_timeout=often", "must be a number"),
        ("quote_timeout=1.5", "probability from 0 to 1"),
        ("quote_timeout=nan", "probability from 0 to 1"),
        ("quote_timeout=0,quote_timeout=1", "stands twice"),
        ("gremlins=1", "there is no fault 'gremlins'; there are quote_timeout, raydium_down"),
        ("chain_unreachable_s=-1", "from 0 to"),
    ],
)
def test_bad_faults_are_refused_by_name(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_faults(text)


def test_a_bad_change_changes_nothing() -> None:
    faults = Faults("1", {})
    with pytest.raises(ValueError, match="gremlins"):
        faults.change({"dropped": 1.0, "gremlins": 1.0})
    assert faults.values == dict.fromkeys(PROBABILITIES, 0.0) | SIZES


def test_faults_repeat_from_their_seed() -> None:
    one, two, other = Faults("1", {"dropped": 0.5}), Faults("1", {"dropped": 0.5}), Faults("2", {"dropped": 0.5})
    struck = [one.strikes("dropped") for _ in range(100)]
    assert struck == [two.strikes("dropped") for _ in range(100)]
    assert struck != [other.strikes("dropped") for _ in range(100)]
    assert 30 < sum(struck) < 70
