"""Decoding of `/.well-known/core`: the resources of a device (RFC 6690)."""

import re
from typing import Final
from urllib.parse import unquote, urlsplit

from aiocoap.util import linkformat

from client_app.limits import LISTED_RESOURCES
from client_app.models import ResourceLink
from peer.errors import Malformed

_NUMBER: Final = re.compile(r"[0-9]{1,5}")


def links_untrusted(document: str) -> tuple[ResourceLink, ...]:
    """Decode a document in the link format, at most `LISTED_RESOURCES` links.

    Raises `Malformed` if it is not one.
    """
    try:
        found = linkformat.parse(document).links if document.strip() else []
        return tuple(map(_link, found[:LISTED_RESOURCES]))
    except Exception as error:  # the parser of aiocoap raises several
        raise Malformed(
            "the device's list of resources is not in the link format",
            advice="Run `handfast get DEVICE /.well-known/core --raw` to see it.",
        ) from error


def _link(link: linkformat.Link) -> ResourceLink:
    attributes: dict[str, list[str]] = {}
    for name, value in link.attr_pairs:
        attributes.setdefault(name, []).extend((value or "").split())
    numbers = [one for one in attributes.get("ct", []) if _NUMBER.fullmatch(one)]
    return ResourceLink(
        path=unquote(urlsplit(link.href).path),
        kinds=tuple(attributes.get("rt", ())),
        formats=tuple(map(int, numbers)),
        observable="obs" in attributes,
        title=" ".join(attributes.get("title", ())),
    )
