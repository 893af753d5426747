"""Ports for a server that starts later, or again: no other socket gets them meanwhile.

A port that the kernel has chosen and that is closed again may be the next one that it chooses, for
any socket of the machine. These ports are below the range from which it chooses (32768 to 60999,
`net.ipv4.ip_local_port_range`), and each test process has a block of its own.
"""

import contextlib
import functools
import itertools
import socket
from collections.abc import Iterator
from typing import Final

_FIRST: Final = 20_000
_BLOCK: Final = 100
_LAST: Final = 32_767


def free_ports(host: str) -> Iterator[int]:
    """Ports of this process that no socket uses at this address, neither for TCP nor for UDP."""
    own, _ = _own_block()
    return (port for port in itertools.islice(own, _BLOCK) if _is_free(host, port))


def two_free_ports(host: str) -> int:
    """The first of two such ports with consecutive numbers."""
    pairs = itertools.pairwise(free_ports(host))
    return next(one for one, other in pairs if other == one + 1)


@functools.cache
def _own_block() -> tuple[Iterator[int], socket.socket]:
    """The ports of this process, in turn, and the socket whose name marks the block as taken."""
    for first in range(_FIRST, _LAST - _BLOCK, _BLOCK):
        mark = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with contextlib.suppress(OSError):  # another process has this block
            mark.bind(f"\0handfast-tests-ports-{first}")  # which ends with this process
            return itertools.cycle(range(first, first + _BLOCK)), mark
        mark.close()
    raise AssertionError("there are too many test processes")


def _is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(family, kind) as one:
            if kind == socket.SOCK_STREAM:  # as servers do: former connections do not matter
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                one.bind((host, port))
            except OSError:
                return False
    return True
