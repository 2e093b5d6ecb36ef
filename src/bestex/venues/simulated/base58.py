"""Base58 as Solana writes addresses, blockhashes (32 bytes) and signatures (64 bytes)."""

from solders.pubkey import Pubkey
from solders.signature import Signature


def address_text(data: bytes) -> str:
    """The base58 text of 32 bytes."""
    return str(Pubkey(data))


def signature_text(data: bytes) -> str:
    """The base58 text of 64 bytes."""
    return str(Signature(data))
