"""If-Match and If-None-Match (RFC 7252 §5.10.8): change only what the client has seen.

A resource can check them itself (`require_preconditions`). For any other resource of an application
that has a GET, they are compared with the answer to a GET, just before its handler runs. Nothing
comes in between unless a handler waits for something else; then it has to check them itself.
"""

from collections.abc import Callable, Coroutine

import aiocoap
from aiocoap import error as coap_error
from aiocoap import interfaces
from aiocoap.message import Direction
from aiocoap.numbers.codes import Code
from aiocoap.numbers.optionnumbers import OptionNumber

from peer.net.aiocoap_seam.response_blocks import entity_tag
from peer.net.problem import ProblemError

#: Preconditions (RFC 7252 §5.10.8). Both are critical options.
PRECONDITIONS = frozenset({OptionNumber.IF_MATCH, OptionNumber.IF_NONE_MATCH})

Render = Callable[[aiocoap.Message], Coroutine[object, object, aiocoap.Message]]


def has_preconditions(request: aiocoap.Message) -> bool:
    """Return whether a request is conditional."""
    return bool(request.opt.if_match) or request.opt.if_none_match


def require_preconditions(request: aiocoap.Message, current: aiocoap.Message | None) -> None:
    """Check If-Match and If-None-Match in the handler of a request (RFC 7252 §5.10.8).

    Args:
        request: the request.
        current: the answer to a GET at this moment, or None if the resource does not exist.

    Raises:
        ProblemError: 4.12, a precondition does not hold.
    """
    tag = None if current is None else current.opt.etag or entity_tag(current)
    wanted = request.opt.if_match
    if wanted and (tag is None or not {b"", tag} & set(wanted)):
        raise _precondition_failed("there is nothing that If-Match names")
    if request.opt.if_none_match and tag is not None:
        raise _precondition_failed("the resource exists already")


def rendered_if_they_hold(resource: interfaces.Resource) -> Render:
    """Return a `render` for a resource that does not check preconditions itself."""

    async def render(request: aiocoap.Message) -> aiocoap.Message:
        require_preconditions(request, await _current(resource, request))
        answer: aiocoap.Message = await resource.render(request)
        return answer

    return render


def as_get(request: aiocoap.Message) -> aiocoap.Message:
    """Return a GET of the same path and query by the same sender."""
    made = aiocoap.Message(
        code=Code.GET, uri_path=request.opt.uri_path, uri_query=request.opt.uri_query
    )
    made.remote, made.direction = request.remote, Direction.INCOMING
    return made


def not_supported(cause: Exception) -> ProblemError:
    """Return 4.02 for a conditional request to a resource without GET."""
    error = ProblemError(
        "bad-option", "this resource has no preconditions", "Leave out If-Match and If-None-Match."
    )
    error.__cause__ = cause
    return error


async def _current(
    resource: interfaces.Resource, request: aiocoap.Message
) -> aiocoap.Message | None:
    """Return the answer to a GET, or None if the resource says that it does not exist."""
    try:
        answer: aiocoap.Message = await resource.render(as_get(request))
    except coap_error.UnallowedMethod as error:
        raise not_supported(error) from error
    except coap_error.RenderableError as error:
        answer = error.to_message()
        if answer.code is not Code.NOT_FOUND:
            raise
    return answer if answer.code.is_successful() else None


def _precondition_failed(title: str) -> ProblemError:
    return ProblemError(
        "precondition-failed",
        title,
        "Read the resource again, and repeat the change if it is still right.",
    )
