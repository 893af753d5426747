"""ETSI's test descriptions for CoAP servers, as steps of a raw client.

`NOT_RUN` names those that do not apply, with the reason.
The client sends encoded messages, so a case checks what is on the wire.
"""

import aiocoap
from aiocoap.numbers.types import Type

from tests.interop.etsi_checker import Case, Checker, case, values
from tests.kit.encoded import (
    ACCEPT,
    BLOCK1,
    BLOCK2,
    CON,
    CONTENT_FORMAT,
    DELETE,
    ETAG,
    GET,
    IF_MATCH,
    IF_NONE_MATCH,
    NON,
    POST,
    PUT,
    URI_QUERY,
    Option,
    block,
    encoded,
    sent_as,
)
from tests.kit.plugtest import LARGE

LOCATION_PATH, LOCATION_QUERY = 8, 20
TEXT: Option = (CONTENT_FORMAT, b"")

_PROXY = "for a proxy, or not in the descriptions of the fourth event; a device is not a proxy"
#: The cases that are not run.
NOT_RUN = {
    **{f"TD_COAP_CORE_{number}": _PROXY for number in range(24, 31)},
    "TD_COAP_OBS_02": "notifications that are non-confirmable: those of a device are confirmable",
    "TD_COAP_OBS_03": "withdrawn by ETSI",
    "TD_COAP_OBS_15": "not in the descriptions of the fourth event",
}


# -- CORE ------------------------------------------------------------------------------------------


def _transaction(method: int, code: str, kind: int, *options: Option, payload: bytes = b"") -> Case:
    async def run(checker: Checker) -> None:
        answer = await checker.ask(method, "test", *options, kind=kind, payload=payload)
        assert answer.code.dotted == code
        assert bool(answer.payload) is (method == GET)
        assert bool(values(answer, CONTENT_FORMAT)) is (method == GET)

    return run


for first, kind in ((1, CON), (5, NON)):
    case(f"CORE_{first:02}")(_transaction(GET, "2.05", kind))
    case(f"CORE_{first + 1:02}")(_transaction(DELETE, "2.02", kind))
    case(f"CORE_{first + 2:02}")(_transaction(PUT, "2.04", kind, TEXT, payload=b"put"))
    case(f"CORE_{first + 3:02}")(_transaction(POST, "2.01", kind, TEXT, payload=b"post"))


@case("CORE_09", "CORE_11")
async def _separate_response(checker: Checker) -> None:
    answer = await checker.separate(CON, b"longtokn")
    checker.raw.acknowledge(answer.mid)


@case("CORE_10")
async def _token(checker: Checker) -> None:
    assert (await checker.ask(GET, "test", token=b"12345678")).payload


@case("CORE_12")
async def _empty_token(checker: Checker) -> None:
    assert (await checker.ask(GET, "test", token=b"")).payload


@case("CORE_13")
async def _several_segments(checker: Checker) -> None:
    assert (await checker.ask(GET, "seg1/seg2/seg3")).code.dotted == "2.05"


@case("CORE_14")
async def _several_queries(checker: Checker) -> None:
    queries = [(URI_QUERY, b"first=1"), (URI_QUERY, b"second=2")]
    assert (await checker.ask(GET, "query", *queries)).payload == b"?first=1&second=2"


@case("CORE_15")
async def _lossy_piggybacked(checker: Checker) -> None:
    """The acknowledgement is lost: the repeated request gets it again."""
    first = await checker.ask(GET, "test")
    checker.raw.send(sent_as(encoded(GET, path="test", token=b"tok"), CON, first.mid))
    again = (await checker.raw.until(2))[1]
    assert (again.mtype, again.mid, again.payload) == (Type.ACK, first.mid, first.payload)


@case("CORE_16")
async def _lossy_separate(checker: Checker) -> None:
    """The acknowledgement of the response is lost: the device sends it again."""
    answer = await checker.separate(CON)
    again = (await checker.raw.until(2))[1]
    assert (again.mid, again.token, again.payload) == (answer.mid, answer.token, answer.payload)
    checker.raw.acknowledge(answer.mid)


@case("CORE_17")
async def _separate_non(checker: Checker) -> None:
    await checker.separate(NON)


@case("CORE_18", "CORE_19")
async def _location(checker: Checker) -> None:
    answer = await checker.ask(POST, "location-query", TEXT, payload=b"new")
    assert answer.code.dotted == "2.01"
    assert values(answer, LOCATION_PATH) == [b"location1", b"location2", b"location3"]
    assert values(answer, LOCATION_QUERY) == [b"first=1", b"second=2"]


@case("CORE_20")
async def _accept(checker: Checker) -> None:
    for wanted, body in ((b"", b"x"), (b"\x29", b"<x/>")):
        answer = await checker.ask(GET, "multi-format", (ACCEPT, wanted))
        assert (answer.payload, values(answer, CONTENT_FORMAT)) == (body, [wanted])
    assert (await checker.ask(GET, "multi-format", (ACCEPT, b"\x3c"))).code.dotted == "4.06"


@case("CORE_21")
async def _entity_tag(checker: Checker) -> None:
    (tag,) = values(await checker.ask(GET, "validate"), ETAG)
    known = await checker.ask(GET, "validate", (ETAG, tag))
    assert (known.code.dotted, known.payload, values(known, ETAG)) == ("2.03", b"", [tag])
    assert (await checker.ask(PUT, "validate", TEXT, payload=b"new")).code.dotted == "2.04"
    changed = await checker.ask(GET, "validate", (ETAG, tag))
    assert (changed.code.dotted, changed.payload) == ("2.05", b"new")
    assert values(changed, ETAG) not in ([tag], [])


@case("CORE_22")
async def _if_match(checker: Checker) -> None:
    (tag,) = values(await checker.ask(GET, "validate"), ETAG)
    matching = await checker.ask(PUT, "validate", TEXT, (IF_MATCH, tag), payload=b"second")
    assert matching.code.dotted == "2.04"
    read = await checker.ask(GET, "validate")
    assert read.payload == b"second"
    assert (await checker.ask(PUT, "validate", TEXT, payload=b"third")).code.dotted == "2.04"
    stale = (IF_MATCH, values(read, ETAG)[0])
    refused = await checker.ask(PUT, "validate", TEXT, stale, payload=b"fourth")
    assert refused.code.dotted == "4.12"
    assert (await checker.ask(GET, "validate")).payload == b"third"


@case("CORE_23")
async def _if_none_match(checker: Checker) -> None:
    for code in ("2.01", "4.12"):
        answer = await checker.ask(PUT, "create1", TEXT, (IF_NONE_MATCH, b""), payload=b"new")
        assert answer.code.dotted == code


@case("CORE_31")
async def _ping(checker: Checker) -> None:
    checker.raw.send(b"\x40\x00\x12\x34")
    (pong,) = await checker.raw.until(1)
    assert (pong.mtype, pong.mid, pong.token, pong.payload) == (Type.RST, 0x1234, b"", b"")


# -- LINK ------------------------------------------------------------------------------------------


def _paths(document: str) -> list[str]:
    """The targets in a document of the link format."""
    return [link.split(">")[0].strip("<") for link in document.split(",") if link]


def _filtered(query: str, *paths: str) -> Case:
    async def run(checker: Checker) -> None:
        assert _paths(await checker.links(query)) == list(paths)

    return run


@case("LINK_01")
async def _all_links(checker: Checker) -> None:
    assert "</" in await checker.links()


@case("LINK_03")
async def _links_with_a_type(checker: Checker) -> None:
    document = await checker.links("rt=*", "href=/t*")
    assert _paths(document) == ["/type12", "/type13", "/type23"]
    assert all(';rt="' in link for link in document.split(","))


case("LINK_02")(_filtered("rt=handfast.hello", "/hello"))
case("LINK_04")(_filtered("rt=Type2", "/type12", "/type23"))
case("LINK_05")(_filtered("if=If*", "/type12", "/type23"))
case("LINK_06")(_filtered("sz=*", "/link1"))
case("LINK_07")(_filtered("href=/link1", "/link1"))
case("LINK_08")(_filtered("href=/link*", "/link1", "/link2", "/link3"))


@case("LINK_09")
async def _hierarchy(checker: Checker) -> None:
    assert 'ct="40"' in await checker.links("href=/path")
    below = await checker.ask(GET, "path")
    assert _paths(below.payload.decode()) == ["/path/sub1", "/path/sub2"]
    assert (await checker.ask(GET, "path/sub1")).payload == b"sub1"


# -- BLOCK -----------------------------------------------------------------------------------------


async def read_in_blocks(checker: Checker, szx: int, *, early: bool, path: str = "large") -> None:
    """Read a resource in blocks; the first request names their size if `early`."""
    size, body, tags = 16 << szx, b"", set()
    while True:
        number = len(body) // size
        options = [(BLOCK2, block(number, szx=szx))] if early or body else []
        answer = await checker.ask(GET, path, *options)
        if not early and not body:  # the device has chosen the size of the first one
            assert values(answer, BLOCK2) == [block(0, more=True)]
        else:
            more = len(body) + size < len(LARGE)
            assert values(answer, BLOCK2) == [block(number, more=more, szx=szx)]
        tags |= set(values(answer, ETAG))
        body += answer.payload
        if len(body) == len(LARGE):
            break
    assert body == LARGE
    assert len(tags) == 1


async def _write(checker: Checker, method: int, path: str, szx: int = 4) -> aiocoap.Message:
    """Send a large body in blocks; return the answer to the last one."""
    body, size = LARGE[::-1], 16 << szx
    for start in range(0, len(body), size):
        number, more = start // size, start + size < len(body)
        answer = await checker.ask(
            method,
            path,
            TEXT,
            (BLOCK1, block(number, more=more, szx=szx)),
            payload=body[start : start + size],
        )
        assert values(answer, BLOCK1) == [block(number, more=more, szx=szx)]
        assert (answer.code.dotted == "2.31") is more
    return answer


@case("BLOCK_01")
async def _early_negotiation(checker: Checker) -> None:
    await read_in_blocks(checker, 5, early=True)


@case("BLOCK_02")
async def _late_negotiation(checker: Checker) -> None:
    await read_in_blocks(checker, 4, early=False)


@case("BLOCK_06")
async def _smallest_blocks(checker: Checker) -> None:
    await read_in_blocks(checker, 0, early=True)


@case("BLOCK_03")
async def _large_put(checker: Checker) -> None:
    assert (await _write(checker, PUT, "large-update")).code.dotted == "2.04"
    answer = await checker.ask(GET, "large-update")
    assert answer.payload == LARGE[::-1][: len(answer.payload)]


@case("BLOCK_04")
async def _large_create(checker: Checker) -> None:
    answer = await _write(checker, POST, "large-create")
    assert answer.code.dotted == "2.01"
    assert values(answer, LOCATION_PATH)


@case("BLOCK_05")
async def _large_both_ways(checker: Checker) -> None:
    answer = await _write(checker, POST, "large-post", szx=6)
    assert (answer.code.dotted, values(answer, BLOCK2)) == ("2.04", [block(0, more=True)])
    last = await checker.ask(POST, "large-post", TEXT, (BLOCK2, block(1)))
    assert (last.code.dotted, values(last, BLOCK2)) == ("2.04", [block(1)])
    assert answer.payload + last.payload == LARGE[::-1]
