"""The simulated market, venues and chain: nature for paper trading, all of it from one seed."""
