"""Asks every venue for a quote within its deadline, and chooses the best: asking waits, choosing is pure."""
