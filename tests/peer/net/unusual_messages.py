"""Unusual messages, and how a server reacts to each of them.

A row has the message, the reaction to it as CON and as NON, and the section that asks for it. `RST`
is a reset, `-` no reaction at all, and any other text the code of the response. `before` are
messages that are sent first, each as CON. `has` are options of the response; None is any value.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.kit.encoded import (
    ACCEPT,
    ACK,
    BLOCK1,
    BLOCK2,
    CON,
    CONTENT_FORMAT,
    DELETE,
    ECHO,
    ETAG,
    FETCH,
    GET,
    HOP_LIMIT,
    IF_MATCH,
    IF_NONE_MATCH,
    IPATCH,
    LOCATION_PATH,
    MAX_AGE,
    NO_RESPONSE,
    NON,
    OBSERVE,
    PATCH,
    POST,
    PROXY_SCHEME,
    PROXY_URI,
    PUT,
    REQUEST_TAG,
    RST,
    SIZE1,
    SIZE2,
    URI_HOST,
    URI_PATH,
    URI_PORT,
    URI_QUERY,
    block,
    encoded,
    uint,
)

RESET, NOTHING = "RST", "-"
GET_ECHO = encoded(GET, path="echo")
#: The bodies of the resources `/big` and `/slot`, and the longest body that the server takes.
BIG, SLOT, MOST_BODY = bytes(range(250)) * 10, b"as it is", 4096
#: A critical and an elective option that are not registered (RFC 7252 §12.2).
CRITICAL, ELECTIVE = 65_001, 65_002


@dataclass(frozen=True)
class Row:
    """A message, and the reactions to it by its type."""

    name: str
    source: str
    message: bytes
    reactions: Mapping[int, str]
    before: tuple[bytes, ...] = ()
    has: Mapping[int, bytes | None] = field(default_factory=dict)


def _row(
    name: str,
    source: str,
    message: bytes,
    con: str,
    non: str = "",
    *,
    before: tuple[bytes, ...] = (),
    has: Mapping[int, bytes | None] | None = None,
) -> Row:
    """Without `non`, the reaction to both types is the same."""
    return Row(name, source, message, {CON: con, NON: non or con}, before, has or {})


def _hex(head: str, rest: bytes = b"") -> bytes:
    """A message of its first and second byte in hex, the Message ID, and the rest."""
    first, code = bytes.fromhex(head)
    return bytes([first, code, 0, 0]) + rest


def _get(*options: tuple[int, bytes]) -> bytes:
    return encoded(GET, *options, path="echo")


def _post_block(
    number: int, size: int, *more_options: tuple[int, bytes], more: bool, szx: int = 6
) -> bytes:
    options = ((BLOCK1, block(number, more=more, szx=szx)), *more_options)
    return encoded(POST, *options, path="echo", payload=bytes(size))


def _get_block(number: int, *options: tuple[int, bytes], szx: int = 6, path: str = "big") -> bytes:
    return encoded(GET, (BLOCK2, block(number, szx=szx)), *options, path=path)


# -- the format of messages (RFC 7252 §3, §4) ------------------------------------------------------

#: Messages with a format error: a confirmable one is reset (§4.2), another one ignored (§4.3).
FORMAT_ERRORS = tuple(
    _row(name, source, message, RESET, NOTHING)
    for name, source, message in (
        ("a token of 9 bytes", "RFC 7252 §3", _hex("4901", bytes(9))),
        ("an extended token of 13 bytes", "RFC 8974 §2.1", _hex("4d01", bytes(14))),
        ("an extended token of 269 bytes", "RFC 8974 §2.1", _hex("4e01", bytes(271))),
        ("token length 15", "RFC 7252 §3", _hex("4f01", bytes(15))),
        ("a token that is cut short", "RFC 7252 §3", _hex("4801", bytes(7))),
        ("code class 1", "RFC 7252 §4.2", _hex("4020")),
        ("code class 3", "RFC 7252 §12.1", _hex("4061")),
        ("code class 6", "RFC 7252 §4.2", _hex("40c0")),
        ("code class 7, a signal of TCP", "RFC 7252 §4.2", _hex("40e1")),
        ("an empty message with a token", "RFC 7252 §4.1", _hex("4100", b"t")),
        ("an empty message with an option", "RFC 7252 §4.1", _hex("4000", b"\xb4echo")),
        ("an empty message with a payload", "RFC 7252 §4.1", _hex("4000", b"\xffbody")),
        ("an empty message with a marker", "RFC 7252 §4.1", _hex("4000", b"\xff")),
        ("a payload marker without payload", "RFC 7252 §3", GET_ECHO + b"\xff"),
        ("option delta 15", "RFC 7252 §3.1", GET_ECHO + b"\xf0\x00"),
        ("option length 15", "RFC 7252 §3.1", GET_ECHO + b"\x0f\x00"),
        ("a delta that is cut short", "RFC 7252 §3.1", GET_ECHO + b"\xd0"),
        ("a length that is cut short", "RFC 7252 §3.1", GET_ECHO + b"\x0e\x00"),
        ("a value that is cut short", "RFC 7252 §3.1", _hex("4001", b"\xb5echo")),
        ("an option number above 65535", "RFC 7252 §3.1", _hex("4001", b"\xe0\xff\xff\xd0\x00")),
        ("a response with a format error", "RFC 7252 §4.2", _hex("4045", b"\xff")),
    )
)

MESSAGES = (
    *FORMAT_ERRORS,
    _row("version 0", "RFC 7252 §3", _hex("0001", b"\xb4echo"), NOTHING),
    _row("version 2", "RFC 7252 §3", _hex("8001", b"\xb4echo"), NOTHING),
    _row("version 3", "RFC 7252 §3", _hex("c001", b"\xb4echo"), NOTHING),
    _row("an empty message: a ping", "RFC 7252 §4.3", _hex("4000"), RESET, NOTHING),
    _row("a response to nothing", "RFC 7252 §4.2, RFC 7641 §3.6", _hex("4145", b"t"), RESET),
    _row("an error to nothing", "RFC 7252 §4.2", _hex("4184", b"t"), RESET),
    _row("more options than the limit", "protocol §2.5", GET_ECHO + bytes(80), RESET, NOTHING),
    *(
        Row(name, "RFC 7252 §4.2", message, {ACK: NOTHING, RST: NOTHING})
        for name, message in (
            ("an empty message for an unknown Message ID", _hex("4000")),
            ("a request", GET_ECHO),
            ("a response to nothing", _hex("4145", b"t")),
            ("a reserved class", _hex("40e1")),
            ("a format error", _hex("4901", bytes(9))),
        )
    ),
)

# -- options (RFC 7252 §5.4, §5.10) ----------------------------------------------------------------

#: A critical option that is not understood: 4.02, and a non-confirmable request is reset (§5.4.1).
NOT_UNDERSTOOD = tuple(
    _row(name, source, message, "4.02", RESET)
    for name, source, message in (
        ("a critical option", "RFC 7252 §5.4.1", _get((CRITICAL, b"?"))),
        ("If-Match where it is not handled", "RFC 7252 §5.4.1", _get((IF_MATCH, b"tag"))),
        ("If-None-Match likewise", "RFC 7252 §5.4.1", _get((IF_NONE_MATCH, b""))),
        ("OSCORE", "RFC 8613 §2", _get((9, b"\x09"))),
        ("Q-Block1", "RFC 9177 §4.1", _get((19, b"\x06"))),
        ("two Accept", "RFC 7252 §5.4.5", _get((ACCEPT, b""), (ACCEPT, b""))),
        ("two Uri-Host", "RFC 7252 §5.4.5", _get((URI_HOST, b"a"), (URI_HOST, b"b"))),
        ("two Uri-Port", "RFC 7252 §5.4.5", _get((URI_PORT, b"\1"), (URI_PORT, b"\1"))),
        ("two Block2", "RFC 7252 §5.4.5", _get((BLOCK2, b"\6"), (BLOCK2, b"\6"))),
        ("an empty Uri-Host", "RFC 7252 §5.4.3", _get((URI_HOST, b""))),
        ("a Uri-Host of 256 bytes", "RFC 7252 §5.4.3", _get((URI_HOST, b"h" * 256))),
        ("a Uri-Port of 3 bytes", "RFC 7252 §5.4.3", _get((URI_PORT, b"\1\1\1"))),
        ("a Uri-Path of 256 bytes", "RFC 7252 §5.4.3", _get((URI_PATH, b"p" * 256))),
        ("a Uri-Query of 256 bytes", "RFC 7252 §5.4.3", _get((URI_QUERY, b"q" * 256))),
        ("an Accept of 3 bytes", "RFC 7252 §5.4.3", _get((ACCEPT, b"\0\0\0"))),
        ("a Block2 of 4 bytes", "RFC 7252 §5.4.3", _get((BLOCK2, b"\0\0\0\6"))),
        ("Block1 on GET", "RFC 7252 §5.4", _get((BLOCK1, block(0, more=True)))),
        (
            "Block1 on DELETE",
            "RFC 7252 §5.4",
            encoded(DELETE, (BLOCK1, block(0)), path="echo"),
        ),
        (
            "an If-None-Match with a value",
            "RFC 7252 §5.4.3",
            encoded(PUT, (IF_NONE_MATCH, b"1"), path="slot"),
        ),
        (
            "an If-Match of 9 bytes",
            "RFC 7252 §5.4.3",
            encoded(PUT, (IF_MATCH, bytes(9)), path="slot"),
        ),
        (
            "a Block1 of 4 bytes",
            "RFC 7252 §5.4.3",
            encoded(POST, (BLOCK1, bytes(4)), path="echo"),
        ),
    )
)

#: Elective options that are not understood or malformed are ignored (§5.4.1, §5.4.3, §5.4.5).
IGNORED = tuple(
    _row(name, source, _get(*options), "2.05")
    for name, source, options in (
        ("an elective option", "RFC 7252 §5.4.1", [(ELECTIVE, b"?")]),
        ("Content-Format on GET", "RFC 7252 §5.4", [(CONTENT_FORMAT, b"\x32")]),
        ("two Content-Format", "RFC 7252 §5.4.5", [(CONTENT_FORMAT, b""), (CONTENT_FORMAT, b"2")]),
        ("a Content-Format of 3 bytes", "RFC 7252 §5.4.3", [(CONTENT_FORMAT, bytes(3))]),
        ("Location-Path in a request", "RFC 7252 §5.4", [(LOCATION_PATH, b"\xff")]),
        ("Max-Age in a request", "RFC 7252 §5.4", [(MAX_AGE, b"\x05")]),
        ("an empty ETag", "RFC 7252 §5.4.3", [(ETAG, b"")]),
        ("an ETag of 9 bytes", "RFC 7252 §5.4.3", [(ETAG, bytes(9))]),
        ("a Size1 of 5 bytes", "RFC 7252 §5.4.3", [(SIZE1, b"\xff" * 5)]),
        ("an Observe of 4 bytes", "RFC 7252 §5.4.3", [(OBSERVE, bytes(4))]),
        ("Observe 2", "RFC 7641 §2", [(OBSERVE, b"\x02")]),
        ("Observe where nothing can be observed", "RFC 7641 §4.1", [(OBSERVE, b"")]),
        ("Observe 1 without an observation", "RFC 7641 §4.1", [(OBSERVE, b"\x01")]),
        ("two Observe", "RFC 7252 §5.4.5", [(OBSERVE, b"\x01"), (OBSERVE, b"")]),
        ("Echo that the server did not send", "RFC 9175 §2.3", [(ECHO, b"unasked")]),
        ("an Echo of 41 bytes", "RFC 9175 §2.2.1", [(ECHO, bytes(41))]),
        ("Request-Tag", "RFC 9175 §3.3", [(REQUEST_TAG, b"a"), (REQUEST_TAG, b"b")]),
        ("Hop-Limit 1", "RFC 8768 §3", [(HOP_LIMIT, b"\x01")]),
        ("two Hop-Limit", "RFC 7252 §5.4.5", [(HOP_LIMIT, b"\x01"), (HOP_LIMIT, b"\x00")]),
        ("a Uri-Host of another name", "RFC 7252 §5.10.1", [(URI_HOST, b"elsewhere.example")]),
        ("a Uri-Port of another server", "RFC 7252 §5.10.1", [(URI_PORT, b"\x16\x33")]),
        ("an unknown query", "RFC 7252 §5.10.1", [(URI_QUERY, b""), (URI_QUERY, b"a&=\0")]),
        ("an empty last segment", "protocol §2.5", [(URI_PATH, b"")]),
        ("Accept of what there is", "RFC 7252 §5.10.4", [(ACCEPT, b"")]),
    )
)

OPTIONS = (
    *NOT_UNDERSTOOD,
    *IGNORED,
    _row("a path that is not UTF-8", "RFC 7252 §3.2", encoded(GET, (URI_PATH, b"\xff")), "4.00"),
    _row("a query that is not UTF-8", "RFC 7252 §3.2", _get((URI_QUERY, b"\xc3")), "4.00"),
    _row("a host that is not UTF-8", "RFC 7252 §3.2", _get((URI_HOST, b"\xed\xa0\x80")), "4.00"),
    _row("the segment .", "RFC 7252 §5.10.1", _get((URI_PATH, b".")), "4.00"),
    _row("the segment ..", "RFC 7252 §5.10.1", _get((URI_PATH, b".."), (URI_PATH, b"x")), "4.00"),
    _row(
        "an empty segment within", "RFC 7252 §5.10.1", encoded(GET, (11, b""), (11, b"e")), "4.04"
    ),
    _row("no path", "RFC 7252 §5.10.1", encoded(GET), "4.04"),
    _row("one empty segment", "RFC 7252 §5.10.1", encoded(GET, (URI_PATH, b"")), "4.04"),
    _row("Proxy-Uri", "RFC 7252 §5.10.2", _get((PROXY_URI, b"coap://else.example/")), "5.05"),
    _row("Proxy-Uri, not UTF-8", "RFC 7252 §5.10.2", _get((PROXY_URI, b"\xff")), "5.05"),
    _row("Proxy-Uri alone", "RFC 7252 §5.10.2", encoded(GET, (PROXY_URI, b"coap://e/")), "5.05"),
    _row("Proxy-Scheme", "RFC 7252 §5.10.2", _get((PROXY_SCHEME, b"coap")), "5.05"),
    _row("Hop-Limit 0", "RFC 8768 §3", _get((HOP_LIMIT, b"\x00")), "4.00"),
    _row("an empty Hop-Limit", "RFC 8768 §3", _get((HOP_LIMIT, b"")), "4.00"),
    _row("Hop-Limit 256", "RFC 8768 §3", _get((HOP_LIMIT, b"\x01\x00")), "4.00"),
    _row("Accept of something else", "RFC 7252 §5.10.4", _get((ACCEPT, uint(60))), "4.06"),
    _row("Accept of an unknown format", "RFC 7252 §5.10.4", _get((ACCEPT, b"\xff\xff")), "4.06"),
    _row("a payload on GET", "RFC 7252 §5.5", encoded(GET, path="echo", payload=b"x"), "2.05"),
    _row(
        "No-Response to success",
        "RFC 7967 §2",
        encoded(POST, (NO_RESPONSE, b"\x02"), path="echo"),
        "0.00",
        NOTHING,
    ),
    _row(
        "No-Response to an error",
        "RFC 7967 §2",
        encoded(POST, (NO_RESPONSE, b"\x08"), path="nowhere"),
        "0.00",
        NOTHING,
    ),
    _row(
        "No-Response to what does not happen",
        "RFC 7967 §2",
        encoded(POST, (NO_RESPONSE, b"\x18"), path="echo"),
        "2.04",
    ),
)

# -- methods, ETag and preconditions (RFC 7252 §5.8, §5.10.6, §5.10.8; RFC 8132) -------------------

METHODS = (
    _row("an unknown method 0.08", "RFC 7252 §5.8", encoded(8, path="echo"), "4.05"),
    _row("an unknown method 0.31", "RFC 7252 §5.8", encoded(31, path="echo"), "4.05"),
    _row("a method that is not there", "RFC 7252 §5.9.2.6", encoded(PUT, path="echo"), "4.05"),
    _row("FETCH that is not there", "RFC 8132 §2", encoded(FETCH, path="echo"), "4.05"),
    _row("PATCH that is not there", "RFC 8132 §3", encoded(PATCH, path="echo"), "4.05"),
    _row("iPATCH that is not there", "RFC 8132 §3", encoded(IPATCH, path="echo"), "4.05"),
    _row("an unknown method of nothing", "RFC 7252 §5.8", encoded(31, path="nowhere"), "4.04"),
    _row("a GET", "RFC 7252 §5.10.6", _get(), "2.05", has={ETAG: None}),
    _row(
        "another ETag",
        "RFC 7252 §5.10.6.2",
        encoded(GET, (ETAG, b"other"), path="slot"),
        "2.05",
        has={ETAG: None},
    ),
    _row(
        "If-Match of another",
        "RFC 7252 §5.10.8.1",
        encoded(PUT, (IF_MATCH, b"other"), path="slot"),
        "4.12",
    ),
    _row(
        "If-Match of anything",
        "RFC 7252 §5.10.8.1",
        encoded(PUT, (IF_MATCH, b""), path="slot", payload=SLOT),
        "2.04",
    ),
    _row(
        "If-None-Match",
        "RFC 7252 §5.10.8.2",
        encoded(PUT, (IF_NONE_MATCH, b""), path="slot"),
        "4.12",
    ),
)

# -- blocks (RFC 7959) -----------------------------------------------------------------------------

_FIRST = _post_block(0, 1024, more=True)
BLOCKS = (
    _row("Block1: the first", "RFC 7959 §2.3", _FIRST, "2.31", has={BLOCK1: block(0, more=True)}),
    _row(
        "Block1: the last",
        "RFC 7959 §2.3",
        _post_block(1, 3, more=False),
        "2.04",
        before=(_FIRST,),
        has={BLOCK1: block(1)},
    ),
    _row(
        "Block1: only one", "RFC 7959 §2.3", _post_block(0, 9, more=False), "2.04", has={27: b"\6"}
    ),
    _row(
        "Block1: 0, then 2",
        "RFC 7959 §2.9.2",
        _post_block(2, 1024, more=True),
        "4.08",
        before=(_FIRST,),
    ),
    _row(
        "Block1: 0, then the last is 2",
        "RFC 7959 §2.9.2",
        _post_block(2, 9, more=False),
        "4.08",
        before=(_FIRST,),
    ),
    _row(
        "Block1: 0, 1, 1",
        "RFC 7959 §2.9.2",
        _post_block(1, 5, more=False),
        "4.08",
        before=(_FIRST, _post_block(1, 1024, more=True)),
    ),
    _row("Block1: not the first", "RFC 7959 §2.9.2", _post_block(3, 1024, more=True), "4.08"),
    _row(
        "Block1: another Content-Format",
        "RFC 7959 §2.9.2",
        _post_block(1, 5, (CONTENT_FORMAT, uint(60)), more=False),
        "4.08",
        before=(_FIRST,),
    ),
    _row(
        "Block1: another Request-Tag",
        "RFC 9175 §3.3",
        _post_block(1, 5, (REQUEST_TAG, b"b"), more=False),
        "4.08",
        before=(_post_block(0, 1024, (REQUEST_TAG, b"a"), more=True),),
    ),
    _row(
        "Block1: the same Request-Tag",
        "RFC 9175 §3.3",
        _post_block(1, 5, (REQUEST_TAG, b"a"), more=False),
        "2.04",
        before=(
            _post_block(0, 1024, (REQUEST_TAG, b"a"), more=True),
            _post_block(0, 1024, (REQUEST_TAG, b"b"), more=True),
        ),
    ),
    _row(
        "Block1: smaller blocks from the second on",
        "RFC 7959 §2.3",
        _post_block(64, 5, more=False, szx=0),
        "2.04",
        before=(_FIRST,),
    ),
    _row(
        "Block1: from the beginning again",
        "RFC 7959 §2.5",
        _post_block(1, 5, more=False),
        "2.04",
        before=(_FIRST, _post_block(1, 1024, more=True), _FIRST),
    ),
    _row("Block1: short, with more", "RFC 7959 §2.3", _post_block(0, 1000, more=True), "4.00"),
    _row("Block1: empty, with more", "RFC 7959 §2.3", _post_block(0, 0, more=True), "4.00"),
    _row("Block1: too long", "RFC 7959 §2.3", _post_block(0, 40, more=True, szx=0), "4.00"),
    _row(
        "Block1: the last too long", "RFC 7959 §2.3", _post_block(0, 17, more=False, szx=0), "4.00"
    ),
    _row("Block1: SZX 7", "RFC 7959 §2.2", _post_block(0, 1024, more=True, szx=7), "4.00"),
    _row("Block1: SZX 7, only one", "RFC 7959 §2.2", _post_block(0, 9, more=False, szx=7), "4.00"),
    _row(
        "Block1: beyond the longest body",
        "RFC 7959 §2.9.3",
        _post_block(1 << 19, 1024, more=True),
        "4.13",
        has={SIZE1: uint(MOST_BODY)},
    ),
    _row(
        "Size1 beyond the longest body",
        "RFC 7959 §4",
        _post_block(0, 1024, (SIZE1, uint(MOST_BODY + 1)), more=True),
        "4.13",
        has={SIZE1: uint(MOST_BODY)},
    ),
    _row("Block2: none", "RFC 7959 §2.4", encoded(GET, path="big"), "2.05", has={ETAG: None}),
    _row(
        "Block2: the first",
        "RFC 7959 §2.4",
        _get_block(0),
        "2.05",
        has={BLOCK2: block(0, more=True), ETAG: None},
    ),
    _row(
        "Block2: a small first",
        "RFC 7959 §2.4",
        _get_block(0, szx=0),
        "2.05",
        has={BLOCK2: block(0, more=True, szx=0)},
    ),
    _row(
        "Block2: the last, without the others",
        "RFC 7959 §2.4",
        _get_block(2),
        "2.05",
        has={BLOCK2: block(2), ETAG: None},
    ),
    _row(
        "Block2: beyond the end",
        "RFC 7959 §2.4",
        _get_block(3),
        "4.00",
        before=(_get_block(0),),
    ),
    _row("Block2: beyond the end at once", "RFC 7959 §2.4", _get_block(3), "4.00"),
    _row("Block2: beyond a short answer", "RFC 7959 §2.4", _get_block(1, path="echo"), "4.00"),
    _row("Block2: SZX 7", "RFC 7959 §2.2", _get_block(0, szx=7), "4.00"),
    _row(
        "Block2: SZX 7 of a short answer",
        "RFC 7959 §2.2",
        _get_block(0, szx=7, path="echo"),
        "4.00",
    ),
    _row(
        "Block2: a later one of an error",
        "RFC 7959 §2.4",
        _get_block(1, path="nowhere"),
        "4.04",
    ),
    _row(
        "Block2: a later one of a POST",
        "RFC 7959 §3.3",
        encoded(POST, (BLOCK2, block(1)), path="echo"),
        "4.08",
    ),
    _row(
        "Size2 in a request",
        "RFC 7959 §4",
        encoded(GET, (SIZE2, b""), path="big"),
        "2.05",
        has={SIZE2: uint(len(BIG))},
    ),
    _row(
        "Size2 of a short answer",
        "RFC 7959 §4",
        encoded(GET, (SIZE2, b""), path="slot"),
        "2.05",
        has={SIZE2: uint(len(SLOT))},
    ),
)

#: All rows by their names.
ROWS = {f"{row.source}: {row.name}": row for row in (*MESSAGES, *OPTIONS, *METHODS, *BLOCKS)}
