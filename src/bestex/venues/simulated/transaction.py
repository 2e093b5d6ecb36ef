"""Paper transactions: compact bytes with a memo, signed by a cheap keyed hash.

The signed bytes are the 64-byte signature followed by the MessagePack of a `Message`. Anyone who holds the wallet's
key can check a signature; that is enough on a chain that is simulated in the signer's own process.
"""

import hashlib
from typing import Final

import msgspec

from bestex.venues.simulated import base58

SIGNATURE_BYTES: Final = 64


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


def sign(message: Message, key: bytes) -> tuple[str, bytes]:
    """`(signature, signed bytes)`; the signature in base58."""
    body = _encoder.encode(message)
    signature = hashlib.blake2b(body, key=key, digest_size=SIGNATURE_BYTES).digest()
    return base58.signature_text(signature), signature + body


def verify(raw: bytes, key: bytes) -> tuple[str, Message]:
    """`(signature, message)` of signed bytes; `MalformedTransactionError` when this key did not sign them."""
    body = raw[SIGNATURE_BYTES:]
    signature = hashlib.blake2b(body, key=key, digest_size=SIGNATURE_BYTES).digest()
    if raw[:SIGNATURE_BYTES] != signature:
        raise MalformedTransactionError("the signature does not belong to the bytes")
    try:
        message = _decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise MalformedTransactionError(f"the bytes are no transaction: {error}") from error
    return base58.signature_text(signature), message
