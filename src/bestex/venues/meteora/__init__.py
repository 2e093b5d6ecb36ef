"""Meteora: DAMM v2 pools."""
