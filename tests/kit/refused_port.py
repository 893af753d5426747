"""Ports of loopback at which nothing listens, and which no other program can take meanwhile."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

HOST: Final = "127.0.0.1"


@contextmanager
def refused_udp(port: int = 0) -> Iterator[str]:
    """The address, as `host:port`, of a port that the kernel reports as closed (ICMP).

    Its socket accepts datagrams from one other port alone. `port` is free now; 0 for any.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((HOST, port))
        sock.connect((HOST, 9))
        yield f"{HOST}:{sock.getsockname()[1]}"


@contextmanager
def refused_tcp() -> Iterator[str]:
    """The address, as `host:port`, of a port that refuses connections: its socket only has it."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.bind((HOST, 0))
        yield f"{HOST}:{sock.getsockname()[1]}"
