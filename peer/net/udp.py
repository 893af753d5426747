"""A UDP socket that also reports how a datagram arrived: hop limit, interface, destination.

asyncio's own datagram transport drops ancillary data. Without it, this side can neither tell
whether a datagram comes from a direct neighbour (protocol §3) nor answer from the address that was
asked. So the socket is non-blocking, and read with `recvmsg` from the loop's reader callback.

- No exception reaches the event loop, whatever arrives.
- One wake-up reads a bounded number of datagrams, so that a flood cannot starve the timers, and no
  more than usually arrive, since a read that finds none costs an exception.
- Every dropped datagram is counted.
- Both families send with hop limit 255 (RFC 5082).
- A socket on `::` serves both families, and an IPv4 peer has an IPv4 address in all other modules.
"""

import asyncio
import errno
import logging
import socket
import struct
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Self

from peer.errors import Cause, PeerError, Unreachable
from peer.limits import (
    DATAGRAMS_PER_WAKE_UP,
    MAX_DATAGRAM_BYTES,
    MAX_LOGGED_PEERS,
    SINGLE_DATAGRAMS,
)
from peer.net.address import Address
from peer.net.datagram import NO_RECEIVERS, Arrival, Datagram, Receiver
from peer.net.linux_socket import (
    ANCILLARY_BYTES,
    Ancillary,
    SocketName,
    address_of,
    arrival,
    departure,
    open_bound,
    open_socket,
    socket_name,
)
from peer.net.socket_reports import unreachable

_log = logging.getLogger(__name__)
_TRUNCATED = int(socket.MSG_TRUNC)  # an operation of an IntFlag takes longer than a look-up


class UdpSocket:
    """A bound or connected UDP socket. Create it with `bind` or `connect`; it owns its descriptor.

    `counters` has the number of datagrams sent, received and dropped, by kind.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        peer: Address | None,
        loop: asyncio.AbstractEventLoop,
        on_datagram: Callable[[Datagram], None],
        on_error: Callable[[OSError], None],
        receivers: Mapping[Arrival, Receiver] = NO_RECEIVERS,
    ) -> None:
        self._sock = sock
        self._peer = peer
        self._on_datagram = on_datagram
        self._on_error = on_error
        self._receivers = receivers
        self._is_ipv6 = sock.family == socket.AF_INET6
        self._view = memoryview(bytearray(MAX_DATAGRAM_BYTES))
        self._buffers = [self._view]
        self._batch = DATAGRAMS_PER_WAKE_UP
        self._singles = 0  # consecutive wake-ups that read one datagram and looked for no second
        self._logged: set[str] = set()
        self._closed = False
        self.counters: Counter[str] = Counter()
        self._bound_name = name = sock.getsockname()
        self._local = Address(name[0], name[1], name[3] if self._is_ipv6 else 0)
        self._loop = loop
        self._loop.add_reader(sock.fileno(), self._readable)

    @classmethod
    def bind(
        cls,
        host: str,
        port: int,
        *,
        on_datagram: Callable[[Datagram], None],
        on_error: Callable[[OSError], None],
        receivers: Mapping[Arrival, Receiver] = NO_RECEIVERS,
    ) -> Self:
        """Listen on an IP address. Needs a running loop.

        Args:
            host: the address, with its zone if it is link-local. `::` means all addresses of both
                families, and all IPv4 addresses on a machine without IPv6.
            port: the UDP port; 0 selects a free one.
            on_datagram: called with each datagram that no receiver takes.
            on_error: called with each error that the kernel reports.
            receivers: take datagrams by how they arrived: by the kernel's form of the source
                address, followed by the ancillary data.

        Raises:
            PeerError: the address or the port is not available.
        """
        loop = asyncio.get_running_loop()
        try:
            sock = open_bound(host, port)
        except OSError as error:
            if host != "::" or error.errno not in {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}:
                raise _cannot_listen(host, port, error) from error
            return cls.bind(
                "0.0.0.0",  # noqa: S104 - asked for
                port,
                on_datagram=on_datagram,
                on_error=on_error,
                receivers=receivers,
            )
        return cls(
            sock,
            peer=None,
            loop=loop,
            on_datagram=on_datagram,
            on_error=on_error,
            receivers=receivers,
        )

    @classmethod
    def connect(
        cls,
        to: Address,
        *,
        on_datagram: Callable[[Datagram], None],
        on_error: Callable[[OSError], None],
    ) -> Self:
        """Open a socket for one peer, on an ephemeral port. Needs a running loop.

        Only datagrams of `to` are delivered. An ICMP error is passed to `on_error`. Raises
        `Unreachable` if there is no route to the address.
        """
        loop = asyncio.get_running_loop()
        if to.needs_scope:
            raise Unreachable(
                f"{to} is a link-local address without an interface",
                advice=f"Add the interface, for example {to.host}%eth0.",
                cause=Cause.NO_SCOPE,
            )
        try:
            sock = open_socket(socket.AF_INET6 if to.is_ipv6 else socket.AF_INET)
            try:
                sock.connect(socket_name(to, is_ipv6=to.is_ipv6))
            except OSError:
                sock.close()
                raise
        except OSError as error:
            raise unreachable(to, error) from error
        return cls(sock, peer=to, loop=loop, on_datagram=on_datagram, on_error=on_error)

    @property
    def local_address(self) -> Address:
        """The bound address with the real port; `::` or `0.0.0.0` if it is every address."""
        return self._local

    def is_reading(self) -> bool:
        """Return whether the socket is open and the loop reads it.

        A loop does not list its readers. So this takes the reader out and puts it back, which loses
        no datagram: the loop finds those that wait in its next turn.
        """
        try:
            # The descriptor may be closed, or another file by now.
            is_same = self._sock.getsockname() == self._bound_name
            if not is_same or not self._loop.remove_reader(self._sock.fileno()):
                return False
            self._loop.add_reader(self._sock.fileno(), self._readable)
        except (OSError, ValueError):
            return False
        return True

    def send(self, data: bytes, to: Address, *, source: str = "", ifindex: int = 0) -> bool:
        """Send one datagram. Returns False if it was dropped, which is counted. Never raises.

        Args:
            data: the payload.
            to: the destination.
            source: the source address; for a response, the destination of the request. By default,
                the routing table decides.
            ifindex: the interface; by default, the routing table decides.
        """
        try:
            if self._peer is None:
                ancillary, name = departure(to, source, ifindex, self._is_ipv6)
                self._sock.sendmsg([data], ancillary, 0, name)
            elif to == self._peer:
                self._sock.send(data)
            else:
                return self._dropped("not-the-peer")
        except (OSError, ValueError, struct.error) as error:
            return self._dropped(self._obstacle(error, to))
        self.counters["sent"] += 1
        return True

    def close(self) -> None:
        """Stop reading and free the port. Safe to repeat."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        # Its owner refers to this socket: without the cycle, both are freed at once. A request
        # that has ended may still refer to it.
        self._on_datagram = self._on_error = _ignore
        self._receivers = NO_RECEIVERS
        self._view, self._buffers = memoryview(b""), []

    def _dropped(self, obstacle: str) -> bool:
        self.counters["send-dropped"] += 1
        self.counters[f"send-dropped-{obstacle}"] += 1
        return False

    def _obstacle(self, error: Exception, to: Address) -> str:
        """Return why a datagram could not be sent, by the error of the attempt."""
        if self._closed:
            return "closed"
        if to.is_ipv6 and not self._is_ipv6:
            return "no-ipv6"
        if isinstance(error, (BlockingIOError, InterruptedError)):
            return "buffer-full"
        if not isinstance(error, OSError):  # `source` or `ifindex` is not valid
            return "bad-argument"
        if self._peer is not None:
            # An ICMP error about an earlier datagram. It is reported from the event loop: the
            # caller of `send` does not expect the callback here.
            self._loop.call_soon(self._report, error)
        return errno.errorcode.get(error.errno or 0, "unknown").lower()

    def _readable(self) -> None:
        received, receive = 0, self._sock.recvmsg_into
        while received < self._batch:
            if self._closed:  # by the callback of the previous datagram
                return
            try:
                size, ancillary, flags, name = receive(self._buffers, ANCILLARY_BYTES)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                # Usually an ICMP error. Reading it has cleared it; the next wake-up continues.
                self.counters["receive-error"] += 1
                self._report(error)
                return
            received += 1
            self._received_untrusted(size, ancillary, flags, name)
        self._adapt_batch(received)

    def _adapt_batch(self, received: int) -> None:
        """Choose how many datagrams the next wake-up reads: as many as arrived this time."""
        if received < self._batch:
            self._batch, self._singles = max(received, 1), 0
        elif self._batch > 1 or self._singles >= SINGLE_DATAGRAMS:
            self._batch = min(2 * self._batch, DATAGRAMS_PER_WAKE_UP)
        else:
            self._singles += 1

    def _received_untrusted(
        self, size: int, ancillary: Ancillary, flags: int, name: SocketName
    ) -> None:
        self.counters["received"] += 1
        if flags & _TRUNCATED:
            self.counters["oversize"] += 1
            return
        if not size or not name[1]:  # empty, or no port to answer to
            self.counters["empty" if not size else "no-port"] += 1
            return
        data, arrived = bytes(self._view[:size]), (name, *ancillary)
        receiver = self._receivers.get(arrived)
        try:
            if receiver is None or not receiver.receive_untrusted(data):
                path = arrival(tuple(ancillary))
                self._on_datagram(Datagram(data, address_of(name), *path, arrived))
        except Exception:
            self._failed(name[0])

    def _report(self, error: OSError) -> None:
        if self._closed:
            return
        try:
            self._on_error(error)
        except Exception:
            self._failed("the error handler")

    def _failed(self, who: str) -> None:
        """Log an internal error once per peer, and for a bounded number of peers.

        A datagram can trigger it, so a flood must not fill the disk.
        """
        self.counters["handler-error"] += 1
        if who in self._logged or len(self._logged) >= MAX_LOGGED_PEERS:
            return
        self._logged.add(who)
        last = len(self._logged) == MAX_LOGGED_PEERS
        _log.exception(
            "cannot process a datagram: %s (%s)",
            who,
            "no further errors are logged" if last else "logged once per peer",
        )


def _ignore(_: object) -> None:
    """Handle what a closed socket still has: nothing."""


def _cannot_listen(host: str, port: int, error: OSError) -> PeerError:
    advice = {
        errno.EADDRINUSE: "Another program uses this port. Stop it, or choose another port.",
        errno.EACCES: "Ports below 1024 need root privileges. Choose a higher port.",
        errno.EADDRNOTAVAIL: "This machine does not have that address; see `ip address`.",
        socket.EAI_NONAME: "Give an IP address of this machine, or :: for all addresses.",
    }.get(error.errno or 0, "Check the address and the port.")
    return PeerError(f"cannot listen on {host} port {port}: {_reason(error)}", advice=advice)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
