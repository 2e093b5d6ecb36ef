"""The errors of the benchmarks."""


class BenchError(Exception):
    """A measurement could not be made; the message ends with the log that tells why."""


class UnavailableError(BenchError):
    """A system cannot run here, or not in this checkout: it is skipped, and the page says why."""
