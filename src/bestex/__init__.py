"""bestex: a self-hosted best-execution order engine for Solana DEXs."""

__version__ = "0.1.0"
