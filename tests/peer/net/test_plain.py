"""Plain requests: which bytes they are, and the bytes of their answers."""

import aiocoap
from hypothesis import assume, given
from hypothesis import strategies as st

from peer.limits import (
    DEFAULT_LIMITS,
    ENCODED_ANSWER_BYTES,
    ENCODED_ANSWERS,
    PARSED_OPTIONS,
    PARSED_OPTIONS_BYTES,
)
from peer.net.aiocoap_seam.parsing import decode_untrusted
from peer.net.outline import outline_untrusted
from peer.net.plain import Answer, AnswerEncoder, PlainParser
from peer.net.request_options import check_options
from tests.kit.encoded import (
    ACCEPT,
    ACK,
    CON,
    CONTENT_FORMAT,
    DELETE,
    FETCH,
    GET,
    NON,
    OBSERVE,
    POST,
    PUT,
    RST,
    URI_HOST,
    URI_PATH,
    URI_PORT,
    URI_QUERY,
    encoded,
    sent_as,
)

PARSER, ENCODER = PlainParser(DEFAULT_LIMITS), AnswerEncoder()

_NUMBERS = st.sampled_from([URI_PATH, URI_PATH, URI_HOST, URI_PORT, URI_QUERY])
_NUMBERS |= st.sampled_from([ACCEPT, CONTENT_FORMAT]) | st.integers(0, 300)
_ONCE = (URI_HOST, URI_PORT, ACCEPT)
_ONCE_IN_WRITE = (URI_HOST, URI_PORT, CONTENT_FORMAT)
_OPTIONS = st.lists(st.tuples(_NUMBERS, st.binary(max_size=4) | st.just(b"hello")), max_size=5)
MESSAGES = st.binary(max_size=40) | st.builds(
    lambda options, token, payload, kind, more: (
        sent_as(encoded(GET, *options, token=token, payload=payload), kind, 0x1234) + more
    ),
    _OPTIONS,
    st.binary(max_size=9),
    st.sampled_from([b"", b"", b"body"]),
    st.sampled_from([CON, NON, CON, NON, ACK, RST]),
    st.sampled_from([b"", b"", b"\xff", b"\xd0", b"\xb5hel"]),
)


WRITE_MESSAGES = st.binary(max_size=40) | st.builds(
    lambda method, options, token, payload, kind, more: (
        sent_as(encoded(method, *options, token=token, payload=payload), kind, 0x1234) + more
    ),
    st.sampled_from([PUT, POST, DELETE, PUT, POST, GET, FETCH]),
    _OPTIONS,
    st.binary(max_size=9),
    st.sampled_from([b"", b"body", b"\xff", b"\xff\xb5hello"]),
    st.sampled_from([CON, NON, CON, NON, ACK, RST]),
    st.sampled_from([b"", b"", b"\xff", b"\xd0", b"\xb5hel"]),
)


def agrees(message: bytes) -> bool:
    """Compare a plain request with what aiocoap reads; return whether it is plain."""
    found = PARSER.parse_untrusted(message)
    if found is None:
        return False
    decoded = aiocoap.Message.decode(message)
    assert (decoded.code, decoded.payload) == (aiocoap.GET, b"")
    assert decoded.mtype in (CON, NON)
    assert len(decoded.token) <= 8
    assert (decoded.opt.uri_path, decoded.opt.uri_query) == (found.path, found.query)
    assert decoded.opt.accept == found.accept
    numbers = [int(option.number) for option in decoded.opt.option_list()]
    assert set(numbers) <= {URI_PATH, URI_QUERY, *_ONCE}
    assert all(numbers.count(one) <= 1 for one in _ONCE)
    assert_valid(message)
    return True


@given(MESSAGES)
def test_any_bytes_are_not_plain_or_what_aiocoap_reads(message: bytes) -> None:
    agrees(message)


def assert_valid(message: bytes) -> None:
    """No site refuses the options of the message for themselves."""
    outline = outline_untrusted(message, DEFAULT_LIMITS)
    check_options(decode_untrusted(message, outline, None))


def agrees_about_write(message: bytes) -> bool:
    """Compare a plain write with what aiocoap reads; return whether it is plain."""
    found = PARSER.parse_write_untrusted(message)
    assert found is None or PARSER.parse_untrusted(message) is None
    if found is None:
        return False
    decoded = aiocoap.Message.decode(message)
    assert (str(decoded.code), decoded.payload) == (found.method, found.write.payload)
    assert found.method in ("PUT", "POST", "DELETE")
    assert decoded.mtype in (CON, NON)
    assert len(decoded.token) <= 8
    assert (decoded.opt.uri_path, decoded.opt.uri_query) == (found.path, found.write.query)
    numbers = [int(option.number) for option in decoded.opt.option_list()]
    assert set(numbers) <= {URI_PATH, URI_QUERY, *_ONCE_IN_WRITE}
    assert all(numbers.count(one) <= 1 for one in _ONCE_IN_WRITE)
    assert_valid(message)
    assert decoded.opt.content_format == found.write.content_format
    return True


@given(WRITE_MESSAGES)
def test_any_bytes_are_no_plain_write_or_what_aiocoap_reads(message: bytes) -> None:
    agrees_about_write(message)


@given(
    st.sampled_from([PUT, POST, DELETE]),
    st.lists(st.text(max_size=8), max_size=4),
    st.lists(st.text(max_size=8), max_size=4),
    st.none() | st.binary(max_size=2),
    st.binary(max_size=30),
    st.sampled_from([CON, NON]),
)
def test_a_plain_write_is_recognised(
    method: int,
    path: list[str],
    query: list[str],
    content_format: bytes | None,
    payload: bytes,
    kind: int,
) -> None:
    assume(method != DELETE or not payload)
    # A byte 0xff that is not the marker is a doubt.
    assume(content_format is None or b"\xff" not in content_format)
    options = [(URI_PATH, one.encode()) for one in path]
    options += [(URI_QUERY, one.encode()) for one in query]
    if content_format is not None:
        options.append((CONTENT_FORMAT, content_format))
    assert agrees_about_write(sent_as(encoded(method, *options, payload=payload), kind, 7))


SINGLES = st.fixed_dictionaries(
    {},
    optional={
        URI_HOST: st.text(min_size=1, max_size=8).map(str.encode),
        URI_PORT: st.binary(max_size=2),
        ACCEPT: st.binary(max_size=2),
    },
)


@given(
    st.lists(st.text(max_size=8), max_size=4),
    st.lists(st.text(max_size=8), max_size=4),
    SINGLES,
    st.binary(max_size=8),
    st.sampled_from([CON, NON]),
)
def test_a_plain_request_is_recognised(
    path: list[str], query: list[str], singles: dict[int, bytes], token: bytes, kind: int
) -> None:
    options = [(URI_PATH, one.encode()) for one in path]
    options += [(URI_QUERY, one.encode()) for one in query]
    message = encoded(GET, *options, *singles.items(), token=token)
    assert agrees(sent_as(message, kind, 7))


def test_what_a_message_means_does_not_depend_on_earlier_ones() -> None:
    """The memory of options is keyed by all of their bytes."""
    hello, other = encoded(GET, path="hello"), encoded(GET, path="hella")
    observed = encoded(GET, (OBSERVE, b""), path="hello")
    for _ in range(2):
        found = [PARSER.parse_untrusted(one) for one in (hello, other, observed)]
        assert [one and one.path for one in found] == [("hello",), ("hella",), None]
    assert PARSER.parse_untrusted(encoded(2, path="hello")) is None


def test_the_memory_of_options_is_bounded() -> None:
    parser = PlainParser(DEFAULT_LIMITS)
    for number in range(3 * PARSED_OPTIONS):
        parser.parse_untrusted(encoded(GET, (URI_QUERY, b"%d" % number)))
        assert len(parser) <= PARSED_OPTIONS
    before = len(parser)
    parser.parse_untrusted(encoded(GET, (URI_QUERY, b"x" * PARSED_OPTIONS_BYTES)))
    assert len(parser) == before, "long options are not remembered"


def test_the_memory_of_answers_is_bounded() -> None:
    encoder, request = AnswerEncoder(), encoded(GET, path="hello")
    for number in range(3 * ENCODED_ANSWERS):
        assert b"%d" % number in encoder.encode(request, Answer(b"%d" % number, 0), None)
        assert len(encoder) <= ENCODED_ANSWERS
    before = len(encoder)
    encoder.encode(request, Answer(bytes(ENCODED_ANSWER_BYTES), 0), None)
    assert len(encoder) == before, "long answers are not remembered"


@given(
    st.binary(max_size=50),
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFF_FFFF),
    st.binary(max_size=8),
    st.sampled_from([CON, NON]),
)
def test_an_answer_is_encoded_as_aiocoap_does(
    payload: bytes, content_format: int, max_age: int, token: bytes, kind: int
) -> None:
    request = sent_as(encoded(GET, path="hello", token=token), kind, 0x1234)
    assume(PARSER.parse_untrusted(request) is not None)
    answer = Answer(payload, content_format, max_age)
    message_id = 0x4321 if kind == NON else None
    found = ENCODER.encode(request, answer, message_id)
    assert ENCODER.encode(request, answer, message_id) == found
    tag = aiocoap.Message.decode(found).opt.etag
    assert tag is not None
    wanted = aiocoap.Message(
        code=aiocoap.CONTENT,
        payload=payload,
        content_format=content_format,
        max_age=max_age,
        etag=tag,
        _mtype=ACK if kind == CON else NON,
        _mid=0x1234 if kind == CON else 0x4321,
        _token=token,
    )
    assert wanted.encode() == found
