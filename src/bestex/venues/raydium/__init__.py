"""Raydium: constant-product pools (CPMM)."""
