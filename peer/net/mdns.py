"""python-zeroconf, with a bound on everything that a host on the link can make it keep.

python-zeroconf 0.154 caches what it receives: 10,000 records of up to 9 KB for as long as their
sender says (a TTL has 32 bits: up to 136 years), 10,000 questions with up to 256 known answers
each, and for half a second whole queries that announce a continuation. One host fills that in a few
seconds, and the memory is never freed. No setting changes this, so its objects are replaced or
wrapped here, each by its public interface:

- `_BoundedProtocol` wraps its datagram protocol. It drops messages with more questions or records
  than a host has reason to send, before they are parsed, and clears the TC bit: a query that is
  answered without waiting for more known answers may get one answer too many (RFC 6762 §7.2).
- `_RecordManager` asks its owner which records of a response to keep, and limits their TTL.
- `_QuestionHistory` stores nothing. zeroconf uses it in an instance that both answers and asks, to
  ask less (RFC 6762 §7.3); no instance here does both.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Protocol, runtime_checkable

from zeroconf import Error, Zeroconf
from zeroconf._dns import DNSAddress, DNSPointer, DNSQuestion, DNSRecord, DNSService, DNSText
from zeroconf._handlers.query_handler import QueryHandler
from zeroconf._handlers.record_manager import RecordManager
from zeroconf._history import QuestionHistory
from zeroconf._protocol.incoming import DNSIncoming
from zeroconf._protocol.outgoing import DNSOutgoing
from zeroconf.asyncio import AsyncZeroconf

from peer.errors import PeerError
from peer.limits import MAX_DNS_QUESTIONS, MAX_DNS_RECORDS, MAX_TTL_SECONDS
from peer.net.mdns_links import LinkZeroconf, Origin, interfaces_of
from peer.net.ranking import Link
from peer.net.tasks import to_the_end

__all__ = [
    "FAILURES",
    "DNSAddress",
    "DNSPointer",
    "DNSRecord",
    "DNSService",
    "DNSText",
    "Multicast",
    "Origin",
    "no_multicast",
    "open_multicast",
    "send_question",
    "wait_until_ready",
]

_HEADER: Final = 12  # bytes of a DNS message's header (RFC 1035 §4.1.1)
_FLAGS: Final = 2
_TC: Final = 0x02
_QUERY: Final = 0
_IN: Final = 1

Keep = Callable[[list[DNSRecord], Origin], list[DNSRecord]]
"""Takes the records of one response and where it came from, and returns those to cache."""


class Multicast(AsyncZeroconf):
    """python-zeroconf on some links, bounded. Create it with `open_multicast`."""

    zeroconf: LinkZeroconf

    async def set_links(self, links: Sequence[Link]) -> None:
        """Open and close sockets to match these links. Call `wait_until_ready` afterwards."""
        self.zeroconf.set_links(links)
        await self.async_update_interfaces(interfaces_of(links))


def open_multicast(links: Sequence[Link], *, keep: Keep) -> Multicast:
    """Start python-zeroconf on some links, bounded.

    Call `wait_until_ready` before anything else, and after each change of its links. Needs a
    running loop. Raises one of `FAILURES`.
    """
    zeroconf = LinkZeroconf(links)
    # Its listeners keep references to these; they are created when the loop runs next.
    zeroconf.record_manager = _RecordManager(zeroconf, keep)
    zeroconf.question_history = _QuestionHistory()
    zeroconf.query_handler = QueryHandler(zeroconf)
    return Multicast(zc=zeroconf)


async def wait_until_ready(opened: Multicast) -> None:
    """Wait until python-zeroconf has started, and bound what each of its sockets receives.

    If it is cancelled, it ends once python-zeroconf has started: python-zeroconf 0.154 leaves its
    sockets open if the wait for its start was cancelled.
    """
    await to_the_end(opened.zeroconf.async_wait_for_start())
    for reader in opened.zeroconf.engine.readers:
        protocol: object = reader.transport.get_protocol()
        if not isinstance(protocol, _BoundedProtocol):
            assert isinstance(protocol, _Listener)
            reader.transport.set_protocol(_BoundedProtocol(protocol))


def send_question(zeroconf: Zeroconf, name: str, kind: int) -> None:
    """Ask by multicast for the records of a name and type, without known answers."""
    question = DNSOutgoing(_QUERY)
    question.add_question(DNSQuestion(name, kind, _IN))
    zeroconf.async_send(question)


@runtime_checkable
class _Listener(Protocol):
    """The methods of zeroconf's listener, which is a compiled class without a base class."""

    def datagram_received(self, data: bytes, addr: tuple[object, ...]) -> None: ...
    def error_received(self, exc: Exception) -> None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...


class _BoundedProtocol(asyncio.DatagramProtocol):
    """Filters messages for zeroconf's protocol by their header, in constant time."""

    def __init__(self, inner: _Listener) -> None:
        self._inner = inner

    def datagram_received(self, data: bytes, addr: tuple[object, ...]) -> None:
        """Pass a message on if the numbers in its header are within the bounds."""
        counts = [int.from_bytes(data[at : at + 2]) for at in range(4, _HEADER, 2)]
        if (
            len(data) >= _HEADER
            and counts[0] <= MAX_DNS_QUESTIONS
            and sum(counts[1:]) <= MAX_DNS_RECORDS
        ):
            flags = bytes([data[_FLAGS] & ~_TC])
            self._inner.datagram_received(data[:_FLAGS] + flags + data[_FLAGS + 1 :], addr)

    def error_received(self, exc: Exception) -> None:
        """Pass the error on."""
        self._inner.error_received(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass the end on."""
        self._inner.connection_lost(exc)


class _RecordManager(RecordManager):
    """Passes only the records that the owner keeps to the cache and to listeners."""

    def __init__(self, zeroconf: Zeroconf, keep: Keep) -> None:
        super().__init__(zeroconf)
        self._keep = keep

    def async_updates_from_response(self, msg: DNSIncoming) -> None:
        """Implement zeroconf's manager: a response was received."""
        answers = msg.answers()
        host = msg.source[0] if msg.source else ""
        answers[:] = self._keep(answers, Origin.of(host, msg.scope_id or 0))
        for record in answers:
            record.ttl = min(record.ttl, MAX_TTL_SECONDS)
        super().async_updates_from_response(msg)


class _QuestionHistory(QuestionHistory):
    """Stores nothing."""

    def add_question_at_time(
        self, question: DNSQuestion, now: float, known_answers: set[DNSRecord]
    ) -> None:
        """Implement zeroconf's history: a question was received or sent."""


FAILURES: Final = (OSError, RuntimeError, Error)
"""The errors of python-zeroconf."""


def no_multicast(error: Exception) -> PeerError:
    """Return the error to raise if python-zeroconf cannot start."""
    return PeerError(
        f"multicast DNS does not work: {error}",
        advice="Another program may use UDP port 5353 exclusively. You can still give addresses.",
    )
