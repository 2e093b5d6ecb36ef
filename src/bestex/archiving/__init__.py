"""Archiving: what is old leaves the database for files, and the log stays provable.

Put together here, beside `bootstrap` and `auditing`. `docs/decisions/2026-11-25-history-leaves-by-whole-orders.md` says
why it goes as it does.
"""
