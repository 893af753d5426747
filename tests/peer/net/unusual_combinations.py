"""Unusual messages with two peculiarities at once, and values at their bounds.

The notation is that of `unusual_messages`. Where two sections ask for different reactions, the
order of the checks decides (docs/protocol.md, section 2.5).
"""

from tests.kit.encoded import (
    ACCEPT,
    ACK,
    BLOCK1,
    BLOCK2,
    CONTENT_FORMAT,
    DELETE,
    ECHO,
    ETAG,
    FETCH,
    GET,
    HOP_LIMIT,
    IF_MATCH,
    IF_NONE_MATCH,
    NO_RESPONSE,
    OBSERVE,
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
from tests.peer.net.unusual_messages import (
    CRITICAL,
    ELECTIVE,
    GET_ECHO,
    MOST_BODY,
    NOTHING,
    RESET,
    SLOT,
    Row,
    _get,
    _get_block,
    _hex,
    _post_block,
    _row,
)

_EDHOC, _UNSAFE_ELECTIVE = 21, 2  # RFC 9668; an unregistered number with the bit "unsafe"

_FORMAT_ERRORS = tuple(
    _row(name, source, message, RESET, NOTHING)
    for name, source, message in (
        ("token length 9 and code class 7", "RFC 7252 §3", _hex("49e1", bytes(9))),
        ("token length 9 and no code", "RFC 7252 §3", _hex("4900", bytes(9))),
        ("token length 12 before a path", "RFC 7252 §3", _hex("4c01", bytes(12) + b"\xb4echo")),
        ("token length 13 without its byte", "RFC 8974 §2.1", _hex("4d01")),
        ("a class of responses that is reserved", "RFC 7252 §12.1.2", _hex("4068")),
        (
            "a critical option and a payload marker alone",
            "RFC 7252 §3",
            _get((CRITICAL, b"")) + b"\xff",
        ),
        ("a hundred options", "protocol §2.5", _get(*[(ELECTIVE, b"")] * 100)),
        ("one option of 3000 bytes", "protocol §2.5", _get((ELECTIVE, bytes(3000)))),
    )
)

_MESSAGES = (
    *_FORMAT_ERRORS,
    *(
        _row(f"version {version}, {name}", "RFC 7252 §3", bytes([version << 6 | low]) + rest, "-")
        for version in (0, 2, 3)
        for name, low, rest in (
            ("an empty message", 0, bytes(3)),
            ("with a format error", 9, b"\x01" + bytes(11)),
        )
    ),
    _row("2.31 to nothing", "RFC 7252 §4.2", _hex("415f", b"t"), RESET),
    _row("4.29 to nothing", "RFC 7252 §4.2, RFC 8516", _hex("419d", b"t"), RESET),
    _row("5.08 to nothing", "RFC 7252 §4.2, RFC 8768", _hex("40a8"), RESET),
    _row("a payload of FF", "RFC 7252 §3", GET_ECHO + b"\xff\xff", "2.05"),
    _row("a value of FF", "RFC 7252 §3", _get((ELECTIVE, b"\xff\xff")), "2.05"),
    _row("a token of 8 bytes", "RFC 7252 §3", encoded(GET, path="echo", token=bytes(8)), "2.05"),
    *(
        Row(name, "RFC 7252 §4.2", message, {ACK: NOTHING, RST: NOTHING})
        for name, message in (
            ("token length 15", _hex("4f00")),
            ("an empty message with a payload", _hex("4000", b"\xffx")),
            ("a request with a critical option", _get((CRITICAL, b""))),
        )
    ),
)

_REFUSED = tuple(
    _row(name, source, message, "4.02", RESET)
    for name, source, message in (
        ("a critical option twice", "RFC 7252 §5.4.5", _get((CRITICAL, b""), (CRITICAL, b""))),
        (
            "a critical option and an elective one",
            "RFC 7252 §5.4.1",
            _get((CRITICAL, b""), (2, b"")),
        ),
        (
            "a critical option where there is nothing",
            "protocol §2.5",
            encoded(GET, (CRITICAL, b""), path="nowhere"),
        ),
        (
            "a critical option and a method that is not there",
            "protocol §2.5",
            encoded(DELETE, (CRITICAL, b""), path="echo"),
        ),
        (
            "a critical option and Observe",
            "RFC 7252 §5.4.1",
            encoded(GET, (CRITICAL, b""), (OBSERVE, b""), path="value"),
        ),
        ("the highest option number", "RFC 7252 §5.4.1", _get((65_535, b""))),
        ("EDHOC", "RFC 9668 §3.1", _get((_EDHOC, b""))),
        ("an empty OSCORE option", "RFC 8613 §2", _get((9, b""))),
        ("Q-Block2", "RFC 9177 §4.1", _get((31, b"\x06"))),
        (
            "If-Match and Block2 where the former is not handled",
            "RFC 7252 §5.4.1",
            _get((IF_MATCH, b""), (BLOCK2, block(7))),
        ),
        (
            "two Block1",
            "RFC 7252 §5.4.5",
            encoded(POST, (BLOCK1, b"\6"), (BLOCK1, b"\6"), path="echo"),
        ),
        (
            "two If-None-Match",
            "RFC 7252 §5.4.5",
            encoded(PUT, (IF_NONE_MATCH, b""), (IF_NONE_MATCH, b""), path="slot"),
        ),
    )
)

_IGNORED = tuple(
    _row(name, source, _get(*options), "2.05")
    for name, source, options in (
        ("an elective, unsafe option", "RFC 7252 §5.4.2", [(_UNSAFE_ELECTIVE, b"x")]),
        ("an elective option three times", "RFC 7252 §5.4.5", [(ELECTIVE, b"a")] * 3),
        ("a Uri-Host of 255 bytes", "RFC 7252 §5.10.1", [(URI_HOST, b"h" * 255)]),
        ("a Uri-Host that is an address", "RFC 7252 §5.10.1", [(URI_HOST, b"[fe80::1%25eth0]")]),
        ("a Uri-Port of 0", "RFC 7252 §5.10.1", [(URI_PORT, b"")]),
        ("a Uri-Port with a leading zero", "RFC 7252 §3.2", [(URI_PORT, b"\0\x50")]),
        ("a Uri-Query of 255 bytes", "RFC 7252 §5.10.1", [(URI_QUERY, b"q" * 255)]),
        ("an Accept with leading zeros", "RFC 7252 §3.2", [(ACCEPT, b"\0\0")]),
        ("the largest Size1 on GET", "RFC 7959 §4", [(SIZE1, b"\xff" * 4)]),
        ("a Size2 of 5 bytes", "RFC 7252 §5.4.3", [(SIZE2, bytes(5))]),
        ("ten ETags", "RFC 7252 §5.10.6.2", [(ETAG, bytes([one])) for one in range(10)]),
        ("an empty ETag and one of 9 bytes", "RFC 7252 §5.4.3", [(ETAG, b""), (ETAG, bytes(9))]),
        ("the largest Observe", "RFC 7641 §2", [(OBSERVE, b"\xff" * 3)]),
        ("an Echo of 40 bytes", "RFC 9175 §2.2.1", [(ECHO, bytes(40))]),
        ("two Echo", "RFC 7252 §5.4.5", [(ECHO, b"a"), (ECHO, b"b")]),
        ("Hop-Limit 255", "RFC 8768 §3", [(HOP_LIMIT, b"\xff")]),
        ("a Request-Tag of 9 bytes", "RFC 9175 §3.2.1", [(REQUEST_TAG, bytes(9))]),
        ("an empty No-Response", "RFC 7967 §2", [(NO_RESPONSE, b"")]),
        ("a No-Response of 2 bytes", "RFC 7252 §5.4.3", [(NO_RESPONSE, b"\0\x02")]),
        ("two No-Response", "RFC 7252 §5.4.5", [(NO_RESPONSE, b"\x08"), (NO_RESPONSE, b"\x02")]),
    )
)


def _path(*segments: bytes) -> bytes:
    return encoded(GET, *((URI_PATH, segment) for segment in segments))


_OPTIONS = (
    *_REFUSED,
    *_IGNORED,
    _row("a Uri-Path of 255 bytes", "RFC 7252 §5.10.1", _path(b"p" * 255), "4.04"),
    _row("a slash in a segment", "RFC 7252 §6.4", _path(b"/echo"), "4.04"),
    _row("a zero byte in a segment", "RFC 7252 §5.10.1", _path(b"echo\0"), "4.04"),
    _row("a path in upper case", "RFC 7252 §6.1", _path(b"ECHO"), "4.04"),
    _row("a percent sign in a segment", "RFC 7252 §6.4", _path(b"%65cho"), "4.04"),
    _row("two empty last segments", "protocol §2.5", _path(b"echo", b"", b""), "4.04"),
    _row("UTF-8 in a longer form", "RFC 3629 §3", _path(b"\xc0\xafecho"), "4.00"),
    _row(
        "a proxy and a critical option",
        "RFC 7252 §5.10.2",
        _get((PROXY_SCHEME, b"coap"), (URI_HOST, b"a"), (CRITICAL, b"")),
        "5.05",
    ),
    _row("an empty Proxy-Uri", "RFC 7252 §5.10.2", _get((PROXY_URI, b"")), "5.05"),
    _row(
        "Hop-Limit 0 of nothing",
        "protocol §2.5",
        encoded(GET, (HOP_LIMIT, b"\0"), path="no"),
        "4.00",
    ),
    _row("No-Response to everything", "RFC 7967 §2", _get((NO_RESPONSE, b"\x1a")), "0.00", NOTHING),
    _row(
        "No-Response and a critical option",
        "RFC 7967 §2, RFC 7252 §5.4.1",
        _get((NO_RESPONSE, b"\x1a"), (CRITICAL, b"")),
        "0.00",
        RESET,
    ),
    _row(
        "both preconditions",
        "RFC 7252 §5.10.8",
        encoded(PUT, (IF_NONE_MATCH, b""), (IF_MATCH, b""), path="slot"),
        "4.12",
    ),
    _row(
        "nine tags that do not match, and any",
        "RFC 7252 §5.10.8.1",
        encoded(PUT, *[(IF_MATCH, bytes([one])) for one in range(9)], (IF_MATCH, b""), path="slot"),
        "2.04",
    ),
    _row(
        "a FETCH that would observe",
        "RFC 8132 §2.4",
        encoded(FETCH, (OBSERVE, b""), path="value"),
        "4.05",
    ),
)

_FIRST = _post_block(0, 1024, more=True)
_SMALL = tuple(_post_block(number, 256, more=True, szx=4) for number in range(2))

_BLOCKS = (
    _row("Block1: only the last", "RFC 7959 §2.9.2", _post_block(3, 9, more=False), "4.08"),
    _row(
        "Block1: larger blocks later, in line",
        "RFC 7959 §2.3",
        _post_block(1, 9, more=False, szx=5),
        "2.04",
        before=_SMALL,
    ),
    _row(
        "Block1: larger blocks later, not in line",
        "RFC 7959 §2.3",
        _post_block(1, 1024, more=True),
        "4.08",
        before=_SMALL[:1],
    ),
    _row(
        "Block1: smaller blocks later with the old number",
        "RFC 7959 §2.3",
        _post_block(1, 16, more=True, szx=0),
        "4.08",
        before=(_FIRST,),
    ),
    _row(
        "Block1: an empty last one",
        "RFC 7959 §2.3",
        encoded(POST, (BLOCK1, block(1)), path="echo"),
        "2.04",
        before=(_FIRST,),
    ),
    _row(
        "Block1: leading zeros",
        "RFC 7252 §3.2",
        encoded(POST, (BLOCK1, b"\0\0\6"), path="echo", payload=b"x"),
        "2.04",
    ),
    _row(
        "Block1: another query",
        "RFC 7959 §2.9.2",
        _post_block(1, 5, (URI_QUERY, b"a"), more=False),
        "4.08",
        before=(_FIRST,),
    ),
    _row(
        "Block1: Content-Format with the first one alone",
        "RFC 7959 §2.3",
        _post_block(1, 5, more=False),
        "4.08",
        before=(_post_block(0, 1024, (CONTENT_FORMAT, b""), more=True),),
    ),
    _row(
        "Block1: an empty Request-Tag is a tag",
        "RFC 9175 §3.2.2",
        _post_block(1, 5, more=False),
        "4.08",
        before=(_post_block(0, 1024, (REQUEST_TAG, b""), more=True),),
    ),
    _row(
        "Block1: Size1 with the first one alone",
        "RFC 7959 §4",
        _post_block(1, 5, more=False),
        "2.04",
        before=(_post_block(0, 1024, (SIZE1, uint(1029)), more=True),),
    ),
    _row(
        "Block1: where there is nothing",
        "protocol §2.5",
        encoded(POST, (BLOCK1, block(0, more=True)), path="nowhere", payload=bytes(1024)),
        "4.04",
    ),
    _row(
        "Block1: If-None-Match with each one",
        "RFC 7252 §5.10.8.2",
        encoded(PUT, (IF_NONE_MATCH, b""), (BLOCK1, block(1)), path="slot", payload=b"x"),
        "4.12",
        before=(
            encoded(
                PUT,
                (IF_NONE_MATCH, b""),
                (BLOCK1, block(0, more=True)),
                path="slot",
                payload=bytes(1024),
            ),
        ),
    ),
    _row(
        "Block1 and a later Block2",
        "RFC 7959 §3.3",
        encoded(
            POST,
            (BLOCK1, block(0, more=True)),
            (BLOCK2, block(1)),
            path="echo",
            payload=bytes(1024),
        ),
        "2.31",
    ),
    _row(
        "Size1 alone, too large",
        "RFC 7959 §4",
        encoded(POST, (SIZE1, uint(MOST_BODY + 1)), path="echo"),
        "4.13",
    ),
    _row("Block2: the highest number", "RFC 7959 §2.4", _get_block((1 << 20) - 1), "4.00"),
    _row(
        "Block2: with M set",
        "RFC 7959 §2.2",
        encoded(GET, (BLOCK2, block(0, more=True)), path="big"),
        "2.05",
        has={BLOCK2: block(0, more=True)},
    ),
    _row(
        "Block2: smaller blocks later",
        "RFC 7959 §2.4",
        _get_block(4, szx=5),
        "2.05",
        before=(_get_block(0), _get_block(1)),
        has={BLOCK2: block(4, szx=5)},
    ),
    _row(
        "Block2: larger blocks later",
        "RFC 7959 §2.4",
        _get_block(1),
        "2.05",
        before=(_get_block(0, szx=2), _get_block(1, szx=2)),
        has={BLOCK2: block(1, more=True)},
    ),
    _row(
        "Block2: a later one with another ETag",
        "RFC 7959 §2.4",
        _get_block(1, (ETAG, b"other")),
        "2.05",
        before=(_get_block(0),),
    ),
    _row(
        "Block2: a later one of an answer without content",
        "RFC 7959 §3.3",
        encoded(PUT, (BLOCK2, block(1)), path="slot", payload=SLOT),
        "4.08",
    ),
)

#: All rows by their names.
COMBINATIONS = {f"{row.source}: {row.name}": row for row in (*_MESSAGES, *_OPTIONS, *_BLOCKS)}
