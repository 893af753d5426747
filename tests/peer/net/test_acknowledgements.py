"""When a request is acknowledged whose answer takes time (RFC 7252 §5.2.2)."""

from typing import Any

import pytest
from aiocoap.numbers.codes import Code
from aiocoap.numbers.types import ACK

from peer.net.aiocoap_seam import managers
from tests.kit.raw_client import GET, RawClient, message

NEVER = 3600.0


async def test_a_slow_request_is_acknowledged_at_once_while_another_one_is_in_progress(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client sends its next one after that: otherwise many requests begin one by one."""
    monkeypatch.setattr(managers, "EMPTY_ACK_SECONDS", NEVER)
    monkeypatch.setattr(managers, "PARALLEL_EMPTY_ACK_SECONDS", 0.0)
    served = await serve()
    raw = await RawClient.connect(served.address)
    for number in (1, 2, 3):
        raw.send(message(GET, "late", number=number, token=bytes([number])))
    first, second = await raw.until(2)
    assert [(one.mid, one.code, one.mtype) for one in (first, second)] == [
        (2, Code.EMPTY, ACK),
        (3, Code.EMPTY, ACK),
    ]
    assert served.late.asked == 3
    served.late.due.set()
    answered = (await raw.until(3))[2]
    assert (answered.mid, answered.token, answered.mtype) == (1, b"\x01", ACK)
    await raw.close()


async def test_a_single_slow_request_is_acknowledged_when_its_time_has_passed(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(managers, "EMPTY_ACK_SECONDS", 0.0)
    monkeypatch.setattr(managers, "PARALLEL_EMPTY_ACK_SECONDS", NEVER)
    served = await serve()
    raw = await RawClient.connect(served.address)
    raw.send(message(GET, "late", number=1, token=b"t"))
    [acknowledged] = await raw.until(1)
    assert (acknowledged.mid, acknowledged.code) == (1, Code.EMPTY)
    served.late.due.set()
    answer = (await raw.until(2))[1]
    assert (answer.token, answer.payload) == (b"t", b"better late")
    await raw.close()


async def test_an_answer_without_a_wait_is_its_acknowledgement(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if no time is left for it, and with other requests in progress."""
    monkeypatch.setattr(managers, "EMPTY_ACK_SECONDS", 0.0)
    monkeypatch.setattr(managers, "PARALLEL_EMPTY_ACK_SECONDS", 0.0)
    served = await serve()
    raw = await RawClient.connect(served.address)
    raw.send(message(GET, "late", number=1, token=b"t"))
    await raw.until(1)
    for number in (2, 3, 4):
        raw.send(message(GET, "value", number=number, token=bytes([number])))
    answers = (await raw.until(4))[1:]
    assert [(one.mid, one.payload, one.mtype) for one in answers] == [
        (number, b"0", ACK) for number in (2, 3, 4)
    ]
    await raw.close()
