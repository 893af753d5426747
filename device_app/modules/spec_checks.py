"""Checks of what `resources(board)` of a module returns: a mistake stops the start with words."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Final

from aiocoap import interfaces
from aiocoap.numbers.codes import Code
from aiocoap.resource import Resource

from device_app.limits import PATH_SEGMENT_BYTES
from device_app.modules.importing import unusable
from device_app.resource_spec import RESERVED_SEGMENTS, ResourceSpec
from iam.access import Access
from iam.errors import IamError
from peer.net.direct import TakesPlainWrites
from peer.net.plain import WRITES

#: The methods by the name of their handlers (RFC 7252 §5.8, RFC 8132).
_METHODS: Final[Mapping[str, str]] = {
    f"render_{str(code).lower()}": str(code) for code in Code if code.is_request()
}
_HANDLER: Final = "render_"
#: The handlers of a resource that the direct path calls, and those that take their place.
_PLAIN: Final[Mapping[str, str]] = {
    "answer": "render_get",
    **{f"answer_{one.lower()}": f"render_{one.lower()}" for one in WRITES.values()},
}
#: Methods of aiocoap's `Resource` that begin like handlers.
_NO_HANDLERS: Final = frozenset({"render_to_pipe"})


def check_spec(name: str, spec: object) -> None:
    """Check one value that `resources()` of a module returned. Raises `ModuleError`."""
    if not isinstance(spec, ResourceSpec):
        raise unusable(name, f"resources() returned {type(spec).__name__}, not ResourceSpec")
    if not isinstance(spec.path, str):
        raise unusable(name, f"the path {spec.path!r} is not text")
    if not isinstance(spec.resource, interfaces.Resource):
        raise unusable(name, f"{spec.path} is not an aiocoap resource: {_kind(spec.resource)}")
    if not spec.segments or spec.segments[0] in RESERVED_SEGMENTS:
        raise unusable(name, f"the path {spec.path!r} belongs to handfast")
    if any(part in (".", "..") or not _fits(part) for part in spec.segments):
        raise unusable(name, f"no request can name the path {spec.path!r}")
    if not all(map(_is_critical, spec.options)):
        raise unusable(name, f"the options of {spec.path} are not numbers of critical options")
    actions: object = spec.actions
    if not isinstance(actions, Mapping):
        raise unusable(name, f"the actions of {spec.path} are not a dict of methods and actions")
    if not actions:
        raise unusable(name, f"{spec.path} has no actions, so no user could reach it")
    if spec.attributes is not None and not callable(spec.attributes):
        raise unusable(name, f"the attributes of {spec.path} are not a function of the request")
    _check_methods(name, spec)
    if unknown := set(spec.least_role) - set(spec.actions.values()):
        raise unusable(
            name, f"least_role names {min(unknown)}, which no method needs{_near_action(spec)}"
        )
    try:
        Access(app_actions=spec.roles())
    except IamError as error:
        raise unusable(name, f"{error} {error.advice}".strip()) from error
    _check_handlers(name, spec)
    _check_plain(name, spec)


def warnings_of(spec: ResourceSpec) -> list[str]:
    """Return what is probably a mistake in a valid resource."""
    if not _is_by_handlers(spec.resource):
        return []
    found = []
    for handler in _handlers(spec.resource):
        method = _METHODS.get(handler)
        if method is None:
            found.append(
                f"{spec.path}: {_class(spec)}.{handler} is never called: there is no such method"
                f"{_hint(handler, _METHODS)}"
            )
        elif method not in spec.actions:
            found.append(
                f"{spec.path}: {_class(spec)}.{_as_written(spec.resource, handler)} is never "
                f"called: `actions` has no {method}"
            )
    return found


def _check_methods(name: str, spec: ResourceSpec) -> None:
    for method in spec.actions:
        if method not in _METHODS.values():
            known = {one.upper(): one for one in _METHODS.values()}
            same = known.get(str(method).upper())
            hint = f"; write {same}" if same else _hint(str(method), known)
            raise unusable(name, f"{spec.path} has an action for {method!r}, no CoAP method{hint}")


def _check_handlers(name: str, spec: ResourceSpec) -> None:
    """Require a handler for each method that has an action."""
    if not _is_by_handlers(spec.resource):
        return
    for handler, method in _METHODS.items():
        if method not in spec.actions or callable(getattr(spec.resource, handler, None)):
            continue
        others = [one for one in _handlers(spec.resource) if one not in _METHODS]
        hint = _hint(handler, others)
        raise unusable(
            name,
            f"{spec.path} has an action for {method}, but {_class(spec)} has no {handler}{hint}",
        )


def _check_plain(name: str, spec: ResourceSpec) -> None:
    """Refuse a handler of the direct path that waits."""
    if not isinstance(spec.resource, TakesPlainWrites):
        return
    for answer, handler in _PLAIN.items():
        if inspect.iscoroutinefunction(getattr(spec.resource, answer, None)):
            raise unusable(
                name,
                f"{spec.path}: {_class(spec)}.{answer} is async, and has to be a plain function; "
                f"write {handler} if it waits",
            )


def _as_written(resource: object, handler: str) -> str:
    """Return the function that the author wrote, if the handler was derived from one."""
    if isinstance(resource, TakesPlainWrites):
        for answer, derived in _PLAIN.items():
            if derived == handler and hasattr(resource, answer):
                return answer
    return handler


def _is_by_handlers(resource: object) -> bool:
    """Whether a resource answers by its `render_…` methods, and not in a way of its own."""
    return isinstance(resource, Resource) and type(resource).render is Resource.render


def _handlers(resource: object) -> list[str]:
    return [one for one in dir(resource) if one.startswith(_HANDLER) and one not in _NO_HANDLERS]


def _hint(name: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - only an error needs it

    near = get_close_matches(name, list(known), n=1)
    return f"; is it {near[0]}?" if near else ""


def _near_action(spec: ResourceSpec) -> str:
    unknown = min(set(spec.least_role) - set(spec.actions.values()))
    return _hint(unknown, set(spec.actions.values()))


def _class(spec: ResourceSpec) -> str:
    return type(spec.resource).__name__


def _kind(value: object) -> str:
    return (
        f"the class {value.__name__}; write {value.__name__}()"
        if isinstance(value, type)
        else (type(value).__name__)
    )


def _is_critical(number: object) -> bool:
    return isinstance(number, int) and number & 1 == 1


def _fits(segment: str) -> bool:
    """Return whether a request can have this segment (RFC 7252 §5.10.1, table 4)."""
    return len(segment.encode(errors="surrogatepass")) <= PATH_SEGMENT_BYTES and not any(
        "\ud800" <= character <= "\udfff" for character in segment
    )
