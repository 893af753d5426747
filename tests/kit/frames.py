"""The frames that pass in a network namespace."""

import contextlib
import select
import socket
import threading
from collections.abc import Iterator

from tests.kit.namespaces import Namespace
from tests.kit.waiting import block_until

_ALL_PROTOCOLS = 3  # ETH_P_ALL
_MARK = b"the last frame of a capture"


class Capture:
    """The packets that have passed on all interfaces of a namespace."""

    def __init__(self) -> None:
        self.data = bytearray()

    def has(self, part: bytes) -> bool:
        """Whether some bytes have passed, in one frame."""
        return part in self.data


@contextlib.contextmanager
def captured(namespace: Namespace) -> Iterator[Capture]:
    """Capture until the end of the context; then everything has been read."""
    capture = Capture()
    with namespace.inside():
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL_PROTOCOLS))
        last = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)

    def read() -> None:
        while _MARK not in capture.data[-4096:]:
            select.select([sock], [], [])
            capture.data += sock.recv(65536)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        with sock, last:
            yield capture
            last.sendto(_MARK, ("127.0.0.1", 9))
            block_until(lambda: not reader.is_alive())
    finally:
        reader.join()
