"""Text, advice and exit code of the command line if no route leads to a device."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from client_app.clock import wall_clock
from client_app.known_device import KnownDevice
from client_app.known_devices import DeviceBook
from client_app.remote_settings import RemoteBook
from peer.errors import Denied, HandshakeFailed, PeerError, PinMismatch, TimedOut, Unreachable
from peer.identity import Identity
from peer.remote.errors import BrokerError, CarrierError, ServerFailure
from peer.remote.route_steps import RouteStep, StepKind
from peer.remote.settings import Server
from peer.secret import Secret
from tests.kit.refused_port import refused_tcp, refused_udp
from tests.kit.remote_settings import PASSWORD, SECRET, remote_settings
from tests.kit.waiting import skip_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.kit.shell import Outcome, Shell

pytestmark = pytest.mark.usefixtures("no_head_start")

HOST = "127.0.0.1"
KEY = Identity.create().fingerprint


class FakeRoute:
    """The route: reports some steps, then fails; without an error, it waits and never ends."""

    def __init__(self) -> None:
        self.steps: list[RouteStep] = []
        self.error: PeerError | None = None
        self.on_wait: Callable[[], None] = lambda: None

    async def open(self, _settings: Any, *, on_step: Callable[[RouteStep], None], **_: Any) -> Any:
        for step in self.steps:
            on_step(step)
        if self.error is None:
            self.on_wait()
            await asyncio.Event().wait()
        else:
            raise self.error


@pytest.fixture
def home_with_settings(home: Path) -> Iterator[Path]:
    """A client that is paired with `kitchen`, which answers nowhere, and has its settings."""
    home.mkdir(mode=0o700)
    own = Identity.create()
    own.save(home / "identity.pem")
    with refused_udp() as at, refused_tcp() as broker_at:
        DeviceBook(home / "devices.json").put(KnownDevice("kitchen", KEY, last_seen=at))
        store(home, remote_settings(brokers=(broker(f"mqtts://{broker_at}"),)))
        yield home


def broker(url: str) -> Server:
    return Server(url, "alice", Secret(PASSWORD))


def store(home: Path, settings: Any) -> None:
    own = Identity.load(home / "identity.pem").fingerprint
    RemoteBook(home / "remote.json").update(
        KEY, lambda one: one.with_settings(settings, settings.encode(), wall_clock()), own=own
    )


@pytest.fixture
def route(home_with_settings: Path, monkeypatch: pytest.MonkeyPatch) -> FakeRoute:
    assert home_with_settings.exists()
    made = FakeRoute()

    async def real_route() -> Any:
        return made.open

    monkeypatch.setattr("client_app.remote_reach.real_route", real_route)
    return made


@pytest.fixture(autouse=True)
def nothing_secret_is_printed(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    yield
    text = "".join(capfd.readouterr())
    assert PASSWORD not in text
    assert SECRET.decode() not in text


def check_secrets(done: Outcome) -> None:
    for text in (done.out, done.err):
        assert PASSWORD not in text
        assert SECRET.decode() not in text
        assert SECRET.hex() not in text


NO_PATH = CarrierError("no pair of addresses works", reason=ServerFailure.NO_PATH)
ERRORS: dict[str, tuple[PeerError, int]] = {
    "no broker": (BrokerError("the broker b:1 does not answer"), 3),
    "login": (BrokerError("the broker b:1 refuses", reason=ServerFailure.REFUSED), 3),
    "pin": (BrokerError("the broker b:1 has another key", reason=ServerFailure.PIN_MISMATCH), 3),
    "not attached": (Unreachable("the device does not answer at the broker", advice="Is it?"), 3),
    "no carrier": (NO_PATH, 3),
    "DTLS": (HandshakeFailed("the device closed the connection", advice="Try again."), 3),
    "no answer": (TimedOut("the device answered at the broker, and then no more", advice="Go."), 4),
    "another key": (PinMismatch("a" * 64, "b" * 64), 5),
    "denied": (Denied("the device's policy does not allow it", advice="Ask an owner."), 7),
}


@pytest.mark.parametrize(("error", "code"), ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("words", [["get", "kitchen", "/hello"], ["-vv", "whoami"]], ids=["", "vv"])
def test_each_failure_has_a_text_an_advice_and_an_exit_code(
    shell: Shell, route: FakeRoute, error: PeerError, code: int, words: list[str]
) -> None:
    route.error = error
    done = shell(*words)
    assert done.code == code, done.err
    assert "Traceback" not in done.err
    check_secrets(done)
    printed = json.loads(shell("get", "kitchen", "/hello", "--json").err)["error"]
    assert printed["exit"] == code
    assert printed["advice"]
    if not isinstance(error, PinMismatch):
        assert str(error) in printed["message"]
        assert "nothing listens" in printed["message"], "what was tried at the address stays"


@pytest.mark.parametrize("package", ["aioice", "aiomqtt"])
def test_without_the_extra_the_error_names_what_to_install(
    shell: Shell, home_with_settings: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    assert home_with_settings.exists()
    for name in [one for one in sys.modules if one.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    for name in [f"peer.remote.{one}" for one in ("network", "broker", "ice", "relay")]:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    done = shell("get", "kitchen", "/hello")
    assert done.code == 3
    assert f"needs {package}, which is not installed" in done.err
    assert "pip install 'handfast[remote]'" in done.err
    assert "nothing listens" in done.err


def test_a_relay_that_is_not_set_up_is_not_tried(
    shell: Shell, route: FakeRoute, home_with_settings: Path
) -> None:
    route.error = NO_PATH
    store(home_with_settings, remote_settings(turn=()))
    done = shell("get", "kitchen", "/hello", "--via", "relay")
    assert done.code == 3
    assert "kitchen has no relay" in done.err


def test_doctor_says_how_to_see_whether_the_device_is_attached(
    shell: Shell, route: FakeRoute
) -> None:
    route.steps = [step(StepKind.BROKER, f"mqtts://{HOST}:1")]
    route.error = Unreachable("the device does not answer at the broker", advice="Is it on?")
    found = checks(shell("doctor", "kitchen", "--via", "direct,relay", "--json"))
    assert "`handfast-device remote`" in found["path"]["advice"]


def test_a_timeout_names_the_step(shell: Shell, route: FakeRoute) -> None:
    route.steps = [RouteStep(StepKind.BROKER, True, "mqtts://mqtt.example", 0.1)]
    route.on_wait = lambda: skip_time(60)
    done = shell("get", "kitchen", "/hello", "--timeout", "1m", "--via", "direct,relay")
    assert done.code == 4
    assert "while waiting until kitchen answers at the broker" in done.err


def test_the_real_route_reports_a_broker_that_is_down(
    shell: Shell, home_with_settings: Path
) -> None:
    assert home_with_settings.exists()
    done = shell("get", "kitchen", "/hello")
    assert done.code == 3, done.err
    assert "broker" in done.err
    assert "nothing listens" in done.err
    check_secrets(done)


# --------------------------------------------------------------------------------------- `doctor`


def checks(done: Outcome) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in map(json.loads, done.out.splitlines())}


def step(kind: StepKind, subject: str = "", reason: str = "") -> RouteStep:
    return RouteStep(kind, not reason, subject, 0.5, reason)


def test_doctor_names_each_step_of_the_route(shell: Shell, route: FakeRoute) -> None:
    url = "mqtts://mqtt.example"
    route.steps = [
        step(StepKind.BROKER, url),
        step(StepKind.CHALLENGE),
        step(StepKind.GATHERING, "direct"),
        step(StepKind.GATHERING, "relay", "no-candidate"),
        step(StepKind.ANSWER),
        step(StepKind.CARRIER, "direct", "no-path"),
    ]
    route.error = NO_PATH
    done = shell("doctor", "kitchen", "--json")
    check_secrets(done)
    found = checks(done)
    assert {name: found[name]["verdict"] for name in list(found)[-9:]} == {
        "reach": "note",
        "settings": "ok",
        f"broker {url}": "ok",
        "device": "ok",
        "candidates direct": "ok",
        "candidates relay": "note",
        "answer": "ok",
        "carrier direct": "note",
        "path": "failed",
    }
    assert done.code == 3
    assert all(one["advice"] for one in found.values() if one["verdict"] != "ok")
    assert "remote test" in found["candidates relay"]["advice"]


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("pin-mismatch", "another key"),
        ("tls-failed", "TLS"),
        ("refused", "refused"),
        ("not-heard", "does not deliver"),
    ],
)
def test_doctor_says_why_a_broker_cannot_be_used(
    shell: Shell, route: FakeRoute, reason: str, said: str
) -> None:
    route.steps = [step(StepKind.BROKER, f"mqtts://{HOST}:1", reason)]
    route.error = BrokerError("the broker cannot be used", reason=ServerFailure(reason))
    found = checks(shell("doctor", "kitchen", "--via", "direct,relay", "--json"))
    one = found[f"broker mqtts://{HOST}:1"]
    assert said in one["said"]
    assert one["advice"]
    assert "reach" not in found


def test_doctor_tells_a_name_from_a_port(
    shell: Shell, route: FakeRoute, home_with_settings: Path
) -> None:
    with refused_tcp() as refused:
        names, port = "mqtts://broker.invalid", f"mqtts://{refused}"
        store(home_with_settings, remote_settings(brokers=(broker(names), broker(port))))
        route.steps = [step(StepKind.BROKER, one, "unreachable") for one in (names, port)]
        route.error = BrokerError("no broker answers")
        found = checks(shell("doctor", "kitchen", "--json"))
    assert "cannot resolve" in found[f"broker {names}"]["said"]
    assert "does not accept a connection on TCP port" in found[f"broker {port}"]["said"]


def test_doctor_reports_settings_that_are_missing_or_damaged(
    shell: Shell, route: FakeRoute, home_with_settings: Path
) -> None:
    assert not route.steps
    (home_with_settings / "remote.json").write_bytes(b"{")
    done = shell("doctor", "kitchen", "--json")
    assert done.code == 1
    assert checks(done)["settings"]["verdict"] == "failed"
    (home_with_settings / "remote.json").unlink()
    done = shell("doctor", "kitchen", "--json")
    assert done.code == 3
    assert checks(done)["settings"]["verdict"] == "note"
    done = shell("doctor", "kitchen", "--via", "relay", "--json")
    assert done.code == 3
    assert checks(done)["settings"]["verdict"] == "failed"
