"""CoRE Link Format (RFC 6690): describe resources, filter the links and encode them.

aiocoap has an encoder and a filter, too. Its filter lists links that lack the attribute, applies
the last of several filters only, and fails on attributes that are not text; its encoder copies
paths and values unescaped.
"""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from aiocoap import interfaces
from aiocoap.resource import Resource

CONTENT_FORMAT = 40
#: Characters of a path segment that stay as they are (RFC 3986 §3.3).
_SEGMENT_CHARACTERS = "!$&'()*+,;=:@"
#: Attributes that always have a value: None stands for the attribute's absence.
_VALUED = frozenset({"rt", "if", "ct", "sz", "title", "rel", "rev", "anchor", "type", "media"})
#: Attributes whose value is a list, separated by spaces (RFC 6690 §3, RFC 7252 §7.2.1).
_LISTS = frozenset({"rt", "if", "ct", "rel", "rev"})
_NAME = re.compile(r"[A-Za-z0-9!#$&+.^_`|~-]+\*?")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]+")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Link:
    """A link to a resource of this server. An attribute without a value is None."""

    path: Sequence[str]
    attributes: Mapping[str, str | None]

    @property
    def href(self) -> str:
        """The target, as a relative reference (RFC 3986 §4.2)."""
        return "/" + "/".join(quote(part, safe=_SEGMENT_CHARACTERS) for part in self.path)

    def matches(self, query: str) -> bool:
        """Return whether a filter selects this link (RFC 6690 §4.1).

        `name=value` compares with the value or, of a list, with each member; `name=start*` compares
        the beginning, so that `name=*` selects all links with the attribute, like `name` alone.
        """
        name, equals, wanted = query.partition("=")
        values = self._values(name)
        if not equals:
            return bool(values)
        if wanted.endswith("*"):
            return any(value.startswith(wanted[:-1]) for value in values)
        return wanted in values

    def _values(self, name: str) -> list[str]:
        if name == "href":
            return [self.href, "/" + "/".join(self.path)]
        if name not in self.attributes:
            return []
        value = self.attributes[name] or ""
        return value.split() if name in _LISTS else [value]

    def __str__(self) -> str:
        return ";".join([f"<{self.href}>", *map(_encoded, self.attributes.items())])


def link_to(path: Sequence[str], resource: interfaces.Resource) -> Link | None:
    """Return the link to a resource, or None if it hides itself (aiocoap's `Resource`).

    A resource of an application may describe itself by values of any type: numbers and lists are
    written as RFC 6690 asks, None means that there is no such attribute.
    """
    try:
        found = resource.get_link_description() if isinstance(resource, Resource) else {}
        if found is None:
            return None
        described: dict[str, object] = dict(found)
        if "ct" in described and described["ct"] == str(getattr(resource, "ct", None)):
            described["ct"] = getattr(resource, "ct", None)  # aiocoap makes it a text
        return Link(path, _attributes(described))
    except Exception:  # raised by the resource's own code
        _log.exception("the resource /%s cannot describe itself", "/".join(path))
        return Link(path, {})


def select(links: Iterable[Link], queries: Iterable[str]) -> list[Link]:
    """Return the links that all filters select."""
    filters = [query for query in queries if query]
    return [link for link in links if all(map(link.matches, filters))]


def encode(links: Iterable[Link]) -> bytes:
    """Return a document in the link format."""
    return ",".join(map(str, links)).encode()


def _attributes(described: Mapping[str, object]) -> dict[str, str | None]:
    made: dict[str, str | None] = {}
    for name, value in described.items():
        if not _NAME.fullmatch(name) or name == "href":
            continue
        if (value is True or value is None) and name not in _VALUED:
            made[name] = None
        elif text := _text(value):
            made[name] = text
    return made


def _text(value: object) -> str:
    """Return the value of an attribute as text, or "" if it says nothing."""
    match value:
        case None | False | True:
            return ""
        case int():
            return str(int(value))  # a member of an enumeration has its number
        case bytes():
            text = value.decode(errors="replace")
        case set() | frozenset():
            text = " ".join(sorted(filter(None, map(_text, value))))
        case list() | tuple():
            text = " ".join(filter(None, map(_text, value)))
        case _:
            text = str(value).encode(errors="replace").decode()
    return _CONTROLS.sub(" ", text).strip()


def _encoded(attribute: tuple[str, str | None]) -> str:
    name, value = attribute
    if value is None:
        return name
    if name == "sz" and value.isdecimal():  # a number is not quoted (RFC 6690 §2)
        return f"{name}={value}"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'{name}="{escaped}"'
