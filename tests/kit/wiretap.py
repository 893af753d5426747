"""A UDP relay that prints the DTLS records that pass, and changes nothing.

    python wiretap.py HOST:PORT DEVICE:PORT

Prints `ready PORT`, then one line per datagram: `>` to the device or `<` from it, and for each
record `content type/epoch` (RFC 6347 §4.1): `22/0` is a plaintext handshake record, `21` an alert,
`23` application data. Runs until it is killed.
"""

import selectors
import socket
import struct
import sys
from collections.abc import Iterator

_HEADER = struct.Struct("!BHHHIH")  # type, version, epoch, sequence number (48 bits), length
_MOST = 65536


def records(datagram: bytes) -> Iterator[str]:
    """Content type and epoch of each record."""
    while datagram:
        if len(datagram) < _HEADER.size:
            yield "?"
            return
        kind, _version, epoch, _high, _low, length = _HEADER.unpack_from(datagram)
        yield f"{kind}/{epoch}"
        datagram = datagram[_HEADER.size + length :]


def place(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def listening(at: tuple[str, int]) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    # received as if no router were in between
    made.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
    made.bind(at)
    return made


def relay(front: socket.socket, device: tuple[str, int]) -> None:
    """Relay between the clients and the device, with one socket per client."""
    ways: dict[tuple[str, int], socket.socket] = {}
    selector = selectors.DefaultSelector()
    selector.register(front, selectors.EVENT_READ, None)
    while True:
        for key, _ in selector.select():
            client: tuple[str, int] | None = key.data
            try:
                datagram, source = key.fileobj.recvfrom(_MOST)  # type: ignore[union-attr]
                print("<" if client else ">", *records(datagram), flush=True)
                if client is not None:
                    front.sendto(datagram, client)
                    continue
                if source not in ways:
                    ways[source] = listening(("", 0))
                    ways[source].connect(device)
                    selector.register(ways[source], selectors.EVENT_READ, source)
                ways[source].send(datagram)
            except ConnectionRefusedError:  # no peer, or no longer one
                continue


if __name__ == "__main__":
    listener = listening(place(sys.argv[1]))
    print("ready", listener.getsockname()[1], flush=True)
    relay(listener, place(sys.argv[2]))
