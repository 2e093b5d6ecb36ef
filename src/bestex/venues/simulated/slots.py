"""The chain's clock: slots, block heights, finality.

Slots follow from the time alone, so the chain goes on while the engine is dead. The anchor (a time and its slot) is
durable; a change of the slot's length sets a new anchor and never turns the slots back.
"""

from typing import Final

BLOCKHASH_BLOCKS: Final = 150  # blocks after its own in which a blockhash may still be used
FINALITY_SLOTS: Final = 32
MIN_VALID_BLOCKS: Final = 8  # fewer to land in are not worth a signature
_SKIPPED_ONE_IN: Final = 20  # as on mainnet, a few slots have no block: heights are not slots


class SlotClock:
    """Time to slots. Slots never run backwards, even when the wall clock does."""

    __slots__ = ("_highest", "anchor_slot", "anchor_us", "slot_us")

    def __init__(self, anchor_us: int, anchor_slot: int, slot_us: int, highest: int) -> None:
        """`highest`: the highest slot ever shown, the floor for a wall clock that was turned back."""
        self.anchor_us = anchor_us
        self.anchor_slot = anchor_slot
        self.slot_us = slot_us
        self._highest = max(highest, anchor_slot)

    def slot(self, now_us: int) -> int:
        """The slot of now."""
        slot = self.slot_at(now_us)
        if slot > self._highest:
            self._highest = slot
            return slot
        return self._highest

    def slot_at(self, at_us: int) -> int:
        """The slot of a time to come; a wall clock that was turned back may make it a later one."""
        return self.anchor_slot + (at_us - self.anchor_us) // self.slot_us


def block_height(slot: int) -> int:
    """The number of blocks up to and including `slot`."""
    return slot - slot // _SKIPPED_ONE_IN


def last_valid_height(blockhash_slot: int) -> int:
    """The last block height at which a transaction with the blockhash of `blockhash_slot` can land."""
    return block_height(blockhash_slot) + BLOCKHASH_BLOCKS


def blockhash_slot_for(slot: int, expiry_slot: int) -> int | None:
    """The latest slot up to `slot` whose blockhash is worthless at `expiry_slot`; None: too few blocks are left.

    A transaction with it has at least `MIN_VALID_BLOCKS` behind that of `slot` to land in.
    """
    last_height = block_height(expiry_slot) - 1
    if last_height - block_height(slot) < MIN_VALID_BLOCKS:
        return None
    if last_valid_height(slot) <= last_height:
        return slot
    # Of the slots of one height the last one is the latest: the one before the next height's first.
    height = last_height - BLOCKHASH_BLOCKS
    found = min(slot, (height + 1) * _SKIPPED_ONE_IN // (_SKIPPED_ONE_IN - 1) + 1)
    while block_height(found) > height:
        found -= 1
    return found


BLOCKHASH_SLOTS_MAX: Final = BLOCKHASH_BLOCKS * _SKIPPED_ONE_IN // (_SKIPPED_ONE_IN - 1) + _SKIPPED_ONE_IN
"""More slots than any blockhash lives: a transaction that landed longer ago cannot be sent again."""
