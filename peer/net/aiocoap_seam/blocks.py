"""aiocoap's reassembly of bodies sent in blocks (RFC 7959), bounded in number and bytes."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from hashlib import blake2b

import aiocoap
from aiocoap import error as coap_error
from aiocoap.blockwise import Block1Spool, Block2Cache, IncompleteException, _extract_block_key
from aiocoap.numbers.codes import Code
from aiocoap.optiontypes import BlockOption

from peer.bounded_dict import BoundedDict
from peer.limits import BODY_BEGIN_SECONDS, BODY_PAUSE_SECONDS, ETAG_BYTES, Limits
from peer.net.problem import ProblemError

_log = logging.getLogger(__name__)

#: Methods that change nothing: an answer can be rendered again (RFC 7252 §5.1, RFC 8132 §2).
SAFE = frozenset({Code.GET, Code.FETCH})
#: Methods whose request has no body (RFC 7252 §5.8): Block1 and Size1 have no meaning there.
WITHOUT_BODY = frozenset({Code.GET, Code.DELETE})
_SZX_RESERVED = 7  # RFC 7959 §2.2; it has a meaning only with CoAP over TCP

Build = Callable[[], Coroutine[object, object, aiocoap.Message]]
"""Makes the response to a request."""


def _bounded(limits: Limits) -> BoundedDict[tuple[object, ...], aiocoap.Message]:
    """Messages by what their blocks have in common, bounded in number and bytes."""
    return BoundedDict(
        limits.block_assemblies,
        most_weight=limits.block_bytes,
        weigh=lambda message: len(message.payload),
    )


class RequestBodies(Block1Spool):
    """Half-received bodies: each of a bounded size, and bounded in number and bytes.

    aiocoap keeps any number of them, of any size, for 93 s.
    """

    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self._assemblies = self._bounded = _bounded(limits)

    @property
    def held_bytes(self) -> int:
        """The bytes of all bodies of which blocks are missing."""
        return sum(len(body.payload) for body in self._bounded.values())

    def feed(self, request: aiocoap.Message, most_bytes: int) -> aiocoap.Message:
        """Add one block, and return the request with the whole body if it was the last one.

        Raises an error that aiocoap answers with 2.31, 4.00, 4.08 or 4.13. aiocoap itself lets a
        `ValueError` through for a block out of order.
        """
        block = request.opt.block1
        start = block.start if block is not None else 0
        announced = (request.opt.size1 or 0) if request.code not in WITHOUT_BODY else 0
        if max(start + len(request.payload), announced) > most_bytes:
            raise ProblemError(
                "too-large",
                "the request's body is too large",
                f"Send at most {most_bytes} bytes.",
                size1=most_bytes,
            )
        _require_size(block)
        if block is not None and not block.is_valid_for_payload_size(len(request.payload)):
            # aiocoap checks neither the first block nor the last one.
            raise _bad_block("a block is not of the size that it says")
        try:
            whole = self.feed_and_take(request)
        except ValueError as error:
            raise IncompleteException from error
        finally:
            self._bounded.weigh_again()
        for key in [key for key, held in self._bounded.items() if held is whole]:
            del self._bounded[key]
        return whole


class AnswerTooLargeError(coap_error.ConstructionRenderableError):
    """A resource's answer is longer than a client accepts. The client gets 5.00."""

    code = Code.INTERNAL_SERVER_ERROR


class _Transfer:
    """A body of which a block was sent. `until` is when it counts as abandoned."""

    def __init__(self, until: float) -> None:
        self.until = until
        self.has_advanced = asyncio.Event()


class ResponseBlocks(Block2Cache):
    """Half-sent responses, bounded in number and bytes.

    Each has an ETag, so that a client notices when the blocks that it gets are of different states
    (RFC 7959 §2.4). aiocoap sets none.
    """

    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self._limits = limits
        self._completes = self._bounded = _bounded(limits)
        self._transfers: BoundedDict[tuple[object, ...], _Transfer] = BoundedDict(
            limits.block_assemblies
        )

    @property
    def held_bytes(self) -> int:
        """The bytes of all responses of which blocks were not sent yet."""
        return sum(len(response.payload) for response in self._bounded.values())

    async def block_of(self, request: aiocoap.Message, build: Build) -> aiocoap.Message:
        """Return the block of a response that a request asks for, or all of it if it fits.

        A representation has an entity tag, so that a client notices if its blocks are of different
        ones (RFC 7959 §2.4); to a client that has it already, the response is 2.03 (RFC 7252
        §5.10.6.2). A later block of a representation that is not stored is rendered again.

        If the session cannot carry blocks of the size that the request asks for, the block is the
        smaller one at the same offset (RFC 7959 §2.4); aiocoap would send the larger one.

        Raises an error that aiocoap answers with 4.00, 4.08 or 5.00.
        """
        block = request.opt.block2
        _require_size(block)
        most = request.remote.maximum_block_size_exp
        if block is not None and block.size_exponent > most:
            number = block.block_number << (block.size_exponent - most)
            request = request.copy(block2=(number, block.more, most))
        answer = _validated(await self._block_of(request, build), request)
        self._note(request, answer.opt.block2)
        return answer

    async def _block_of(self, request: aiocoap.Message, build: Build) -> aiocoap.Message:
        block, asked = request.opt.block2, _without_tags(request)
        if block is None or block.block_number == 0:
            return await self.extract_or_insert(asked, lambda: self._tagged(request, build))
        try:
            return await self.extract_or_insert(asked, lambda: self._tagged(request, build))
        except coap_error.BadRequest as error:
            raise _no_such_block() from error
        except IncompleteException:
            if request.code not in SAFE:
                raise
        return await self._rendered_again(asked, build)

    async def _rendered_again(self, request: aiocoap.Message, build: Build) -> aiocoap.Message:
        """Return a later block of a representation that has to be rendered for it."""
        block = request.opt.block2
        assert block is not None
        first = request.copy(block2=(0, False, block.size_exponent))
        answer = await self.extract_or_insert(first, lambda: self._tagged(request, build))
        if not answer.code.is_successful():
            return answer
        try:
            return await self.extract_or_insert(request, lambda: self._tagged(request, build))
        except (coap_error.BadRequest, IncompleteException) as error:
            raise _no_such_block() from error

    async def fetched(self, request: aiocoap.Message) -> None:
        """Wait until the client has the last response to `request`, or stops fetching it.

        A newer response takes the place of the stored one, so a body that changes faster than it
        is transferred would never arrive.
        """
        loop = asyncio.get_running_loop()
        key = _key(request)
        while (transfer := self._transfers.get(key)) and loop.time() < transfer.until:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(transfer.until):
                    await transfer.has_advanced.wait()

    async def _tagged(self, request: aiocoap.Message, build: Build) -> aiocoap.Message:
        """Add the entity tag, and the size if the request asks for it (RFC 7959 §4)."""
        answer = await build()
        size, most = len(answer.payload), self._limits.answer_body_bytes
        if size > most:
            path = "/".join(request.opt.uri_path)
            _log.error("the answer of /%s has %d bytes; a client accepts %d", path, size, most)
            raise AnswerTooLargeError
        block = request.opt.block2
        fits = size <= request.remote.maximum_payload_size and (block is None or size <= block.size)
        is_content = request.code in SAFE and answer.code is Code.CONTENT
        needs_tag = answer.opt.etag is None and (is_content or not fits)
        if needs_tag or request.opt.size2 is not None:
            answer = answer.copy()  # a resource may return one message again with another payload
        if needs_tag:
            answer.opt.etag = entity_tag(answer)
        if request.opt.size2 is not None:
            answer.opt.size2 = size
        return answer

    def _note(self, request: aiocoap.Message, sent: BlockOption.BlockwiseTuple | None) -> None:
        """Note how far the client has come."""
        key = _key(request)
        previous = self._transfers.pop(key, None)
        if previous is not None:
            previous.has_advanced.set()
        if sent is not None and sent.more:
            seconds = BODY_PAUSE_SECONDS if sent.block_number else BODY_BEGIN_SECONDS
            self._transfers[key] = _Transfer(asyncio.get_running_loop().time() + seconds)


def _without_tags(request: aiocoap.Message) -> aiocoap.Message:
    """Return what a request asks for. A client may leave out its tags when it asks for a block."""
    return request.copy(etags=()) if request.opt.etags else request


def _key(request: aiocoap.Message) -> tuple[object, ...]:
    """Return the key of a stored response."""
    return _extract_block_key(_without_tags(request))


def _validated(answer: aiocoap.Message, request: aiocoap.Message) -> aiocoap.Message:
    """Return 2.03 instead of a representation that the client has."""
    block = request.opt.block2
    if (
        request.code not in SAFE
        or answer.code is not Code.CONTENT
        or answer.opt.etag not in request.opt.etags
        or (block is not None and block.block_number)
    ):
        return answer
    return answer.copy(code=Code.VALID, payload=b"", content_format=None, block2=None, size2=None)


def entity_tag(answer: aiocoap.Message) -> bytes:
    """Return the entity tag of a representation: a digest of its content and its format."""
    content_format = answer.opt.content_format
    kind = b"" if content_format is None else b"%d" % int(content_format)
    return blake2b(answer.payload, digest_size=ETAG_BYTES, person=kind).digest()


def _require_size(block: BlockOption.BlockwiseTuple | None) -> None:
    if block is not None and block.size_exponent == _SZX_RESERVED:
        raise _bad_block("the size of the blocks is a reserved value")


def _bad_block(title: str) -> ProblemError:
    return ProblemError("malformed", title, "See RFC 7959 for how a body is sent in blocks.")


def _no_such_block() -> ProblemError:
    return _bad_block("the answer has no such block")
