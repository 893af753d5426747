"""aiocoap's reassembly of bodies sent in blocks (RFC 7959), bounded in number and bytes."""

import aiocoap
from aiocoap.blockwise import Block1Spool, IncompleteException
from aiocoap.numbers.codes import Code
from aiocoap.optiontypes import BlockOption

from peer.bounded_dict import BoundedDict
from peer.limits import Limits
from peer.net.problem import ProblemError

#: Methods whose request has no body (RFC 7252 §5.8): Block1 and Size1 have no meaning there.
WITHOUT_BODY = frozenset({Code.GET, Code.DELETE})
_SZX_RESERVED = 7  # RFC 7959 §2.2; it has a meaning only with CoAP over TCP


class RequestBodies(Block1Spool):
    """Half-received bodies: each of a bounded size, and bounded in number and bytes.

    aiocoap keeps any number of them, of any size, for 93 s.
    """

    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self._bounded: BoundedDict[tuple[object, ...], aiocoap.Message] = BoundedDict(
            limits.block_assemblies,
            most_weight=limits.block_bytes,
            weigh=lambda message: len(message.payload),
        )
        self._assemblies = self._bounded

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
        if block is None:
            return request
        require_size(block)
        if not block.is_valid_for_payload_size(len(request.payload)):
            # aiocoap checks neither the first block nor the last one.
            raise bad_block("a block is not of the size that it says")
        try:
            whole = self.feed_and_take(request)
        except ValueError as error:
            raise IncompleteException from error
        finally:
            self._bounded.weigh_again()
        for key in [key for key, held in self._bounded.items() if held is whole]:
            del self._bounded[key]
        return whole


def require_size(block: BlockOption.BlockwiseTuple | None) -> None:
    """Refuse blocks of the reserved size (4.00)."""
    if block is not None and block.size_exponent == _SZX_RESERVED:
        raise bad_block("the size of the blocks is a reserved value")


def bad_block(title: str) -> ProblemError:
    """Return 4.00 for a block that is not valid."""
    return ProblemError("malformed", title, "See RFC 7959 for how a body is sent in blocks.")
