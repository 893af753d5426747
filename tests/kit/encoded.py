"""CoAP messages as bytes, valid or not: an encoder that checks nothing.

The type and the Message ID are set when a message is sent, so that one encoded message can be sent
as CON and as NON.
"""

CON, NON, ACK, RST = range(4)
GET, POST, PUT, DELETE, FETCH, PATCH, IPATCH = range(1, 8)
IF_MATCH, URI_HOST, ETAG, IF_NONE_MATCH, OBSERVE, URI_PORT = 1, 3, 4, 5, 6, 7
LOCATION_PATH, URI_PATH, CONTENT_FORMAT, MAX_AGE, URI_QUERY = 8, 11, 12, 14, 15
HOP_LIMIT, ACCEPT, BLOCK2, BLOCK1, SIZE2 = 16, 17, 23, 27, 28
PROXY_URI, PROXY_SCHEME, SIZE1, ECHO, NO_RESPONSE, REQUEST_TAG = 35, 39, 60, 252, 258, 292

Option = tuple[int, bytes]


def encoded(
    code: int, *options: Option, path: str = "", token: bytes = b"", payload: bytes = b""
) -> bytes:
    """A message of type 0 with Message ID 0. Each option has its number and its value."""
    segments = [(URI_PATH, part.encode()) for part in path.split("/") if part]
    made, last = bytes([0x40 | len(token), code, 0, 0]) + token, 0
    for number, value in sorted([*segments, *options], key=lambda option: option[0]):
        delta, more_delta = _extended(number - last)
        length, more_length = _extended(len(value))
        made += bytes([delta << 4 | length]) + more_delta + more_length + value
        last = number
    return made + (b"\xff" + payload if payload else b"")


def sent_as(message: bytes, kind: int, number: int) -> bytes:
    """The message with this type and this Message ID."""
    return bytes([message[0] & 0xCF | kind << 4, message[1]]) + number.to_bytes(2) + message[4:]


def uint(value: int) -> bytes:
    """A number in as few bytes as possible (RFC 7252 §3.2)."""
    return value.to_bytes((value.bit_length() + 7) // 8)


def block(number: int, *, more: bool = False, szx: int = 6) -> bytes:
    """The value of a Block option (RFC 7959 §2.2)."""
    return uint(number << 4 | more << 3 | szx)


def _extended(value: int) -> tuple[int, bytes]:
    if value < 13:
        return value, b""
    if value < 269:
        return 13, bytes([value - 13])
    return 14, (value - 269).to_bytes(2)
