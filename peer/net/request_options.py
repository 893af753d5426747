"""The options of a request: which ones a server understands, and what it refuses.

A request with a critical option that the server does not understand is answered with 4.02 (RFC 7252
§5.4.1). If it is non-confirmable it is reset instead (`aiocoap_seam.managers`). An elective option
that is unknown, repeated or malformed is ignored.
"""

from collections.abc import Collection

import aiocoap
from aiocoap.numbers.codes import Code
from aiocoap.numbers.optionnumbers import OptionNumber
from aiocoap.optiontypes import OptionType

from peer.net.aiocoap_seam.blocks import WITHOUT_BODY
from peer.net.aiocoap_seam.parsing import InvalidOption
from peer.net.aiocoap_seam.response_blocks import SAFE, Build
from peer.net.preconditions import PRECONDITIONS
from peer.net.problem import ProblemError

#: Critical options of every request.
UNDERSTOOD = frozenset(
    {
        OptionNumber.URI_HOST,
        OptionNumber.URI_PORT,
        OptionNumber.URI_PATH,
        OptionNumber.URI_QUERY,
        OptionNumber.ACCEPT,
        OptionNumber.BLOCK1,
        OptionNumber.BLOCK2,
    }
)
_PROXY = frozenset({OptionNumber.PROXY_URI, OptionNumber.PROXY_SCHEME})
#: Options of a request that may be repeated (RFC 7252 table 4, RFC 9175 §3.2.2).
_REPEATABLE = frozenset(
    {
        OptionNumber.IF_MATCH,
        OptionNumber.ETAG,
        OptionNumber.URI_PATH,
        OptionNumber.URI_QUERY,
        OptionNumber.REQUEST_TAG,
    }
)


def check_options(request: aiocoap.Message, handled: Collection[int] = ()) -> None:
    """Refuse a request for its options alone, from any sender: 4.00, 4.02 or 5.05.

    Args:
        request: the request.
        handled: critical options that some resource handles, beside the preconditions.

    Raises:
        ProblemError: the request cannot be processed.
    """
    seen: set[int] = set()
    for option in request.opt.option_list():
        number = option.number
        again = number in seen and number not in _REPEATABLE
        seen.add(number)
        if number in _PROXY:
            raise ProblemError(
                "no-proxy", "this device is not a proxy", "Send the request to its destination."
            )
        if again and not number.is_critical():
            continue  # RFC 7252 §5.4.5: as if it was unknown
        if again:
            raise _bad_option(number, "is given twice")
        _check_value(option)
        if number.is_critical() and not (
            number in UNDERSTOOD or number in PRECONDITIONS or number in handled
        ):
            raise _bad_option(number, "is not supported")


def method_name(request: aiocoap.Message) -> str:
    """Return the name of a request's method, or its number if it has no name."""
    code = request.code
    return str(code) if code in Code.__members__.values() else str(code.dotted)


def check_path(path: Collection[str]) -> None:
    """Refuse a path with a segment `.` or `..` (RFC 7252 §5.10.1): 4.00."""
    if not {".", ".."}.isdisjoint(path):
        raise _malformed("a segment of the path is . or ..")


def check_handled(request: aiocoap.Message, handled: Collection[int]) -> None:
    """Refuse a critical option that the method or the resource does not handle (4.02)."""
    if request.opt.block1 is not None and request.code in WITHOUT_BODY:
        raise _bad_option(OptionNumber.BLOCK1, f"has no meaning with {method_name(request)}")
    for option in request.opt.option_list():
        number = option.number
        if number.is_critical() and number not in UNDERSTOOD and number not in handled:
            raise _bad_option(number, "is not supported by this resource")


def acceptable(request: aiocoap.Message, build: Build, formats: set[int | None]) -> Build:
    """Return a `build` that refuses a representation which the client cannot use (4.06).

    The client does not accept its format (RFC 7252 §5.10.4), or the representation before had
    another one: a client learns the format of an observation once (RFC 7641 §4.2).

    Args:
        request: the request.
        build: renders the representation.
        formats: the format of the representations of this observation so far; it is updated.
    """

    async def checked() -> aiocoap.Message:
        answer = await build()
        if request.code not in SAFE or answer.code is not Code.CONTENT:
            return answer
        found, wanted = answer.opt.content_format, request.opt.accept
        formats.add(None if found is None else int(found))
        if len(formats) > 1 or (None not in (found, wanted) and found != wanted):
            raise ProblemError(
                "content-format",
                f"this resource is available as content format {found} only",
                "Ask for that content format, or for none.",
                code=Code.NOT_ACCEPTABLE,
            )
        return answer

    return checked


def _check_value(option: OptionType) -> None:
    number = option.number
    is_invalid = isinstance(option, InvalidOption)
    if number is OptionNumber.HOP_LIMIT:
        if is_invalid or option.value == 0:  # RFC 8768 §3
            raise _malformed("Hop-Limit is not a number from 1 to 255")
    elif isinstance(option, InvalidOption):
        if option.is_text:
            raise _malformed(f"option {int(number)} is not UTF-8")
        raise _bad_option(number, "has a value of a wrong length")


def _bad_option(number: int, what: str) -> ProblemError:
    return ProblemError(
        "bad-option", f"option {int(number)} {what}", "Leave it out: it is marked critical."
    )


def _malformed(title: str) -> ProblemError:
    return ProblemError(
        "malformed", title, "Send a valid path, query and options (RFC 7252 §5.10)."
    )
