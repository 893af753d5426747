"""Responses that are sent in blocks (RFC 7959), bounded in number and bytes.

aiocoap's `Block2Cache` is not used: it sets no ETag, keeps any number of responses for 93 s, and
tells requests apart by their options alone. The body of a FETCH or POST says what is asked for, too
(RFC 8132 §2): without it in the key, a client gets a block of the response to another request.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from typing import Self

import aiocoap
from aiocoap import error as coap_error
from aiocoap.blockwise import IncompleteException
from aiocoap.numbers.codes import Code
from aiocoap.numbers.optionnumbers import OptionNumber
from aiocoap.optiontypes import BlockOption

from peer.bounded_dict import BoundedDict
from peer.limits import BODY_BEGIN_SECONDS, BODY_PAUSE_SECONDS, Limits
from peer.net import plain
from peer.net.aiocoap_seam.blocks import WITHOUT_BODY, bad_block, require_size
from peer.net.aiocoap_seam.copies import copied
from peer.net.stored_block import LaterBlock, StoredBody

_log = logging.getLogger(__name__)

#: Methods that change nothing: an answer can be rendered again (RFC 7252 §5.1, RFC 8132 §2).
SAFE = frozenset({Code.GET, Code.FETCH})
#: Options that may differ between the requests for the blocks of one response.
_OF_ONE_BLOCK = [
    OptionNumber.BLOCK1,
    OptionNumber.BLOCK2,
    OptionNumber.OBSERVE,
    OptionNumber.ETAG,
    OptionNumber.CONTENT_FORMAT,  # a part of `_Key.body`
]
#: Options of a request for a block that asks for nothing else (`peer.net.stored_block`).
_PLAIN = frozenset(
    {
        OptionNumber.URI_HOST,
        OptionNumber.URI_PORT,
        OptionNumber.URI_PATH,
        OptionNumber.URI_QUERY,
        OptionNumber.ACCEPT,
        OptionNumber.BLOCK2,
    }
)
_DIGEST_BYTES = 16

Build = Callable[[], Coroutine[object, object, aiocoap.Message]]
"""Makes the response to a request."""


@dataclass(frozen=True, slots=True)
class _Key:
    """The identity of a response: method and options of its request, and a digest of the body."""

    options: tuple[object, ...]
    body: bytes

    @classmethod
    def of(cls, request: aiocoap.Message) -> Self:
        options = request.get_cache_key(_OF_ONE_BLOCK)
        if request.code in WITHOUT_BODY:
            return cls(options, b"")
        return cls(options, _digest(request))


class AnswerTooLargeError(coap_error.ConstructionRenderableError):
    """A resource's answer is longer than a client accepts. The client gets 5.00."""

    code = Code.INTERNAL_SERVER_ERROR


class _Transfer:
    """A body of which a block was sent at a time. `until` is when it counts as abandoned."""

    def __init__(self, at: float, seconds: float) -> None:
        self.at = at
        self.until = at + seconds
        self.has_advanced = asyncio.Event()


class ResponseBlocks:
    """The responses of one session of which blocks were sent.

    Each has an ETag, so that a client notices when the blocks that it gets are of different states
    (RFC 7959 §2.4).
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._stored: BoundedDict[_Key, aiocoap.Message] = BoundedDict(
            limits.block_assemblies,
            most_weight=limits.block_bytes,
            weigh=lambda message: len(message.payload),
            on_evict=lambda key, _message: self._bodies.pop(key, None),
        )
        self._transfers: BoundedDict[_Key, _Transfer] = BoundedDict(limits.block_assemblies)
        #: The key and the path of stored responses, by the options of the GET without Block2.
        self._plain: BoundedDict[bytes, tuple[_Key, tuple[str, ...]]] = BoundedDict(
            limits.block_assemblies
        )
        #: The data that all blocks of a stored response share, while that one is stored.
        self._bodies: BoundedDict[_Key, StoredBody] = BoundedDict(limits.block_assemblies)

    @property
    def held_bytes(self) -> int:
        """The bytes of all stored responses."""
        return self._stored.weight

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
        require_size(block)
        most = request.remote.maximum_block_size_exp
        if block is not None and block.size_exponent > most:
            number = block.block_number << (block.size_exponent - most)
            request = copied(request, block2=(number, block.more, most))
        if block is None or block.block_number == 0:
            whole = await self._tagged(request, build)
            if block is None and not self._transfers and _fits(whole, request):
                return _validated(whole, request)
            key = _Key.of(request)
            answer = _validated(self._first_block(key, request, whole), request)
        else:
            key = self._key_of_stored(request)
            answer = await self._later_block(key, request, build)
        self._note(key, answer.opt.block2)
        return answer

    def path_of(self, options: bytes) -> tuple[str, ...] | None:
        """Return the path of a GET with these options if the response to it is stored.

        The options were checked when the response was stored.
        """
        key, path = self._plain.get(options, (None, ()))
        return path if key in self._stored else None

    def later_block(self, asked: LaterBlock) -> bytes | None:
        """Return the message with a block of a stored response, or None to leave it to `block_of`.

        It is the message that `block_of` and aiocoap make of it.
        """
        key, _ = self._plain.get(asked.options, (None, ()))
        whole = self._stored.get(key) if key is not None else None
        if key is None or whole is None:
            return None
        body = self._bodies.get(key)
        if body is None:
            body = _body_of(whole)
            if body is None:
                return None
            self._bodies[key] = body
        message = body.block(asked)
        if message is not None:
            size, start = 1 << asked.size_exponent + 4, asked.number << asked.size_exponent + 4
            more = start + size < len(whole.payload)
            self._note(key, BlockOption.BlockwiseTuple(asked.number, more, asked.size_exponent))
        return message

    async def fetched(self, request: aiocoap.Message) -> None:
        """Wait until the client has the last response to `request`, or stops fetching it.

        A newer response takes the place of the stored one, so a body that changes faster than it
        is transferred would never arrive.
        """
        if not self._transfers:
            return
        key = _Key.of(request)
        loop = asyncio.get_running_loop()
        while (transfer := self._transfers.get(key)) and loop.time() < transfer.until:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(transfer.until):
                    await transfer.has_advanced.wait()

    def _first_block(
        self, key: _Key, request: aiocoap.Message, whole: aiocoap.Message
    ) -> aiocoap.Message:
        """Return the whole response if it fits, or else its first block."""
        if _fits(whole, request):
            return whole
        block = request.opt.block2
        self._store(key, whole, request)
        exponent = request.remote.maximum_block_size_exp if block is None else block.size_exponent
        return _cut(whole, 0, exponent)

    async def _later_block(
        self, key: _Key, request: aiocoap.Message, build: Build
    ) -> aiocoap.Message:
        whole, block = self._stored.get(key), request.opt.block2
        assert block is not None
        if whole is None:
            if not _says_all(request):
                raise IncompleteException
            whole = await self._tagged(request, build)
            if not whole.code.is_successful():
                return self._first_block(key, request, whole)
            self._store(key, whole, request)
        return _cut(whole, block.block_number, block.size_exponent)

    def _store(self, key: _Key, whole: aiocoap.Message, request: aiocoap.Message) -> None:
        self._stored[key] = whole
        self._bodies.pop(key, None)  # that of the response before
        numbers = {option.number for option in request.opt.option_list()}
        if request.code is Code.GET and numbers <= _PLAIN:
            options = bytes(copied(request, block2=None).opt.encode())
            self._plain[options] = (key, tuple(request.opt.uri_path))

    def _key_of_stored(self, request: aiocoap.Message) -> _Key:
        """Return the key of the response of which a request asks for a later block.

        Such a request may leave out the body (RFC 7959 §3.3, figure 11). It then means the response
        under way, or else the newest one, whatever the body was. Raises an error that aiocoap
        answers with 4.08 if several are under way, since nothing tells them apart.
        """
        key = _Key.of(request)
        if key in self._stored or request.payload:
            return key
        alike = [one for one in self._stored if one.options == key.options]
        under_way = [one for one in alike if self._is_under_way(one)]
        if len(under_way) > 1:
            raise IncompleteException
        return (under_way or alike or [key])[-1]

    async def _tagged(self, request: aiocoap.Message, build: Build) -> aiocoap.Message:
        """Add the entity tag, and the size if the request asks for it (RFC 7959 §4)."""
        answer = await build()
        size, most = len(answer.payload), self._limits.answer_body_bytes
        if size > most:
            path = "/".join(request.opt.uri_path)
            _log.error("the answer of /%s has %d bytes; a client accepts %d", path, size, most)
            raise AnswerTooLargeError
        is_content = request.code in SAFE and answer.code is Code.CONTENT
        needs_tag = answer.opt.etag is None and (is_content or not _fits(answer, request))
        if needs_tag or request.opt.size2 is not None:
            answer = copied(answer)  # a resource may return one message again with another payload
        if needs_tag:
            answer.opt.etag = entity_tag(answer)
        if request.opt.size2 is not None:
            answer.opt.size2 = size
        return answer

    def _note(self, key: _Key, sent: BlockOption.BlockwiseTuple | None) -> None:
        """Note how far the client has come."""
        previous = self._transfers.pop(key, None)
        if previous is not None:
            previous.has_advanced.set()
        if sent is not None and sent.more:
            seconds = BODY_PAUSE_SECONDS if sent.block_number else BODY_BEGIN_SECONDS
            self._transfers[key] = _Transfer(asyncio.get_running_loop().time(), seconds)

    def _is_under_way(self, key: _Key) -> bool:
        transfer, now = self._transfers.get(key), asyncio.get_running_loop().time()
        return transfer is not None and now < transfer.at + BODY_PAUSE_SECONDS


def _body_of(whole: aiocoap.Message) -> StoredBody | None:
    """Return what the blocks of a response have in common, if Block2 is the last option."""
    numbers = [option.number for option in whole.opt.option_list()]
    if any(number >= OptionNumber.BLOCK2 for number in numbers):
        return None
    options = bytes(whole.opt.encode())
    return StoredBody(whole.code, options, max(numbers, default=0), whole.payload)


def _fits(answer: aiocoap.Message, request: aiocoap.Message) -> bool:
    """Return whether a whole response fits one datagram, and the block that was asked for."""
    size, block = len(answer.payload), request.opt.block2
    return size <= request.remote.maximum_payload_size and (block is None or size <= block.size)


def _cut(whole: aiocoap.Message, number: int, exponent: int) -> aiocoap.Message:
    """Return one block of a response, of 2^(exponent + 4) bytes (RFC 7959 §2.2)."""
    size = 1 << exponent + 4
    start, end = number * size, (number + 1) * size
    if start >= len(whole.payload):
        raise bad_block("the answer has no such block")
    block2 = (number, end < len(whole.payload), exponent)
    return copied(whole, payload=whole.payload[start:end], mid=None, block2=block2)


def entity_tag(answer: aiocoap.Message) -> bytes:
    """Return the entity tag of a representation."""
    content_format = answer.opt.content_format
    return plain.entity_tag(answer.payload, None if content_format is None else int(content_format))


def _digest(request: aiocoap.Message) -> bytes:
    content_format = request.opt.content_format
    kind = b"" if content_format is None else b"%d" % int(content_format)
    return blake2b(request.payload, digest_size=_DIGEST_BYTES, person=kind).digest()


def _says_all(request: aiocoap.Message) -> bool:
    """Whether a request for a later block is enough to render the response again."""
    return request.code is Code.GET or (request.code is Code.FETCH and bool(request.payload))


def _validated(answer: aiocoap.Message, request: aiocoap.Message) -> aiocoap.Message:
    """Return 2.03 instead of a representation that the client has."""
    if (
        request.code not in SAFE
        or answer.code is not Code.CONTENT
        or answer.opt.etag not in request.opt.etags
    ):
        return answer
    return copied(
        answer, code=Code.VALID, payload=b"", content_format=None, block2=None, size2=None
    )
