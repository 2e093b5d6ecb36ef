"""Paper transactions: compact bytes with a memo, signed by a cheap keyed hash.

The signed bytes are the 64-byte signature followed by the MessagePack of a `Message`. Anyone who holds the wallet's
key can check a signature; that is enough on a chain that is simulated in the signer's own process.
"""

import hashlib
from typing import Final

import msgspec

from bestex.venues.simulated import base58

SIGNATURE_BYTES: Final = 64
_FIRST_BYTE: Final = b"\x5b"  # never 0, so that all are equally long as text
_SLOT_BYTES: Final = 5


class Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is signed. `order_id` and `attempt` are the memo: no two attempts have the same bytes."""

    order_id: str
    attempt: int
    venue: str
    pool: str
    mint_in: str
    mint_out: str
    amount_in: int  # base units
    min_amount_out: int  # base units
    blockhash: str
    blockhash_slot: int


class MalformedTransactionError(ValueError):
    """The bytes are no transaction of this wallet."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Message)


def blockhash_of(slot: int, key: bytes) -> str:
    """The blockhash of a slot's block."""
    digest = hashlib.blake2b(slot.to_bytes(8, "big"), key=key, person=b"blockhash", digest_size=32)
    return base58.address_text(digest.digest())


def sign(message: Message, key: bytes) -> tuple[str, bytes]:
    """`(signature, signed bytes)`; the signature in base58."""
    body = _encoder.encode(message)
    signature = _signature(body, message.blockhash_slot, key)
    return base58.signature_text(signature), signature + body


def verify(raw: bytes, key: bytes) -> tuple[str, Message]:
    """`(signature, message)` of signed bytes; `MalformedTransactionError` when this key did not sign them."""
    signature, body = raw[:SIGNATURE_BYTES], raw[SIGNATURE_BYTES:]
    try:
        message = _decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise MalformedTransactionError(f"the bytes are no transaction: {error}") from error
    if signature != _signature(body, message.blockhash_slot, key) and signature != _earlier_signature(body, key):
        raise MalformedTransactionError("the signature does not belong to the bytes")
    return base58.signature_text(signature), message


def _signature(body: bytes, slot: int, key: bytes) -> bytes:
    """A byte, the slot that gave the blockhash, a keyed hash.

    So signatures grow with the slots, also as text: the ledger's index of them is written at its end. In no order, each
    would go to another page of it, to be read and written whole.
    """
    place = _FIRST_BYTE + (slot % (1 << 8 * _SLOT_BYTES)).to_bytes(_SLOT_BYTES, "big")
    return place + hashlib.blake2b(body, key=key, digest_size=SIGNATURE_BYTES - len(place)).digest()


def _earlier_signature(body: bytes, key: bytes) -> bytes:
    """As earlier releases signed: what they left on its way must still land."""
    return hashlib.blake2b(body, key=key, digest_size=SIGNATURE_BYTES).digest()
