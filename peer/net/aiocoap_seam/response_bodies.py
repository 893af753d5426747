"""aiocoap's transfer of bodies in blocks (RFC 7959), for this side's requests that need it."""

import aiocoap
from aiocoap.protocol import BlockwiseRequest

from peer.net.remote import CoapsRemote

_LARGEST_SZX = 6


def needs_blocks(request: aiocoap.Message) -> bool:
    """Whether aiocoap divides the body of a request."""
    size = len(request.payload)
    if not size:
        return False
    remote: CoapsRemote = request.remote
    exponent = remote.maximum_block_size_exp
    most = remote.maximum_payload_size if exponent >= _LARGEST_SZX else 1 << exponent + 4
    return size > most


async def in_blocks(context: aiocoap.Context, request: aiocoap.Message) -> aiocoap.Message:
    """Send a request in blocks; return the response with its whole body."""
    response: aiocoap.Message = await context.request(request).response
    return response


class Assembly(BlockwiseRequest):
    """aiocoap's assembly of a response, which begins with a response that has come already."""

    @classmethod
    async def complete(
        cls, context: aiocoap.Context, request: aiocoap.Message, first: aiocoap.Message
    ) -> aiocoap.Message:
        """Request the blocks that follow the first one; return it with the whole body."""
        return await cls._complete_by_requesting_block2(context, request, first, context.log)
