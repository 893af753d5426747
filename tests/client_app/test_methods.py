"""`handfast pair` and the blocking client by every method, with the real device."""

from __future__ import annotations

import json
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from client_app.pairing.method_choice import meaning
from client_app.sync import Client
from device_app.app import App
from device_app.pairing import labels
from device_app.pairing.events import PairingEventKind
from peer.errors import Malformed, PinMismatch, RefusedByUser, UsageError, WrongCode
from peer.identity import Fingerprint
from peer.pairing.label import Label
from peer.pairing.methods import Method
from peer.terminal.qr import png
from tests.kit.shell import Shell
from tests.kit.threads import DeviceThread

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def opened(device: DeviceThread, *names: str, pressed: bool = False) -> str:
    """Open its window; the address."""
    device.call(lambda: device.app.pairing.open(methods=names, pressed=pressed))
    return f"127.0.0.1:{device.app.pairing.port.number}"


def shown_code(device: DeviceThread) -> str:
    return str(device.do(lambda app: app.pairing.methods.shown_code))


def made_label(device: DeviceThread) -> dict[str, str]:
    """A new label: its text and its code."""

    def make(app: Any) -> dict[str, str]:
        label, words = labels.made(app.access, app.identity.fingerprint, replace=True)
        app.pairing.methods.replace_label(label)
        return {"text": words["label"]["text"], "code": words["label"]["code"]}

    return device.do(make)


def answers(device: DeviceThread, *, accept: bool) -> list[str]:
    """The device's user, who answers every client alike. The numbers that they have seen."""
    numbers: list[str] = []

    def heard(app: Any, news: Any) -> None:
        if news.kind is PairingEventKind.PENDING:
            numbers.append(news.ceremony.number)
            app.pairing.ceremonies.decide(news.ceremony.id, accept=accept)

    device.do(lambda app: app.pairing.events.subscribe(lambda news: heard(app, news)))
    return numbers


def failures(device: DeviceThread) -> int:
    def read(app: App) -> int:
        assert app.pairing.window is not None
        return app.pairing.window.failures

    return device.do(read)


def method_of(device: DeviceThread, name: str) -> str:
    """How the first key of a user was paired."""
    return str(device.do(lambda app: app.access.store.state.users[name].keys[0].method))


# -- the command ----------------------------------------------------------------------------------


def test_by_the_code(shell: Shell, device_thread: DeviceThread) -> None:
    at = opened(device_thread)
    done = shell("pair", at, "--code", shown_code(device_thread), "--name", "anna")
    assert (done.code, done.out) == (0, "paired with kitchen as user anna, role owner\n")
    assert f"method code: {meaning(Method.CODE)}" in done.err
    assert method_of(device_thread, "anna") == "code"
    listed = json.loads(shell("devices", "--json").out)
    assert listed["devices"][0]["method"] == "code"
    assert "by code" in shell("devices").out


def test_the_code_comes_by_standard_input(shell: Shell, device_thread: DeviceThread) -> None:
    at = opened(device_thread, "code")
    code = shown_code(device_thread).replace("-", " ")
    assert shell("pair", at, "--code", "-", "--yes", stdin=f"{code}\n".encode()).code == 0


def test_a_wrong_code_says_no_more_than_that(shell: Shell, device_thread: DeviceThread) -> None:
    at = opened(device_thread)
    before = shown_code(device_thread)
    refused = shell("--json", "pair", at, "--code", "0000-0000")
    error = json.loads(refused.err.splitlines()[-1])["error"]
    assert (refused.code, error["kind"], error["exit"]) == (6, "WrongCode", 6)
    assert "0000" not in refused.err
    assert before not in refused.err
    assert shown_code(device_thread) != before
    assert failures(device_thread) == 1
    assert shell("devices").out == ""


def test_a_code_for_a_paired_device_is_not_checked(
    shell: Shell, device_thread: DeviceThread
) -> None:
    """Pairing again changes nothing, so it succeeds; the client says that the code was not used."""
    at = opened(device_thread)
    assert shell("pair", at, "--code", shown_code(device_thread), "--name", "anna").code == 0
    at = opened(device_thread)
    again = shell("pair", at, "--code", "0000-0000", "--name", "anna")
    assert (again.code, again.out) == (0, "already paired with kitchen as user anna, role owner\n")
    assert "already knows this client; the code was not checked" in again.err
    assert failures(device_thread) == 0


@pytest.mark.parametrize("typed", ["", "1", "123456789", "12a4-5678", "K7QM-2ZXD-4J", "\x1b[2J"])
def test_what_is_no_code_costs_no_try(
    shell: Shell, device_thread: DeviceThread, typed: str
) -> None:
    at = opened(device_thread)
    assert shell("pair", at, "--code", typed or " ", "--yes").code == 2
    assert failures(device_thread) == 0
    assert not device_thread.events("ceremony-started")


def test_by_the_printed_code(shell: Shell, device_thread: DeviceThread) -> None:
    code = made_label(device_thread)["code"]
    at = opened(device_thread)
    assert shell("pair", at, "--code", code.lower(), "--name", "anna").code == 0
    assert method_of(device_thread, "anna") == "code"


@pytest.mark.parametrize("how", ["words", "stdin", "picture"])
def test_by_the_label(shell: Shell, device_thread: DeviceThread, tmp_path: Path, how: str) -> None:
    text = made_label(device_thread)["text"]
    at = opened(device_thread)
    (tmp_path / "box.png").write_bytes(png(text))
    words = {"words": text.lower(), "stdin": "-", "picture": str(tmp_path / "box.png")}[how]
    typed = f"{text[:40]}\n{text[40:]}\n".encode() if how == "stdin" else None
    said = shell("pair", words, "--at", at, stdin=typed)
    assert said.code == 0, said
    assert f"method label: {meaning(Method.LABEL)}" in said.err
    assert len(device_thread.events("paired")) == 1
    assert text.split("*")[3] not in said.out + said.err  # the check symbol may be a `*`


def test_an_old_label_is_worth_nothing(shell: Shell, device_thread: DeviceThread) -> None:
    old, _ = made_label(device_thread)["text"], made_label(device_thread)
    at = opened(device_thread)
    refused = shell("pair", old, "--at", at)
    assert refused.code == 6, refused
    assert not device_thread.events("paired")


def test_the_label_of_another_device(shell: Shell, device_thread: DeviceThread) -> None:
    text = Label(Fingerprint(bytes(32)), b"t" * 16).text
    at = opened(device_thread)
    refused = shell("pair", text, "--at", at)
    assert refused.code == 5
    assert not device_thread.events("ceremony-started")


def test_a_typing_error_in_a_label(shell: Shell, device_thread: DeviceThread) -> None:
    text = made_label(device_thread)["text"]
    at = opened(device_thread)
    for place in (15, 30, 60, len(text) - 1):
        wrong = f"{text[:place]}{'A' if text[place] != 'A' else 'B'}{text[place + 1 :]}"
        told = shell("pair", wrong, "--at", at)
        assert (told.code, "error" in told.err) == (2, True), told

    def handshakes(app: App) -> int:
        assert app.pairing.port.server is not None
        return app.pairing.port.server.counters["handshakes"]

    assert device_thread.do(handshakes) == 0


def test_by_the_button_only_by_name(shell: Shell, device_thread: DeviceThread) -> None:
    at = opened(device_thread, "button", pressed=True)
    assert shell("pair", at, "--code", "1234-5678").code == 2
    assert shell("pair", at, "--yes").code == 2
    done = shell("pair", at, "--method", "button", "--yes", "--name", "anna")
    assert done.out == "paired with kitchen as user anna, role guest\n"
    assert "nothing is verified" in done.err
    assert "*unverified*" in shell("devices").out
    assert not device_thread.do(lambda app: app.access.store.state.users["anna"].keys[0].verified)


@pytest.mark.parametrize(
    "words",
    [
        ["--yes"],
        ["--method", "sas", "--yes"],
        ["--method", "compare"],
        [],
    ],
)
def test_nobody_is_there_to_compare(
    shell: Shell, device_thread: DeviceThread, words: list[str]
) -> None:
    at = opened(device_thread)
    assert shell("pair", at, *words).code == 2
    assert not device_thread.events("ceremony-started")


def test_a_fingerprint_that_was_given_is_what_proved(
    shell: Shell, device_thread: DeviceThread
) -> None:
    at, _ = opened(device_thread, "compare"), answers(device_thread, accept=True)
    done = shell("pair", at, "--expect-fingerprint", device_thread.fingerprint.hex)
    assert done.code == 0, done
    assert "method compare: the device has the fingerprint that you gave" in done.err


def test_json_says_the_method_and_nothing_beside(shell: Shell, device_thread: DeviceThread) -> None:
    done = shell("--json", "pair", opened(device_thread), "--code", shown_code(device_thread))
    assert (json.loads(done.out)["method"], done.err) == ("code", "")


def test_every_method_says_what_it_proves() -> None:
    assert len({meaning(method) for method in Method}) == len(Method)


# -- the blocking face ----------------------------------------------------------------------------


@pytest.fixture
def client(home: Path, lan: list[object]) -> Any:
    assert not lan
    with Client(home=home) as made:
        yield made


def test_a_script_pairs_by_a_code(client: Client, device_thread: DeviceThread) -> None:
    done = client.pair(opened(device_thread), name="anna", code=shown_code(device_thread))
    assert (done.method, done.device.user, done.is_new) == ("code", "anna", True)
    assert client.connect(done.device.alias).get("/hello").text.startswith("Hello anna")


def test_a_script_asks_for_the_code_in_a_thread_of_its_own(
    client: Client, device_thread: DeviceThread
) -> None:
    asked: list[str] = []

    def ask() -> str:
        asked.append(threading.current_thread().name)
        return shown_code(device_thread)

    assert client.pair(opened(device_thread), code=ask).method == "code"
    assert len(asked) == 1
    assert asked[0] not in {"handfast", "MainThread"}


@pytest.mark.parametrize("method", ["sas", "compare"])
def test_both_users_look(client: Client, device_thread: DeviceThread, method: str) -> None:
    at, theirs = opened(device_thread), answers(device_thread, accept=True)
    ours: list[str] = []
    waited: list[float] = []

    def confirm(question: Any) -> bool:
        ours.append(question.number)
        return True

    done = client.pair(at, method=method, confirm=confirm, on_wait=waited.append)
    assert done.method == method
    assert ours == theirs
    assert bool(ours[0]) == (method == "sas")
    assert all(0 < seconds <= 120 for seconds in waited)


def test_a_no_of_the_devices_user(client: Client, device_thread: DeviceThread) -> None:
    at, _ = opened(device_thread), answers(device_thread, accept=False)
    with pytest.raises(RefusedByUser):
        client.pair(at, method="sas", confirm=lambda _question: True)
    assert client.devices == []


def test_a_question_that_nobody_answers_any_more_holds_nobody_up(
    client: Client, device_thread: DeviceThread
) -> None:
    """`input()` cannot be called off; the call ends, and so does the client."""
    at, _ = opened(device_thread), answers(device_thread, accept=False)
    release = threading.Event()
    answered: list[bool] = []

    def confirm(_question: object) -> bool:
        answered.append(release.wait(20))
        return True

    with pytest.raises(RefusedByUser):
        client.pair(at, method="sas", confirm=confirm)
    client.close()
    assert answered == []
    release.set()


def test_what_a_question_raises_comes_through(client: Client, device_thread: DeviceThread) -> None:
    def confirm(_question: object) -> bool:
        raise LookupError("no screen")

    with pytest.raises(LookupError, match="no screen"):
        client.pair(opened(device_thread), method="compare", confirm=confirm)
    assert client.devices == []


def test_a_script_pairs_by_a_label(client: Client, device_thread: DeviceThread) -> None:
    text = made_label(device_thread)["text"]
    assert client.pair(text, at=opened(device_thread)).method == "label"


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ({"code": "0000-0000"}, WrongCode),
        ({"code": "12"}, UsageError),
        ({"method": "button"}, UsageError),
        ({"method": "sas"}, UsageError),
        ({"method": "telepathy"}, UsageError),
        ({"code": "0000-0000", "expect": "01" * 32}, PinMismatch),
        ({"expect": "xyz"}, Malformed),
    ],
)
def test_errors_of_the_methods_come_through(
    client: Client, device_thread: DeviceThread, how: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        client.pair(opened(device_thread), **how)
    assert client.devices == []


def test_what_pairing_does_not_need_is_not_loaded(shell: Shell) -> None:
    """Drawing a code takes a library that a plain `devices` need not wait for."""
    loaded: Callable[[], set[str]] = lambda: {"segno", "zxingcpp"} & set(sys.modules)  # noqa: E731
    before = loaded()
    assert shell("devices").code == 0
    assert loaded() == before
