"""An owner on a slow path is served during floods of CoAP messages in other sessions.

Each flood is sent while a datagram of the owner is in transit, so its size is known and the result
does not depend on the speed of the machine. The tests check the work that the device did and the
memory that it keeps.
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

from device_app.access.event_kind import EventKind
from device_app.resources import events
from peer import cbor
from peer.identity import Identity
from peer.net import coaps
from peer.net.address import Address
from peer.net.aiocoap_seam import parsing
from tests.kit.coap_numbers import forget_all_but, known_numbers
from tests.kit.floods import HOST, FarPath
from tests.kit.internals import backlogs_of, messages_of, remotes_of, unacknowledged
from tests.kit.raw_client import GET, RawClient, message

if TYPE_CHECKING:
    from tests.kit.device import Caller, Device, Kit

POST = 2
BOTH_PORTS = pytest.mark.parametrize("pairing", [False, True], ids=["regular", "pairing"])


@asynccontextmanager
async def slow_path(
    device: Device, caller: Caller, *, pairing: bool = False
) -> AsyncIterator[FarPath]:
    """Connect a caller through a path of 50 ms in each direction."""
    path = FarPath(Address(HOST, device.port(pairing=pairing)), delay_seconds=0.05)
    caller.port = path.port
    await caller.connect(pairing=pairing)
    try:
        yield path
    finally:
        path.meanwhile = None
        await path.close()


async def unknown_client(
    device: Device, *, pairing: bool, identity: Identity | None = None
) -> RawClient:
    return await RawClient.connect(Address(HOST, device.port(pairing=pairing)), identity)


async def owner_is_served(
    owner: Caller, path: FarPath, flood: Callable[[], Awaitable[object]], *, pairing: bool = False
) -> None:
    """Let the owner send five requests; the flood runs during each of the owner's datagrams."""
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


def count_parsed_messages(patch: pytest.MonkeyPatch) -> Counter[int]:
    """From now on, count the messages that are parsed, on either side, by their size."""
    parsed: Counter[int] = Counter()
    decode = parsing.decode_untrusted

    def counted(data: bytes, *rest: Any) -> Any:
        parsed[len(data)] += 1
        return decode(data, *rest)

    patch.setattr(coaps, "decode_untrusted", counted)
    return parsed


@BOTH_PORTS
async def test_a_message_above_the_size_limits_is_not_parsed(
    device: Device, owner: Caller, monkeypatch: pytest.MonkeyPatch, pairing: bool
) -> None:
    await device.open(role="user")
    raw = await unknown_client(device, pairing=pairing)
    read = count_parsed_messages(monkeypatch)
    sent = 0

    async def flood() -> None:
        nonlocal sent
        for excess in HUGE:
            raw.send(b"\x40\x01" + (sent % 60_000).to_bytes(2) + excess)
            sent += 1
            await raw.handled()

    async with slow_path(device, owner, pairing=pairing) as path:
        await owner_is_served(owner, path, flood, pairing=pairing)
    assert sent >= 10 * len(HUGE)
    port = "pairing" if pairing else "regular"
    assert device.counters(port)["coap-too-large"] == sent
    assert max(read) < 1_000, "a message of the flood was parsed"
    await raw.close()


@BOTH_PORTS
async def test_a_message_of_16_kib_costs_no_more_than_a_small_one(
    device: Device, pairing: bool
) -> None:
    """Compare the processor times of both. Parsing the path once took 1,000 times as long for
    16 KiB. The margin is wide because the clock is coarse. Of each huge message the shortest time
    counts: a garbage collection of this process takes longer than all messages together."""
    await device.open(role="user")
    raw = await unknown_client(device, pairing=pairing)
    numbers = iter(range(60_000))

    async def seconds(rest: bytes) -> float:
        begin = time.process_time()
        for _ in range(20):
            raw.send(b"\x50\x01" + next(numbers).to_bytes(2) + rest)
            await raw.handled()
        return time.process_time() - begin

    await seconds(b"\xb1a")
    small = [await seconds(b"\xb1a") for _ in range(3)]
    huge = [min([await seconds(rest) for _ in range(5)]) for rest in HUGE]
    assert max(huge) < 5 * max(small)
    await raw.close()


def request_with_unknown_numbers(number: int) -> bytes:
    """A request with unknown, unique numbers for an option, Content-Format and Accept."""
    options = (
        (12, (70_000 + number).to_bytes(4)),
        (17, (10_000_000 + number).to_bytes(8)),
        (30_000 + 2 * (number % 10_000), b""),
    )
    return message(GET, "x", number=number % 60_000, options=options)


@BOTH_PORTS
async def test_unknown_option_and_format_numbers_are_not_cached(
    device: Device, owner: Caller, pairing: bool
) -> None:
    await device.open(role="user")
    raw = await unknown_client(device, pairing=pairing)
    before = known_numbers()
    requests = itertools.cycle([request_with_unknown_numbers(number) for number in range(2_000)])
    forget_all_but(before)

    async def flood() -> None:
        for _ in range(8):
            for _ in range(20):
                raw.send(next(requests))
            await raw.handled()
        raw.received.clear()

    async with slow_path(device, owner, pairing=pairing) as path:
        await flood()
        await owner_is_served(owner, path, flood, pairing=pairing)
    assert known_numbers() == before
    await raw.close()


@BOTH_PORTS
async def test_the_memory_for_deduplication_is_bounded(
    device: Device, owner: Caller, pairing: bool
) -> None:
    """Send more requests than the memory holds, each with the maximum number of options."""
    await device.open(role="user")
    raw = await unknown_client(device, pairing=pairing)
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

    async with slow_path(device, owner, pairing=pairing) as path:
        await flood()
        gc.collect()
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            await owner_is_served(owner, path, flood, pairing=pairing)
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


async def test_retransmissions_of_a_request_do_not_run_its_handler_again(
    device: Device, owner: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = await unknown_client(device, pairing=False)
    parsed = count_parsed_messages(monkeypatch)
    again = message(POST, "x", number=7, payload=bytes(1_000))
    raw.send(again)
    await raw.until(1)

    async def flood() -> None:
        for _ in range(50):
            raw.send(again)
        await raw.handled()

    async with slow_path(device, owner) as path:
        await owner_is_served(owner, path, flood)
    assert parsed[len(again)] == 1
    assert len(raw.received) > 500
    assert len({one.payload for one in raw.received}) == 1
    await raw.close()


# -- observers of the audit trail ------------------------------------------------------------------


class CountingEncoder:
    """A replacement of the encoder of `/events` that counts items and bytes."""

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
    """A key with the maximum number of sessions and observations of `/events`."""

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
        """Start all observations, and check that one more is refused."""
        for _ in range(self.sessions):
            raw = await unknown_client(self._device, pairing=False, identity=self._identity)
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
        """Acknowledge every notification received so far."""
        for at, raw in enumerate(self.raws):
            new = raw.received[self._acknowledged[at] :]
            self._acknowledged[at] += len(new)
            for one in new:
                if one.mtype == 0:
                    raw.acknowledge(one.mid)

    async def handled(self) -> None:
        """Wait until the device has processed all messages."""
        for raw in self.raws:
            await raw.handled()

    @property
    def notifications(self) -> int:
        """The number of notifications received, without retransmissions."""
        return sum(len({one.mid for one in raw.received if one.mtype == 0}) for raw in self.raws)

    @property
    def oldest_head(self) -> int:
        """The head of the audit trail in the observation that is furthest behind."""
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
async def test_the_cost_of_a_commit_does_not_depend_on_the_number_of_observers(
    device: Device, owner: Caller, monkeypatch: pytest.MonkeyPatch, silent: bool
) -> None:
    for number in range(120):
        append(device, f"{number}" * 50)
    auditor = Auditor(device)
    await auditor.observe()
    encoded = CountingEncoder(monkeypatch)
    commits = 0

    async def flood() -> None:
        nonlocal commits
        for _ in range(5):
            append(device, f"commit {commits}")
            commits += 1
            await auditor.handled()
            if not silent:
                auditor.acknowledge()

    async with slow_path(device, owner) as path:
        await owner_is_served(owner, path, flood)
    items = encoded.items
    await auditor.handled()  # what was encoded by now has arrived
    # Encoded per commit: the frame, each event that fits, the first that does not, and the body.
    per_commit = 2 + 1_200 // 128 + 1
    if silent:
        # One notification in flight per session; each retransmission may have a newer state.
        attempts = 1 + device.app.settings.limits.max_retransmit
        assert auditor.sessions <= auditor.notifications <= attempts * auditor.sessions
        assert items <= per_commit * auditor.notifications
    else:
        assert auditor.notifications > 2 * auditor.sessions
        assert items <= per_commit * commits
        assert encoded.bytes <= 3 * 1_200 * commits
    messages_of(device.app.server)
    assert not any(backlogs_of(device.app.server).values())
    assert unacknowledged(device.app.server) <= auditor.sessions
    # Once the observer acknowledges, every observation gets the newest state.
    head = device.app.access.store.audit.head[0]
    async with asyncio.timeout(20):
        while auditor.oldest_head < head:
            auditor.acknowledge()
            await auditor.handled()
    await auditor.close()


# -- incomplete bodies from unknown keys -----------------------------------------------------------


async def test_an_unknown_client_may_send_at_most_the_size_of_an_invite(
    kit: Kit, device: Device, owner: Caller
) -> None:
    """`/iam/redeem` is the only path for which a body from an unknown key is assembled."""
    callers = [kit.caller(device) for _ in range(device.app.settings.limits.unpaired_sessions)]
    for caller in callers:
        for number in range(device.app.settings.limits.block_assemblies + 2):
            path = f"/iam/redeem?{number}"
            first = await caller.ask("POST", path, raw=bytes(1024), block1=(0, True, 6))
            assert first.code == "2.31"
            more = await caller.ask("POST", path, raw=bytes(1024), block1=(1, True, 6))
            assert (more.code, more.reason) == ("4.13", "too-large")
            refused = await caller.ask("POST", path, raw=bytes(16), block1=(0, True, 0), size1=1025)
            assert (refused.code, refused.reason) == ("4.13", "too-large")
    most = device.app.settings.limits.block_assemblies * 1024
    held = [one.blocks.requests.held_bytes for one in remotes_of(device.app.server) if one.blocks]
    assert sum(held) > 0
    assert max(held) <= most
    longer = await owner.ask("POST", "/iam/users", raw=bytes(1024), block1=(0, True, 6))
    assert longer.code == "2.31"
    whole = await owner.ask("POST", "/iam/users", raw=bytes(1024), block1=(1, True, 6))
    assert whole.code == "2.31"
