"""Watched orders in memory, and which of them a price or a launch makes fire: decisions only, no I/O, no clock.

`Book` holds one pair's orders, `Snipers` those that wait for launches. Whoever owns them loads them from the journal,
appends what fires, and says what became of it.
"""
