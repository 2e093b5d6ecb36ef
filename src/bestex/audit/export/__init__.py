"""Exports: journal and ledger as JSON Lines. `docs/how-to/verify-and-export.md` is their reference.

One `header`; every `log` row by position; every `transaction`, `adjustment` and `balance`, where there is a ledger;
every `order`; one `end` that counts them, so that a cut file is noticed.
"""
