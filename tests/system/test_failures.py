"""Each failure of docs/failures.toml, provoked in network namespaces, and what the client says."""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import (
    AbstractContextManager,
    AsyncExitStack,
    ExitStack,
    aclosing,
    asynccontextmanager,
    closing,
    contextmanager,
)
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from client_app import doctor, finder
from client_app.client import Client as Library
from client_app.models import CheckResult
from client_app.pairing import targets
from peer.errors import PeerError
from peer.identity import Fingerprint
from peer.limits import DEFAULT_LIMITS
from peer.net import discovery
from peer.net.advertiser import Advertiser
from peer.net.adverts import Advert
from peer.terminal.exit_codes import ExitCode, exit_code_of
from tests.kit.namespaces import Lan, Namespaces, add_addresses
from tests.kit.system import Client, Device, Stage
from tests.kit.waiting import TIMEOUT_SECONDS, skip_time

pytestmark = [
    pytest.mark.slow,
    pytest.mark.needs_root,
    pytest.mark.needs_tool("ip"),
    pytest.mark.needs_tool("nft"),
]

TABLE: Final = tomllib.loads(Path("docs/failures.toml").read_text("utf-8"))["failure"]
#: Silence costs so much in each test that provokes it.
SILENT_SECONDS: Final = 1.0
#: The failures whose message depends on an announcement: it is waited for.
ANNOUNCED: Final = {
    "daemon_stopped_but_announced",
    "blocked_port",
    "blocked_port_and_hurry",
    "unknown_name_to_pair_with",
    "blocked_port_diagnosed",
}
REGULAR: Final = "192.0.2.1:5684"
Provocation = AbstractContextManager[None]


@dataclass(frozen=True)
class Scene:
    """A device with its window closed, a client that is paired with it, and the cable between."""

    lan: Lan
    device: Device
    client: Client

    @contextmanager
    def filtered(self, rule: str, *hooks: str, at_client: bool = False) -> Iterator[None]:
        """Add a rule of nftables to some hooks of the device, or of the client."""
        namespace = self.lan.client if at_client else self.lan.device
        namespace.run("nft", "add table inet hf")
        for hook in hooks:
            base = f"{{ type filter hook {hook} priority 0; }}"
            namespace.run("nft", f"add chain inet hf {hook} {base}")
            namespace.run("nft", f"add rule inet hf {hook} {rule}")
        try:
            yield
        finally:
            namespace.run("nft", "delete table inet hf")

    @contextmanager
    def stored(self, *addresses: str) -> Iterator[None]:
        """Let the client have these addresses of the device alone."""
        [before] = self.client.book.all()
        self.client.book.put(replace(before, last_seen="", addresses=addresses))
        try:
            yield
        finally:
            self.client.book.put(before)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        self.device.stop()
        try:
            yield
        finally:
            self.device.boot()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with closing(Namespaces()) as namespaces, ExitStack() as stack:
        stage = stack.enter_context(closing(Stage(tmp_path_factory.mktemp("failures"))))
        lan = Lan(namespaces.add(), namespaces.add())
        namespaces.join(lan.device, lan.client)
        for number, end in enumerate((lan.device, lan.client), start=1):
            add_addresses(end, "eth0", number)
        device = stage.device(announced=True)
        device.place = ("ip", "netns", "exec", lan.device.name)
        device.run_options, device.port, device.pairing_port = [], 5684, 5685
        settings = device.home / "device.d" / "cable.toml"
        settings.parent.mkdir()
        settings.write_text('[network]\nlocal_interfaces = ["eth0"]\n')
        device.boot()
        anna = stage.client("anna")
        device.admit(anna, "anna")
        device.run("close")
        anna.set_last_seen(device, REGULAR)
        yield Scene(lan, device, anna)


@asynccontextmanager
async def announced(scene: Scene) -> AsyncIterator[None]:
    """Announce the device as a daemon does that is too busy, or too confined, to answer."""
    made = Advertiser(
        name="kitchen", device_id=scene.device.id, port=5684, pairing_port=5685, interfaces=None
    )
    with scene.lan.device.inside():
        await made.start()
    try:
        yield
    finally:
        await made.close()


@contextmanager
def network_down(scene: Scene) -> Iterator[None]:
    scene.lan.client.ip("link", "set", "eth0", "down")
    try:
        yield
    finally:
        scene.lan.client.ip("link", "set", "eth0", "up")
        scene.lan.client.ip("addr", "flush", "dev", "eth0")
        add_addresses(scene.lan.client, "eth0", 2)


@contextmanager
def other_key(scene: Scene) -> Iterator[None]:
    [before] = scene.client.book.all()
    scene.client.book.forget("kitchen")
    scene.client.book.put(replace(before, fingerprint=Fingerprint.parse("11" * 32)))
    try:
        yield
    finally:
        scene.client.book.forget("kitchen")
        scene.client.book.put(before)


@contextmanager
def removed(scene: Scene) -> Iterator[None]:
    """Let the device forget the client."""
    scene.device.ask("users-add", wish={"name": "olga", "role": "owner", "keys": ["22" * 32]})
    scene.device.ask("users-remove", name="anna")
    try:
        yield
    finally:
        scene.device.ask(
            "users-add", wish={"name": "anna", "role": "owner", "keys": [scene.client.fingerprint]}
        )


async def announcements(device_id: str, then: Callable[[], object]) -> AsyncGenerator[Advert, None]:
    """Search until a device is announced with an address; call `then` after that was processed."""
    async with aclosing(discovery.watch()) as adverts:
        async for advert in adverts:
            yield advert
            if advert.device_id == device_id and advert.is_present and advert.addresses:
                then()
                return


def client_of(scene: Scene, name: str, *, is_silent: bool) -> Library:
    """The client of the scene, as patient as the failure needs."""
    seconds = SILENT_SECONDS if is_silent else TIMEOUT_SECONDS
    is_in_hurry = name == "blocked_port_and_hurry"
    then = partial(skip_time, TIMEOUT_SECONDS / 2) if is_in_hurry else lambda: None
    return Library(
        home=scene.client.home,
        limits=replace(DEFAULT_LIMITS, connect_seconds=seconds),
        look=partial(announcements, scene.device.id, then) if name in ANNOUNCED else None,
    )


def blocked(scene: Scene) -> Provocation:
    return scene.filtered("udp dport 5684 drop", "input")


def silent(scene: Scene) -> Provocation:
    return scene.filtered("meta l4proto udp drop", "input", "output")


def rejected(scene: Scene) -> Provocation:
    return scene.filtered("udp dport 5684 reject with icmpx admin-prohibited", "input")


#: How each failure is provoked, by its id.
PROVOKED: Final[dict[str, Callable[[Scene], Sequence[Provocation]]]] = {
    "daemon_stopped": lambda scene: [scene.stopped()],
    "daemon_stopped_but_announced": lambda scene: [scene.stopped()],
    "silent_address": lambda scene: [silent(scene)],
    "blocked_port": lambda scene: [blocked(scene)],
    "blocked_port_and_hurry": lambda scene: [blocked(scene)],
    "rejected_port": lambda scene: [scene.stored(REGULAR), rejected(scene)],
    "rejected_port_of_ipv6": lambda scene: [scene.stored("[2001:db8::1]:5684"), rejected(scene)],
    "own_firewall": lambda scene: [scene.filtered("udp dport 5684 drop", "output", at_client=True)],
    "no_host": lambda scene: [scene.stored("192.0.2.9:5684"), silent(scene)],
    "link_local_beside_silent": lambda scene: [
        scene.stored("[fe80::1]:5684", REGULAR),
        silent(scene),
    ],
    "link_local_alone": lambda scene: [scene.stored("[fe80::1]:5684"), silent(scene)],
    "interface_gone": lambda scene: [scene.stored("[fe80::1%wlan7]:5684"), silent(scene)],
    "network_down": lambda scene: [network_down(scene)],
    "unknown_host_name": lambda scene: [scene.stored("kitchen.invalid:5684"), silent(scene)],
    "unknown_alias": lambda _scene: [],
    "wrong_key": lambda scene: [other_key(scene)],
    "not_paired": lambda scene: [removed(scene)],
    "window_closed": lambda _scene: [],
    "window_closed_at_printed_address": lambda _scene: [],
    "no_daemon_to_pair_with": lambda scene: [scene.stopped()],
    "no_daemon_at_printed_address": lambda scene: [scene.stopped()],
    "unknown_name_to_pair_with": lambda _scene: [],
    "blocked_port_diagnosed": lambda scene: [blocked(scene)],
    "daemon_stopped_diagnosed": lambda scene: [scene.stopped()],
    "network_down_diagnosed": lambda scene: [network_down(scene)],
}
#: The target of the client, if it is not `kitchen`.
TARGETS: Final = {
    "unknown_alias": "attic",
    "window_closed": "192.0.2.1:5685",
    "window_closed_at_printed_address": REGULAR,
    "no_daemon_to_pair_with": "192.0.2.1",
    "no_daemon_at_printed_address": REGULAR,
    "unknown_name_to_pair_with": "attic",
}


def test_the_table_and_the_provocations_are_the_same() -> None:
    assert [row["id"] for row in TABLE] == list(PROVOKED)


@pytest.mark.parametrize("row", TABLE, ids=[row["id"] for row in TABLE])
def test_a_failure_is_reported_as_the_table_says(
    scene: Scene, row: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, does = row["id"], DOES[row["does"]]
    is_silent = row["exit"] == ExitCode.TIMED_OUT
    if name == "blocked_port_and_hurry":
        is_silent, does = False, get_soon
    if is_silent:
        monkeypatch.setattr(doctor, "DIAGNOSIS_SECONDS", SILENT_SECONDS)
    for module in (doctor, finder, targets):
        seconds = TIMEOUT_SECONDS if name in ANNOUNCED else SILENT_SECONDS
        monkeypatch.setattr(module, "DISCOVERY_SECONDS", seconds)

    async def act() -> Said:
        async with AsyncExitStack() as stack:
            if name == "daemon_stopped_but_announced":
                await stack.enter_async_context(announced(scene))
            with scene.lan.client.inside():
                async with client_of(scene, name, is_silent=is_silent) as client:
                    return await does(client, TARGETS.get(name, "kitchen"))

    with ExitStack() as stack:
        for provocation in PROVOKED[name](scene):
            stack.enter_context(provocation)
        said = asyncio.run(act())
    assert said.exit == row["exit"], said
    assert row["says"] in said.message, said
    assert row["next"] in said.advice, said


@dataclass(frozen=True)
class Said:
    """The output of the client, and its exit code."""

    exit: int
    message: str
    advice: str


async def get(client: Library, alias: str) -> Said:
    with pytest.raises(PeerError) as caught:
        await (await client.connect(alias)).get("/hello")
    return _said(caught.value)


async def get_soon(client: Library, alias: str) -> Said:
    """The time of the call ends before that of an attempt."""
    with pytest.raises(PeerError) as caught:
        await client.connect(alias, timeout=TIMEOUT_SECONDS / 2)
    return _said(caught.value)


async def pair(client: Library, target: str) -> Said:
    with pytest.raises(PeerError) as caught:
        await client.pair(target, code="000000")
    return _said(caught.value)


async def diagnose(client: Library, alias: str) -> Said:
    checks = [check async for check in doctor.diagnose(client, alias)]
    [failed] = [check for check in checks if check.verdict is CheckResult.FAILED]
    assert failed is checks[-1]
    return Said(failed.exit_code, failed.said, failed.advice)


def _said(error: PeerError) -> Said:
    return Said(exit_code_of(error), str(error), error.advice)


DOES: Final = {"get": get, "pair": pair, "doctor": diagnose}
