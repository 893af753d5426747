"""Arguments of verbs: JSON on the control socket, typed parameters of `Console`'s methods.

The annotations of a method are the description of its arguments, so that a new verb needs no other.
A parameter may be `bool`, `int`, `float`, `str`, one of these or None, `tuple[str, ...]`,
`Mapping[str, str]`, or a class with `parse_untrusted` and `to_json` (a `Body`). A body goes over
the socket under the name `wish`.
"""

import inspect
import types
from collections.abc import Callable, Mapping
from typing import Final, Protocol, Self, get_args, get_origin, get_type_hints, runtime_checkable

from device_app.errors import AppError
from peer.terminal.exit_codes import ExitCode

_BODY: Final = "body"
_BODY_ON_SOCKET: Final = "wish"
_EXPECTED: Final[dict[object, str]] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    tuple: "a list of texts",
    Mapping: "an object of texts",
}


@runtime_checkable
class Body(Protocol):
    """An argument of several fields, which checks them itself."""

    @classmethod
    def parse_untrusted(cls, body: Mapping[str, object], /) -> Self:
        """Check and take over the fields. Raises `Malformed`."""

    def to_json(self) -> dict[str, object]:
        """Return the fields that are given; the inverse of `parse_untrusted`."""


def encode(args: Mapping[str, object]) -> dict[str, object]:
    """Return the arguments of a verb as they go over the socket."""
    return {
        _BODY_ON_SOCKET if name == _BODY else name: _encoded(value) for name, value in args.items()
    }


def decode_untrusted(
    method: Callable[..., object], args: Mapping[str, object]
) -> dict[str, object]:
    """Return the arguments for a method of `Console`.

    Raises:
        AppError: an argument is missing, unknown, or of another type (`ExitCode.USAGE`).
        Malformed: a body is wrong; the message names the field.
    """
    hints = get_type_hints(method)
    left = dict(args)
    found: dict[str, object] = {}
    for name, parameter in inspect.signature(method).parameters.items():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            continue  # the console, and where its events go
        on_socket = _BODY_ON_SOCKET if name == _BODY else name
        value = left.pop(on_socket, None)
        if value is not None:
            found[name] = _decoded(on_socket, value, hints[name])
        elif parameter.default is inspect.Parameter.empty:
            raise _wrong(f"the argument {on_socket!r} is missing")
    for name in left:
        raise _wrong(f"this verb has no argument {name[:40]!r}")
    return found


def checked(method: Callable[..., object], args: Mapping[str, object]) -> dict[str, object]:
    """Return the arguments as the daemon would decode them. Raises the same errors."""
    return decode_untrusted(method, encode(args))


def _encoded(value: object) -> object:
    if isinstance(value, Body):
        return value.to_json()
    return list(value) if isinstance(value, tuple) else value


def _decoded(name: str, value: object, annotation: object) -> object:
    if isinstance(annotation, types.UnionType):  # X | None: null is the default
        [annotation] = [one for one in get_args(annotation) if one is not types.NoneType]
    if isinstance(annotation, type) and issubclass(annotation, Body):
        if not isinstance(value, Mapping):
            raise _wrong(f"the argument {name!r} is not an object")
        return annotation.parse_untrusted(value)
    expected = get_origin(annotation) or annotation
    if expected is float and type(value) is int:
        value = float(value)
    if expected is tuple and isinstance(value, list):
        value = tuple(value)
    texts = value.values() if isinstance(value, dict) else value if type(value) is tuple else ()
    is_right = isinstance(value, Mapping) if expected is Mapping else type(value) is expected
    if not is_right or not all(isinstance(text, str) for text in texts):
        raise _wrong(f"the argument {name!r} is not {_EXPECTED[expected]}")
    return value


def _wrong(message: str) -> AppError:
    return AppError(
        message, advice="Check the request, and the version of both sides.", code=ExitCode.USAGE
    )
