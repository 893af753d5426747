"""A raw client that checks what a device sends, for the cases of ETSI's test descriptions.

`CASES` has each case by its identifier.
"""

from collections.abc import Awaitable, Callable

import aiocoap
from aiocoap.numbers.optionnumbers import OptionNumber
from aiocoap.numbers.types import Type

from tests.kit.encoded import (
    CON,
    CONTENT_FORMAT,
    GET,
    NON,
    OBSERVE,
    URI_QUERY,
    Option,
    encoded,
    sent_as,
)
from tests.kit.plugtest import Observed
from tests.kit.raw_client import RawClient


class Checker:
    """A client of the device, and the resource `/obs` of that device."""

    def __init__(self, raw: RawClient, observed: Observed) -> None:
        self.raw = raw
        self.observed = observed
        self._number = 0

    async def ask(
        self,
        method: int,
        path: str,
        *options: Option,
        kind: int = CON,
        token: bytes = b"tok",
        payload: bytes = b"",
    ) -> aiocoap.Message:
        """Send a request; return the response, which has its token, and its Message ID if CON."""
        self._number += 1
        self.raw.received.clear()
        message = encoded(method, *options, path=path, token=token, payload=payload)
        self.raw.send(sent_as(message, kind, self._number))
        answer = (await self.raw.until(1))[0]
        assert answer.token == token
        assert answer.mtype is (Type.ACK if kind == CON else Type.NON)
        assert kind == NON or answer.mid == self._number
        return answer

    async def separate(self, kind: int, token: bytes = b"tok") -> aiocoap.Message:
        """GET /separate: an empty acknowledgement first, then a message of the request's type."""
        self.raw.received.clear()
        self.raw.send(sent_as(encoded(GET, path="separate", token=token), kind, 77))
        if kind == CON:
            first = (await self.raw.until(1))[0]
            assert (first.mtype, first.mid, first.code.dotted) == (Type.ACK, 77, "0.00")
            self.raw.received.clear()
        answer = (await self.raw.until(1))[0]
        assert (answer.token, answer.code.dotted) == (token, "2.05")
        assert answer.mtype is (Type.CON if kind == CON else Type.NON)
        assert answer.payload
        return answer

    async def observe(self, *options: Option) -> aiocoap.Message:
        """Register as an observer of /obs with the token `obs`."""
        answer = await self.ask(GET, "obs", (OBSERVE, b""), *options, token=b"obs")
        assert answer.code.dotted == "2.05"
        assert values(answer, OBSERVE)
        return answer

    async def notified(self, *, acknowledge: bool = True) -> aiocoap.Message:
        """Return the next message, a notification."""
        answer = (await self.raw.until(1))[0]
        assert (answer.token, answer.mtype) == (b"obs", Type.CON), answer
        self.raw.received.clear()
        if acknowledge:
            self.raw.acknowledge(answer.mid)
            await self.raw.handled()
        return answer

    async def links(self, *queries: str) -> str:
        """GET /.well-known/core, in one block."""
        answer = await self.ask(
            GET, ".well-known/core", *((URI_QUERY, query.encode()) for query in queries)
        )
        assert answer.code.dotted == "2.05"
        assert values(answer, CONTENT_FORMAT) == [b"\x28"]
        return str(answer.payload.decode())


def values(answer: aiocoap.Message, number: int) -> list[bytes]:
    return [one.encode() for one in answer.opt.get_option(OptionNumber(number))]


Case = Callable[[Checker], Awaitable[None]]
CASES: dict[str, Case] = {}


def case(*identifiers: str) -> Callable[[Case], Case]:
    def add(run: Case) -> Case:
        for identifier in identifiers:
            CASES[f"TD_COAP_{identifier}"] = run
        return run

    return add
