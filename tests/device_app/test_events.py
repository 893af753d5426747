"""The audit trail over the network and at the console (protocol §9)."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
from contextlib import aclosing, closing
from typing import TYPE_CHECKING

import pytest

from device_app.access import clock
from device_app.access.event_kind import EventKind
from device_app.terminal.render_events import event_line
from peer.errors import ObservationEnded, PeerError
from tests.kit.daemon import command, environment, run
from tests.kit.internals import observations_of

if TYPE_CHECKING:
    from typing import Any

    from tests.kit.device import Answer, Caller, Device, Kit

KEY = "ab" * 32


def seqs(answer: Answer) -> list[int]:
    return [event["seq"] for event in answer.body["events"]]


def append(device: Device, detail: str) -> None:
    audit = device.app.access.audit
    audit.append(audit.event(EventKind.LABEL_MADE, detail=detail))


def append_some(device: Device, count: int) -> None:
    for number in range(count):
        append(device, f"number {number}")


async def test_queries_select_the_newest_events_or_those_after_a_number(
    owner: Caller, device: Device
) -> None:
    append_some(device, 150)
    head, digest = device.app.access.store.audit.head
    usual = await owner.ask("GET", "/events")
    assert (usual.code, usual.body["head"], usual.body["digest"]) == ("2.05", head, digest)
    assert seqs(usual) == list(range(head - 49, head + 1))
    assert seqs(await owner.ask("GET", "/events?last=3")) == [head - 2, head - 1, head]
    assert seqs(await owner.ask("GET", "/events?last=0")) == []
    assert len(seqs(await owner.ask("GET", "/events?last=100"))) == 100
    assert seqs(await owner.ask("GET", "/events?since=0")) == list(range(1, 101))
    assert seqs(await owner.ask("GET", "/events?since=7&last=2")) == [8, 9]
    assert seqs(await owner.ask("GET", f"/events?since={head}")) == []
    assert seqs(await owner.ask("GET", f"/events?since={2**63 - 1}")) == []
    for query in ("since=", "since=-1", "since=x", "last=101", "last=²", "all", "since=1&since=2"):
        assert (await owner.ask("GET", f"/events?{query}")).code == "4.00", query
    assert (await owner.ask("GET", f"/events?since={2**63}")).code == "4.00"
    for number in ("101", "1000000", "9" * 25, "\u0661"):
        for zeros in range(1, 40, 3):
            padded = await owner.ask("GET", f"/events?last={'0' * zeros}{number}")
            assert (padded.code, padded.reason) == ("4.00", "malformed"), (zeros, number)
    for since in (f"{'0' * 20}{2**63}", "0" * 200 + "1", "+1", "1_0", " 1", "1 "):
        assert (await owner.ask("GET", f"/events?since={since}")).code == "4.00", since
    assert seqs(await owner.ask("GET", "/events?last=003")) == [head - 2, head - 1, head]
    chained = (await owner.ask("GET", "/events?last=2")).body["events"]
    assert chained[1]["previous"] == chained[0]["digest"]
    assert chained[1]["digest"] == digest
    assert chained[1].keys() == {
        *("seq", "digest", "previous", "kind", "boot", "monotonic", "wall", "detail")
    }


async def test_events_are_served_where_the_kernel_hides_its_start(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with `ProcSubset=pid` of systemd, and in some containers."""
    monkeypatch.setattr(clock, "BOOT_ID", kit.home / "hidden")
    device = await kit.device(clocks=clock.SystemClocks())
    owner = await kit.paired(device, "olga")
    append(device, "file \udcff")  # of a file's name that is not UTF-8
    answer = await owner.ask("GET", "/events")
    assert answer.code == "2.05"
    assert {event["boot"] for event in answer.body["events"]} == {""}
    assert answer.body["events"][-1]["detail"] == "file \\udcff"
    async with asyncio.timeout(60), aclosing(owner.observe("/events")) as seen:
        assert (await anext(seen)).body["head"] == answer.body["head"]
    shown = await run(kit.home, "events", "--json")
    assert shown.code == 0
    verified = await run(kit.home, "events", "--verify")
    assert verified.code == 0, verified


async def test_the_trail_is_refused_without_the_right_to_read_it(kit: Kit, device: Device) -> None:
    await kit.paired(device, "olga")
    guest = await kit.paired(device, "gustav")
    admin = await kit.paired(device, "adam", role="admin")
    refused = await guest.ask("GET", "/events")
    assert (refused.code, refused.reason) == ("4.03", "denied")
    async with asyncio.timeout(60):
        async with aclosing(guest.observe("/events")) as seen:
            assert (await anext(seen)).reason == "denied"
    assert (await kit.caller(device).ask("GET", "/events")).reason == "not-paired"
    assert (await admin.ask("GET", "/events")).code == "2.05"
    assert (await admin.ask("POST", "/events", {})).code == "4.05"


async def test_an_observer_is_notified_of_each_new_event(kit: Kit, device: Device) -> None:
    await kit.paired(device, "olga")
    admin = await kit.paired(device, "adam", role="admin")
    async with asyncio.timeout(60), aclosing(admin.observe("/events")) as seen:
        head = (await anext(seen)).body["head"]
        for number in range(3):
            append(device, f"number {number}")
            received = await anext(seen)
            assert received.body["head"] == head + number + 1
            assert received.body["events"][-1]["detail"] == f"number {number}"


async def test_a_notification_fits_a_datagram_and_a_gap_can_be_requested(
    owner: Caller, device: Device
) -> None:
    for _ in range(60):
        append(device, "x" * 256)
    async with asyncio.timeout(60), aclosing(owner.observe("/events")) as seen:
        first = await anext(seen)
        assert 1 <= len(first.body["events"]) < 5
        assert len(first.message.payload) < 1200
        assert seqs(first)[-1] == first.body["head"]
        append_some(device, 40)  # in one turn of the event loop, so one or few notifications
        latest = first
        while latest.body["head"] < first.body["head"] + 40:
            latest = await anext(seen)
            assert len(latest.message.payload) < 1200
    missed = await owner.ask("GET", f"/events?since={first.body['head']}")
    assert seqs(missed) == list(range(first.body["head"] + 1, first.body["head"] + 41))


async def test_an_observation_ends_when_the_right_to_read_is_lost(kit: Kit, device: Device) -> None:
    owner = await kit.paired(device, "olga")
    admin = await kit.paired(device, "adam", role="admin")
    begun = asyncio.Event()
    received: list[Answer] = []

    async def watch() -> None:
        async with aclosing(admin.observe("/events")) as seen:
            async for answer in seen:
                received.append(answer)
                begun.set()

    watching = asyncio.create_task(watch())
    await asyncio.wait_for(begun.wait(), 60)
    changed = await owner.ask("iPATCH", "/iam/users/adam", {"role": "user"})
    assert changed.code == "2.04"
    append_some(device, 3)
    with pytest.raises(ObservationEnded):
        await asyncio.wait_for(watching, 60)
    assert (await admin.ask("GET", "/events")).reason == "denied"
    # No event after the change was sent.
    assert "label-made" not in {event["kind"] for one in received for event in one.body["events"]}


async def test_the_observation_of_a_removed_user_is_removed(kit: Kit, device: Device) -> None:
    await kit.paired(device, "olga")
    admin = await kit.paired(device, "adam", role="admin")
    resource: Any = device.app.site.paths()["events",]
    async with asyncio.timeout(60), aclosing(admin.observe("/events")) as seen:
        await anext(seen)
        assert len(observations_of(resource)) == 1
        device.app.access.registry.remove_user(None, "adam")
        with pytest.raises(PeerError):
            await anext(seen)
    assert not observations_of(resource)


# -- the console -----------------------------------------------------------------------------------


async def test_events_are_printed_with_and_without_a_daemon(kit: Kit) -> None:
    for args in (["events"], ["events", "--verify"], ["events", "--follow"]):
        missing = await run(kit.home, *args)
        assert (missing.code, bool(missing.err), missing.out) == (3, True, "")
    await run(kit.home, "init", "--name", "kitchen")
    assert (await run(kit.home, "events")).out == ""
    await run(kit.home, "users", "add", "olga", "--role", "owner", "--key", KEY)
    await run(kit.home, "users", "add", "bert")
    (first, second) = (await run(kit.home, "events")).out.splitlines()
    assert first.split()[0] == "1"
    assert "user-added  actor=@console user=olga role=owner" in first
    assert (await run(kit.home, "events", "--follow")).code == 3
    whole = await run(kit.home, "events", "--verify")
    assert (whole.code, whole.out.startswith("intact: 2 events")) == (0, True)
    daemon = await kit.daemon()
    assert (await daemon.run("events", "--last", "1")).out == f"{second}\n"
    await daemon.run("users", "remove", "bert")
    lines = (await daemon.run("events", "--since", "1", "--json")).out.splitlines()
    events = [json.loads(line) for line in lines]
    assert [(one["schema"], one["seq"], one["kind"]) for one in events] == [
        (1, 2, "user-added"),
        (1, 3, "user-removed"),
    ]
    assert (await daemon.run("events", "--since", "0", "--last", "1")).out.split()[0] == "3"
    assert (await daemon.run("events", "--last", "0")).out == ""
    verified = await daemon.json("events", "--verify")
    assert (verified["verified"], verified["head"]) == (True, 3)
    assert verified["digest"] == events[-1]["digest"]
    for args in (
        ["--verify", "--last", "1"],
        ["--since", "x"],
        ["--last", "-1"],
        ["--last", str(2**63)],
        ["--since", "9" * 30],
    ):
        assert (await daemon.run("events", *args)).code == 2


@pytest.mark.parametrize("as_json", [False, True])
async def test_follow_prints_past_and_new_events_until_interrupted(
    kit: Kit, *, as_json: bool
) -> None:
    await run(kit.home, "init")
    await run(kit.home, "users", "add", "olga", "--role", "owner", "--key", KEY)
    for name in ("bert", "carl"):
        await run(kit.home, "users", "add", name)
    daemon = await kit.daemon()
    following = await asyncio.create_subprocess_exec(
        *command(kit.home, "events", "--follow", "--last", "2", *["--json"] * as_json),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(),
    )
    assert following.stdout is not None
    async with asyncio.timeout(60):
        received = [await following.stdout.readline() for _ in range(2)]
        await daemon.run("users", "remove", "carl")
        received.append(await following.stdout.readline())
        following.send_signal(signal.SIGINT)
        _, output = await following.communicate()
    assert following.returncode == 130
    assert b"Traceback" not in output
    if as_json:
        assert [json.loads(line)["user"] for line in received] == ["bert", "carl", "carl"]
    else:
        assert b"user-removed" in received[-1]
    assert (await daemon.run("health")).code == 0
    assert await daemon.stop() == 0


async def test_follow_ends_when_its_output_or_the_daemon_closes(kit: Kit) -> None:
    await run(kit.home, "init")
    await run(kit.home, "users", "add", "olga", "--role", "owner", "--key", KEY)
    daemon = await kit.daemon()

    async def follow(stdout: int = asyncio.subprocess.PIPE) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *command(kit.home, "events", "--follow", "--last", "1"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=stdout,
            stderr=asyncio.subprocess.PIPE,
            env=environment(),
        )

    reader, writer = os.pipe()
    async with asyncio.timeout(60):
        headed = await follow(writer)
        os.close(writer)
        with os.fdopen(reader, "rb") as output:
            await asyncio.to_thread(output.readline)
        await daemon.run("users", "add", "bert")
        assert await headed.wait() == 0
        assert headed.stderr is not None
        assert await headed.stderr.read() == b""
        left = await follow()
        assert left.stdout is not None
        await left.stdout.readline()
        assert await daemon.stop() == 0
        _, errors = await left.communicate()
        assert (left.returncode, b"daemon exited" in errors, b"Traceback" in errors) == (
            1,
            True,
            False,
        )


@pytest.mark.parametrize("running", [False, True], ids=["file", "daemon"])
async def test_verify_reports_the_event_that_was_changed(kit: Kit, *, running: bool) -> None:
    await run(kit.home, "init")
    await run(kit.home, "users", "add", "olga", "--role", "owner", "--key", KEY)
    for name in ("bert", "carl", "dora"):
        await run(kit.home, "users", "add", name)
    path = kit.home / "device.db"
    whole = path.read_bytes()
    assert not path.with_name("device.db-wal").exists()
    at = whole.rindex(b'"user":"carl"') + 9
    assert whole.count(b'"user":"carl"') == 1
    path.write_bytes(whole[:at] + b"K" + whole[at + 1 :])
    if running:
        daemon = await kit.daemon()
        assert daemon.is_running
    broken = await run(kit.home, "events", "--verify")
    assert (broken.code, "broken at event 3" in broken.out) == (1, True), broken
    received = json.loads((await run(kit.home, "events", "--verify", "--json")).out)
    assert (received["verified"], received["seq"], received["schema"]) == (False, 3, 1)
    if running:
        assert await daemon.stop() == 0
        return
    path.write_bytes(whole)
    with closing(sqlite3.connect(path)) as db:
        db.execute("DELETE FROM events WHERE seq = 2")
        db.commit()
    assert "event 2" in (await run(kit.home, "events", "--verify")).out
    path.write_bytes(whole)
    assert (await run(kit.home, "events", "--verify")).code == 0


async def test_reading_events_changes_no_file_and_works_after_a_crash(kit: Kit) -> None:
    await run(kit.home, "init")
    await run(kit.home, "users", "add", "olga", "--role", "owner", "--key", KEY)
    path = kit.home / "device.db"
    before = path.read_bytes()
    assert (await run(kit.home, "events")).code == 0
    assert path.read_bytes() == before
    assert not path.with_name("device.db-wal").exists()
    daemon = await kit.daemon()
    await daemon.run("users", "add", "bert")
    await daemon.stop(signal.SIGKILL)
    assert path.with_name("device.db-wal").exists()
    assert "user=bert" in (await run(kit.home, "events", "--last", "1")).out
    assert (await run(kit.home, "events", "--verify")).code == 0


def test_control_characters_in_an_event_are_escaped() -> None:
    record: Any = {"seq": 1, "wall": 0.0, "kind": "refused\x1b[2J", "detail": "a\nb\u202e"}
    record["result"] = ""
    line = event_line(record)
    assert line.isprintable()
    assert r"refused\x1b[2J" in line
    assert r"detail=a\x0ab\u202e" in line
    assert 'result=""' in line
