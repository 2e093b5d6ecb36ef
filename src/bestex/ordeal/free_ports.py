"""Ports for the system under fire."""

import os
import random  # noqa: TID251 - only ever seeded, never ambient
import socket
from contextlib import ExitStack
from typing import Final

PORTS: Final = range(20_000, 30_000)
"""Not those that the system gives to connections: a client that tries again and again would once connect to itself."""


def free_ports(seed: int, count: int) -> list[int]:
    """So many different ports of 127.0.0.1 that nobody listens on."""
    chance = random.Random(f"{seed} port of {os.getpid()}")  # noqa: S311 - needs no secrecy
    ports: list[int] = []
    with ExitStack() as probes:
        while len(ports) < count:
            probe = probes.enter_context(socket.socket())
            port = chance.choice(PORTS)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            ports.append(port)
    return ports
