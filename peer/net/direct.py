"""The direct path: a plain request is answered in the turn of its datagram, without aiocoap.

aiocoap makes a message, a pipe and a task of each request, and copies its options several times.
For a short request that is most of its cost. So a plain request (`peer.net.plain`) to a resource
that can answer it with one synchronous call is answered here, in the same bytes that aiocoap would
send.

None of the checks is left out. The layer above has recognised repeats; the site asks the same guard
as for every request. Anything uncertain is left to aiocoap's path: a request that the guard would
refuse, one that interferes with another one of its session, a representation that needs blocks.

A GET changes nothing, so it may be left to aiocoap after its handler was called. Any other request
is left to aiocoap before, or not at all: its handler is called once, and its answer always fits.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

from aiocoap import error as coap_error
from aiocoap.numbers.codes import Code

from peer.limits import Limits
from peer.net import outline, plain
from peer.net.aiocoap_seam.managers import BoundedMessageManager
from peer.net.aiocoap_seam.refusals import encode_refusal
from peer.net.plain import Answer, AnswerEncoder, Done, PlainParser, Write
from peer.net.remote import CoapsRemote, PeerIdentity
from peer.net.stored_block import LaterBlock

_log = logging.getLogger(__name__)

Path = tuple[str, ...]
WriteHandler = Callable[[Write, PeerIdentity], Done]
"""Makes one change. It is called once for a request, and may raise a `RenderableError`."""


@runtime_checkable
class AnswersPlain(Protocol):
    """A resource whose GET is one synchronous call."""

    def answer(self, query: tuple[str, ...], sender: PeerIdentity, /) -> Answer:
        """Return the representation. It changes nothing, and may raise a `RenderableError`."""


@runtime_checkable
class TakesPlainWrites(Protocol):
    """A resource of which PUT, POST or DELETE is one synchronous call."""

    def plain_writes(self) -> Mapping[str, WriteHandler]:
        """Return the handlers by method."""


class DirectSite(Protocol):
    """The resources that can answer, and the guard before them."""

    def plain(self, path: Path) -> AnswersPlain | None:
        """Return the resource at a path if it can answer plain requests."""

    def plain_write(self, path: Path, method: str) -> WriteHandler | None:
        """Return the handler of a method at a path if it is one synchronous call."""

    def find(self, path: Path) -> tuple[Path, object | None]:
        """Return the resource that serves a path, or None, and the path at which it is."""

    def admit(self, peer: PeerIdentity, path: Path, method: str) -> bool:
        """Return whether a request is certainly allowed. False is no refusal."""


class DirectPath:
    """Answers the plain requests of all sessions of a server.

    Args:
        site: the resources and their guard.
        messages: knows the requests under way.
        limits: the limits of the server.
    """

    def __init__(self, site: DirectSite, messages: BoundedMessageManager, limits: Limits) -> None:
        self._site = site
        self._messages = messages
        self._limits = limits
        self.parser = PlainParser(limits)
        self.encoder = AnswerEncoder()

    def answer_untrusted(self, remote: CoapsRemote, message: bytes) -> bytes | None:
        """Return the answer to a decrypted request, encoded, or None to leave it to aiocoap.

        It is empty if the request is not to be answered.
        """
        asked = self.parser.parse_untrusted(message)
        if asked is None:
            is_get = message[1] == plain.GET
            return (self._block_untrusted if is_get else self._written_untrusted)(remote, message)
        path = _without_slash(asked.path)
        resource = self._site.plain(path)
        if resource is None or not self._is_certain(remote, message, path):
            return None
        try:
            answer = resource.answer(asked.query, remote.peer)
        except coap_error.RenderableError as error:
            return encode_refusal(remote, message, error, self._messages.next_message_id)
        except Exception:  # aiocoap's path calls the handler again, and reports the error
            return None
        if asked.accept in (None, answer.content_format) and self._fits(remote, path, answer):
            return self.encoder.encode(message, answer, self._message_id(message))
        return None

    def _written_untrusted(self, remote: CoapsRemote, message: bytes) -> bytes | None:
        """Answer a request that is not a GET. Nothing after the handler's call returns None.

        While aiocoap has a request of the session, which may be a change as well, the next one is
        aiocoap's too: it must not overtake the other one.
        """
        if remote.under_way:
            return None
        asked = self.parser.parse_write_untrusted(message)
        if asked is None or len(asked.write.payload) > self._limits.request_body_bytes:
            return None
        path = _without_slash(asked.path)
        handler = self._site.plain_write(path, asked.method)
        if handler is None or not self._is_allowed(remote, message, path, asked.method):
            return None
        try:
            code: int = plain.checked_done(handler(asked.write, remote.peer))
        except coap_error.RenderableError as error:
            return encode_refusal(remote, message, error, self._messages.next_message_id)
        except (Exception, asyncio.CancelledError):
            # Also a handler that raises what ends a task: without an answer, the request would be
            # sent again, and the handler would be called again.
            _log.exception("%s /%s failed", asked.method, "/".join(path))
            code = Code.INTERNAL_SERVER_ERROR
        return plain.encode_code(message, code, self._message_id(message))

    def _message_id(self, request: bytes) -> int | None:
        """Return the Message ID of the answer to a request, None if it is piggybacked."""
        is_confirmable = outline.type_of(request) == outline.CON
        return None if is_confirmable else self._messages.next_message_id()

    def _block_untrusted(self, remote: CoapsRemote, message: bytes) -> bytes | None:
        """Return a later block of a stored representation: a part of its bytes.

        The first block, and a body that is not stored, are rendered; so they are left to aiocoap.
        """
        stored = remote.stored_responses
        if stored is None or (asked := LaterBlock.parse_untrusted(message, self._limits)) is None:
            return None
        path = stored.path_of(asked.options)
        if path is None or asked.size_exponent > remote.maximum_block_size_exp:
            return None
        path = _without_slash(path)
        if self._site.find(path)[1] is None or not self._is_allowed(remote, message, path):
            return None
        answer = stored.later_block(asked)
        room = remote.association.session.message_bytes
        return answer if answer is not None and len(answer) <= room else None

    def _is_certain(self, remote: CoapsRemote, message: bytes, path: Path) -> bool:
        """Return whether nothing speaks against a short answer at once."""
        return path not in remote.in_blocks and self._is_allowed(remote, message, path)

    def _is_allowed(
        self, remote: CoapsRemote, message: bytes, path: Path, method: str = "GET"
    ) -> bool:
        """Return whether no other request is affected, and the guard certainly allows this one."""
        return self._messages.is_undisturbed(remote, plain.token_of(message)) and self._site.admit(
            remote.peer, path, method
        )

    def _fits(self, remote: CoapsRemote, path: Path, answer: Answer) -> bool:
        """Return whether an answer fits one datagram; if not, remember it for the session."""
        if len(answer.payload) <= remote.maximum_payload_size:
            return True
        remote.in_blocks |= {path}
        return False


def _without_slash(path: Path) -> Path:
    """Return a path without a trailing slash, as `GuardedSite` takes it."""
    return path[:-1] if path and not path[-1] else path
