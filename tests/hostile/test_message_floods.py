"""Floods of CoAP messages in sessions, while an owner 100 ms away continues to work.

Each flood is sent while a datagram of the owner is under way, so its size is counted and the test
does not depend on how fast the machine is. The tests assert how much work was done, and how much
memory is kept.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import time
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiocoap.numbers.contentformat import ContentFormat
from aiocoap.numbers.optionnumbers import OptionNumber

from device_app.access.event_kind import EventKind
from device_app.resources import events
from peer import cbor
from peer.identity import Identity
from peer.net import coaps
from peer.net.address import Address
from peer.net.aiocoap_seam import parsing
from tests.kit.floods import HOST, FarPath
from tests.kit.internals import backlogs_of, messages_of, remotes_of, unacknowledged
from tests.kit.raw_client import GET, RawClient, message

if TYPE_CHECKING:
    from tests.kit.device import Caller, Device, Kit

POST = 2
BOTH_PORTS = pytest.mark.parametrize("pairing", [False, True], ids=["regular", "pairing"])


@asynccontextmanager
async def far(device: Device, caller: Caller, *, pairing: bool = False) -> AsyncIterator[FarPath]:
    """A way of 50 ms each way for a caller."""
    path = FarPath(Address(HOST, device.port(pairing=pairing)), delay_seconds=0.05)
    caller.port = path.port
    await caller.connect(pairing=pairing)
    try:
        yield path
    finally:
        path.meanwhile = None
        await path.close()


async def stranger(device: Device, *, pairing: bool, identity: Identity | None = None) -> RawClient:
    return await RawClient.connect(Address(HOST, device.port(pairing=pairing)), identity)


async def works(
    owner: Caller, path: FarPath, flood: Callable[[], Awaitable[object]], *, pairing: bool = False
) -> None:
    """The owner asks and is answered, five times, and the flood runs with each datagram."""
    one_by_one = asyncio.Lock()

    async def meanwhile() -> None:
        async with one_by_one:
            await flood()

    path.meanwhile = meanwhile
    for _ in range(5):
        answer = await owner.ask("GET", "/pair" if pairing else "/hello", pairing=pairing)
        assert answer.code == "2.05"
    path.meanwhile = None
    await asyncio.gather(*path.tasks)


HUGE = [
    b"\x00" * 16_000,
    b"\xb0" + b"\x00" * 16_000,
    b"\xb1a" + b"\x01a" * 600,
    b"\x60" + b"\x10" * 1_400,
]


@BOTH_PORTS
async def test_messages_beyond_the_bounds_are_not_read(
    device: Device, owner: Caller, monkeypatch: pytest.MonkeyPatch, pairing: bool
) -> None:
    await device.open(role="user")
    raw = await stranger(device, pairing=pairing)
    read: Counter[int] = Counter()
    decode = parsing.decode_untrusted

    def counted(data: bytes, *rest: Any) -> Any:
        read[len(data)] += 1
        return decode(data, *rest)

    monkeypatch.setattr(coaps, "decode_untrusted", counted)
    sent = 0

    async def flood() -> None:
        nonlocal sent
        for excess in HUGE:
            raw.send(b"\x40\x01" + (sent % 60_000).to_bytes(2) + excess)
            sent += 1
            await raw.handled()

    async with far(device, owner, pairing=pairing) as path:
        await works(owner, path, flood, pairing=pairing)
    assert sent >= 10 * len(HUGE)
    port = "pairing" if pairing else "regular"
    assert device.counters(port)["coap-too-large"] == sent
    assert max(read) < 1_000, "a message of the flood was parsed"
    await raw.close()


@BOTH_PORTS
async def test_a_message_of_16_kib_costs_no_more_than_a_small_one(
    device: Device, pairing: bool
) -> None:
    """The processor time of both, in one run: aiocoap and the search for the path took 1,000 times
    as long for it. A wide margin, since the clock is coarse."""
    await device.open(role="user")
    raw = await stranger(device, pairing=pairing)
    numbers = iter(range(60_000))

    async def seconds(rest: bytes) -> float:
        begin = time.process_time()
        for _ in range(20):
            raw.send(b"\x50\x01" + next(numbers).to_bytes(2) + rest)
            await raw.handled()
        return time.process_time() - begin

    await seconds(b"\xb1a")
    small = [await seconds(b"\xb1a") for _ in range(3)]
    huge = [await seconds(rest) for rest in HUGE]
    assert max(huge) < 5 * max(small)
    await raw.close()


def strange(number: int) -> bytes:
    """A request with an option, a Content-Format and an Accept that was never sent before."""
    options = (
        (12, (70_000 + number).to_bytes(4)),
        (17, (10_000_000 + number).to_bytes(8)),
        (30_000 + 2 * (number % 10_000), b""),
    )
    return message(GET, "x", number=number % 60_000, options=options)


@BOTH_PORTS
async def test_nothing_is_remembered_of_the_numbers_in_messages(
    device: Device, owner: Caller, pairing: bool
) -> None:
    await device.open(role="user")
    raw = await stranger(device, pairing=pairing)
    requests = itertools.cycle([strange(number) for number in range(2_000)])
    forget_own()
    before = remembered()

    async def flood() -> None:
        for _ in range(8):
            for _ in range(20):
                raw.send(next(requests))
            await raw.handled()
        raw.received.clear()

    async with far(device, owner, pairing=pairing) as path:
        await flood()
        await works(owner, path, flood, pairing=pairing)
    assert remembered() == before
    await raw.close()


def remembered() -> tuple[int, int]:
    return len(OptionNumber._value2member_map_), len(ContentFormat._value2member_map_)


def forget_own() -> None:
    """Forget what this test has taught aiocoap while it made messages."""
    for one in (OptionNumber, ContentFormat):
        for value, member in list(one._value2member_map_.items()):
            if value and not hasattr(member, "name") and not hasattr(member, "_media_type"):
                del one._value2member_map_[value]


@BOTH_PORTS
async def test_the_memory_for_repeats_stays_small(
    device: Device, owner: Caller, pairing: bool
) -> None:
    """As many requests as the memory holds, each with as many options as one may have."""
    await device.open(role="user")
    raw = await stranger(device, pairing=pairing)
    options = tuple((15, b"q%05d" % number) for number in range(60))
    asking = message(POST, "x", number=0, token=b"tt", options=options, payload=bytes(800))
    sent = 0

    async def flood() -> None:
        nonlocal sent
        for _ in range(4):
            for _ in range(20):
                sent += 1
                # Message ID and token
                raw.send(asking[:2] + (sent % 60_000).to_bytes(2) * 2 + asking[6:])
            await raw.handled()
        raw.received.clear()

    async with far(device, owner, pairing=pairing) as path:
        await flood()
        gc.collect()
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            await works(owner, path, flood, pairing=pairing)
            path.passed.clear()
            raw.received.clear()
            gc.collect()
            held = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
    assert sent >= 800
    most = device.app.settings.limits.dedup_bytes
    server = device.app.pairing.port.server if pairing else device.app.server
    assert server is not None
    remotes = remotes_of(server)
    assert 0 < max(one.recent.held_bytes for one in remotes) <= most
    assert held < 2 * most + 2**21, "the process has grown by more than the memory for repeats"
    await raw.close()


async def test_one_repeat_after_another_runs_nothing(
    device: Device, owner: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = await stranger(device, pairing=False)
    asked: Counter[int] = Counter()
    authorise = device.app.guard.authorise

    def counted(request: Any, *rest: Any) -> None:
        asked[len(request.payload)] += 1
        authorise(request, *rest)

    monkeypatch.setattr(device.app.site, "_authorise", counted)
    again = message(POST, "x", number=7, payload=bytes(1_000))
    raw.send(again)
    await raw.until(1)

    async def flood() -> None:
        for _ in range(50):
            raw.send(again)
        await raw.handled()

    async with far(device, owner) as path:
        await works(owner, path, flood)
    assert asked[1_000] == 1
    assert len(raw.received) > 500
    assert len({one.payload for one in raw.received}) == 1
    await raw.close()


# -- observers of the trail ------------------------------------------------------------------------


class Encoded:
    """Counts what `/events` encodes, in items and in bytes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.items = 0
        self.bytes = 0
        self._encode = cbor.encode
        monkeypatch.setattr(events, "cbor", self)

    def encode(self, value: object) -> bytes:
        data = self._encode(value)
        self.items += 1
        self.bytes += len(data)
        return data


class Auditor:
    """A key with all the sessions and observations of `/events` that it may have."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._identity = Identity.create()
        limits = device.app.settings.limits
        self.sessions = limits.sessions_per_key
        self.each = limits.observations_per_key // self.sessions
        self.raws: list[RawClient] = []
        self._acknowledged: Counter[int] = Counter()
        device.add_user("adam", "admin", self._identity)

    async def observe(self) -> None:
        """Begin all observations; one more is refused."""
        for _ in range(self.sessions):
            raw = await stranger(self._device, pairing=False, identity=self._identity)
            for number in range(self.each):
                token = bytes([number])
                raw.send(message(GET, "events", number=number, token=token, observe=0))
            await raw.until(self.each)
            self.raws.append(raw)
        first = self.raws[0]
        first.send(message(GET, "events", number=900, token=b"more", observe=0))
        refused = (await first.until(self.each + 1))[-1]
        assert refused.code.dotted == "4.29"

    def acknowledge(self) -> None:
        """Acknowledge every notification that has come."""
        for at, raw in enumerate(self.raws):
            new = raw.received[self._acknowledged[at] :]
            self._acknowledged[at] += len(new)
            for one in new:
                if one.mtype == 0:
                    raw.acknowledge(one.mid)

    async def handled(self) -> None:
        """Let the device look at everything."""
        for raw in self.raws:
            await raw.handled()

    @property
    def told(self) -> int:
        """How many notifications have come, repeats left out."""
        return sum(len({one.mid for one in raw.received if one.mtype == 0}) for raw in self.raws)

    @property
    def oldest_head(self) -> int:
        """The head of the trail in the observation that is furthest behind."""
        heads: list[int] = []
        for raw in self.raws:
            seen = {one.token: one.payload for one in raw.received if one.code.dotted == "2.05"}
            bodies: list[Any] = [cbor.decode_untrusted(one) for one in seen.values() if one]
            heads += [body["head"] for body in bodies]
        return min(heads)

    async def close(self) -> None:
        for raw in self.raws:
            await raw.close()


def append(device: Device, detail: str) -> None:
    audit = device.app.access.audit
    audit.append(audit.event(EventKind.LABEL_MADE, detail=detail))


@pytest.mark.parametrize("silent", [False, True], ids=["acknowledge", "silent"])
async def test_a_commit_costs_the_same_however_many_observe(
    device: Device, owner: Caller, monkeypatch: pytest.MonkeyPatch, silent: bool
) -> None:
    for number in range(120):
        append(device, f"{number}" * 50)
    auditor = Auditor(device)
    await auditor.observe()
    encoded = Encoded(monkeypatch)
    commits = 0

    async def flood() -> None:
        nonlocal commits
        for _ in range(5):
            append(device, f"commit {commits}")
            commits += 1
            await auditor.handled()
            if not silent:
                auditor.acknowledge()

    async with far(device, owner) as path:
        await works(owner, path, flood)
    # Of a commit: the frame, each event that fits and the first that does not, and the whole.
    per_commit = 2 + 1_200 // 128 + 1
    if silent:
        assert auditor.told == auditor.sessions, "one notification pending for each session"
        assert encoded.items <= per_commit * auditor.sessions
    else:
        assert auditor.told > 2 * auditor.sessions
        assert encoded.items <= per_commit * commits
        assert encoded.bytes <= 3 * 1_200 * commits
    messages_of(device.app.server)
    assert not any(backlogs_of(device.app.server).values())
    assert unacknowledged(device.app.server) <= auditor.sessions
    # An observer that acknowledges finally sees the newest state, in every observation.
    head = device.app.access.store.audit.head[0]
    async with asyncio.timeout(20):
        while auditor.oldest_head < head:
            auditor.acknowledge()
            await auditor.handled()
    await auditor.close()


# -- half bodies of those who have no user ---------------------------------------------------------


async def test_a_stranger_may_send_as_much_as_an_invite_takes(
    kit: Kit, device: Device, owner: Caller
) -> None:
    """`/iam/redeem` is the one path where the body of a stranger is kept until it is whole."""
    callers = [kit.caller(device) for _ in range(device.app.settings.limits.unpaired_sessions)]
    for caller in callers:
        for number in range(device.app.settings.limits.block_assemblies + 2):
            path = f"/iam/redeem?{number}"
            first = await caller.ask("POST", path, raw=bytes(1024), block1=(0, True, 6))
            assert first.code == "2.31"
            more = await caller.ask("POST", path, raw=bytes(1024), block1=(1, True, 6))
            assert (more.code, more.reason) == ("4.13", "too-large")
            said = await caller.ask("POST", path, raw=bytes(16), block1=(0, True, 0), size1=1025)
            assert (said.code, said.reason) == ("4.13", "too-large")
    blocks: list[Any] = [one.blocks for one in remotes_of(device.app.server)]
    held = [body for one in blocks for body in one.requests._assemblies.values()]
    assert 0 < len(held) <= len(callers) * device.app.settings.limits.block_assemblies
    assert sum(len(one.payload) for one in held) <= len(held) * 1024
    longer = await owner.ask("POST", "/iam/users", raw=bytes(1024), block1=(0, True, 6))
    assert longer.code == "2.31"
    whole = await owner.ask("POST", "/iam/users", raw=bytes(1024), block1=(1, True, 6))
    assert whole.code == "2.31"
