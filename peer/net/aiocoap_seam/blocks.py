"""aiocoap's reassembly of bodies sent in blocks (RFC 7959), bounded in number and bytes."""

from collections.abc import Callable, Coroutine

import aiocoap
from aiocoap import error as coap_error
from aiocoap.blockwise import Block1Spool, Block2Cache, IncompleteException
from aiocoap.optiontypes import BlockOption

from peer.bounded_dict import BoundedDict
from peer.limits import Limits
from peer.net.problem import ProblemError

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
        announced = request.opt.size1 or 0
        if max(start + len(request.payload), announced) > most_bytes:
            raise ProblemError(
                "too-large",
                "the request's body is too large",
                f"Send at most {most_bytes} bytes.",
            )
        _require_size(block)
        try:
            whole = self.feed_and_take(request)
        except coap_error.BadRequest as error:
            raise _bad_block("a block is not of the size that it says") from error
        except ValueError as error:
            raise IncompleteException from error
        finally:
            self._bounded.weigh_again()
        for key in [key for key, held in self._bounded.items() if held is whole]:
            del self._bounded[key]
        return whole


class ResponseBlocks(Block2Cache):
    """Half-sent responses, bounded in number and bytes."""

    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self._completes = self._bounded = _bounded(limits)

    @property
    def held_bytes(self) -> int:
        """The bytes of all responses of which blocks were not sent yet."""
        return sum(len(response.payload) for response in self._bounded.values())

    async def block_of(self, request: aiocoap.Message, build: Build) -> aiocoap.Message:
        """Return the block of a response that a request asks for, or all of it if it fits.

        Raises an error that aiocoap answers with 4.00 or 4.08.
        """
        block = request.opt.block2
        _require_size(block)
        try:
            return await self.extract_or_insert(request, build)
        except coap_error.BadRequest as error:
            if block is None or block.block_number == 0:
                raise  # raised by the handler
            raise _bad_block("the answer has no such block") from error


def _require_size(block: BlockOption.BlockwiseTuple | None) -> None:
    if block is not None and block.size_exponent == _SZX_RESERVED:
        raise _bad_block("the size of the blocks is a reserved value")


def _bad_block(title: str) -> ProblemError:
    return ProblemError("malformed", title, "See RFC 7959 for how a body is sent in blocks.")
