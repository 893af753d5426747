"""python-zeroconf, with a bound on everything that a neighbour can make it keep.

python-zeroconf 0.154 keeps what it hears: 10,000 records of up to 9 KB for as long as their sender
says (a TTL has 32 bits: up to 136 years), 10,000 questions with up to 256 known answers each, and
for half a second whole queries that say they go on. One neighbour fills that in a few seconds, and
the memory is never given back. It has no setting for any of this, so its objects are replaced or
wrapped here, each by its public interface, and nowhere else:

- ``_Gate`` stands before its datagram protocol. It drops messages of more questions or records than
  a neighbour has reason to send, before they are parsed, and takes off the TC bit: a query that is
  answered without waiting for more known answers may be answered once too often (RFC 6762 §7.2).
- ``_RecordManager`` asks its owner which records of a response to keep, and shortens their TTL.
- ``_QuestionHistory`` remembers nothing. It serves an instance that both answers and asks, to ask
  less (RFC 6762 §7.3); none of ours does both.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from zeroconf import Error, Zeroconf
from zeroconf._dns import DNSAddress, DNSPointer, DNSQuestion, DNSRecord, DNSService, DNSText
from zeroconf._handlers.query_handler import QueryHandler
from zeroconf._handlers.record_manager import RecordManager
from zeroconf._history import QuestionHistory
from zeroconf._protocol.incoming import DNSIncoming
from zeroconf._protocol.outgoing import DNSOutgoing
from zeroconf.asyncio import AsyncZeroconf

from peer.errors import PeerError
from peer.net.adverts import MAX_ADDRESSES
from peer.net.interfaces import Interface, InterfaceTable, IpAddress

__all__ = [
    "FAILURES",
    "MAX_TTL",
    "DNSAddress",
    "DNSPointer",
    "DNSRecord",
    "DNSService",
    "DNSText",
    "ask",
    "no_multicast",
    "open_multicast",
    "places",
    "settled",
]

MAX_TTL: Final = 4500
"""Seconds: the TTL that RFC 6762 §10 recommends for most records. A longer one counts as this."""
MAX_QUESTIONS: Final = 64
MAX_RECORDS: Final = 256
"""Questions and records of a message; one with more is dropped."""

_HEADER: Final = 12  # bytes of a DNS message's header (RFC 1035 §4.1.1)
_FLAGS: Final = 2
_TC: Final = 0x02
_QUERY: Final = 0
_IN: Final = 1

Keep = Callable[[list[DNSRecord]], list[DNSRecord]]
"""Of the records of one response, those to keep."""


def open_multicast(where: Sequence[str | int], *, keep: Keep) -> AsyncZeroconf:
    """python-zeroconf on some interfaces (IPv4 by own address, IPv6 by index), bounded.

    Call ``settled`` before anything else, and after each change of its interfaces. Needs a running
    loop. Raises OSError, RuntimeError, or zeroconf's Error.
    """
    opened = AsyncZeroconf(interfaces=list(where))
    zeroconf = opened.zeroconf
    # Its listeners, which hold on to these, are made when the loop runs next.
    zeroconf.record_manager = _RecordManager(zeroconf, keep)
    zeroconf.question_history = _QuestionHistory()
    zeroconf.query_handler = QueryHandler(zeroconf)
    return opened


async def settled(opened: AsyncZeroconf) -> None:
    """Return when it is ready, with a gate before each of its sockets."""
    await opened.zeroconf.async_wait_for_start()
    for reader in opened.zeroconf.engine.readers:
        protocol = reader.transport.get_protocol()
        if not isinstance(protocol, _Gate):
            reader.transport.set_protocol(_Gate(protocol))


def ask(zeroconf: Zeroconf, name: str, kind: int) -> None:
    """Ask everybody for the records of a name and type, also for those that are known."""
    question = DNSOutgoing(_QUERY)
    question.add_question(DNSQuestion(name, kind, _IN))
    zeroconf.async_send(question)


class _Gate(asyncio.DatagramProtocol):
    """Before zeroconf's protocol: looks at the header of each message, in constant time."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Pass a message on, if what it announces to hold is within bounds."""
        counts = [int.from_bytes(data[at : at + 2]) for at in range(4, _HEADER, 2)]
        if len(data) >= _HEADER and counts[0] <= MAX_QUESTIONS and sum(counts[1:]) <= MAX_RECORDS:
            whole = bytes([data[_FLAGS] & ~_TC])
            self._inner.datagram_received(data[:_FLAGS] + whole + data[_FLAGS + 1 :], addr)

    def error_received(self, exc: Exception) -> None:
        """Pass it on."""
        self._inner.error_received(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass it on."""
        self._inner.connection_lost(exc)


class _RecordManager(RecordManager):
    """Shows the owner's choice of the records to cache and listeners, and no other."""

    def __init__(self, zeroconf: Zeroconf, keep: Keep) -> None:
        super().__init__(zeroconf)
        self._keep = keep

    def async_updates_from_response(self, msg: DNSIncoming) -> None:
        """Of zeroconf: a response has come."""
        answers = msg.answers()
        answers[:] = self._keep(answers)
        for record in answers:
            record.ttl = min(record.ttl, MAX_TTL)
        super().async_updates_from_response(msg)


class _QuestionHistory(QuestionHistory):
    """Remembers nothing."""

    def add_question_at_time(
        self, question: DNSQuestion, now: float, known_answers: set[DNSRecord]
    ) -> None:
        """Of zeroconf: a question was heard, or asked."""


def places(
    table: InterfaceTable, wanted: Sequence[str] | None
) -> tuple[list[str | int], tuple[str, ...]]:
    """Where to speak (IPv4 by address, IPv6 by interface index) and which addresses to tell.

    ``wanted`` are names of interfaces or own IP addresses; None means every link that is up,
    without the loopback and point-to-point ones.
    """
    where: dict[str | int, None] = {}
    own: list[IpAddress] = []
    for interface in table.by_index.values():
        for address in _wanted_addresses(interface, wanted):
            own.append(address)
            where[str(address) if address.version == 4 else interface.index] = None
    own.sort(key=lambda address: (address.is_link_local, address.version))
    return list(where), tuple(dict.fromkeys(str(address) for address in own))[:MAX_ADDRESSES]


def _wanted_addresses(interface: Interface, wanted: Sequence[str] | None) -> Iterable[IpAddress]:
    own = [address.own for address in interface.addresses]
    if not interface.is_up:
        return []
    if wanted is None:
        return [] if interface.is_loopback or interface.is_point_to_point else own
    return own if interface.name in wanted else [a for a in own if str(a) in wanted]


FAILURES: Final = (OSError, RuntimeError, Error)
"""What python-zeroconf raises."""


def no_multicast(error: Exception) -> PeerError:
    """The error for one of FAILURES at the start."""
    return PeerError(
        f"multicast DNS does not work: {error}",
        advice="Another program may use UDP port 5353 exclusively. You can still give addresses.",
    )
