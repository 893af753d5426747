"""Every pairing method with the real device, by `handfast pair` and by the blocking client."""

from __future__ import annotations

import json
import sys
import threading
from types import SimpleNamespace
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


def open_window(device: DeviceThread, *names: str, pressed: bool = False) -> str:
    """Open the pairing window of a device and return its address."""
    device.call(lambda: device.app.pairing.open(methods=names, pressed=pressed))
    return f"127.0.0.1:{device.app.pairing.port.number}"


def shown_code(device: DeviceThread) -> str:
    return str(device.do(lambda app: app.pairing.methods.shown_code))


def create_label(device: DeviceThread) -> dict[str, str]:
    """Create a new label and return its text and its code."""

    def make(app: Any) -> dict[str, str]:
        label, words = labels.made(app.access, app.identity.fingerprint, replace=True)
        app.pairing.methods.replace_label(label)
        return {"text": words["label"]["text"], "code": words["label"]["code"]}

    return device.do(make)


def answer_all(device: DeviceThread, *, accept: bool) -> list[str]:
    """Accept or refuse every client at the device; returns the list of the numbers shown there."""
    numbers: list[str] = []

    def decide(app: Any, event: Any) -> None:
        if event.kind is PairingEventKind.PENDING:
            numbers.append(event.ceremony.number)
            app.pairing.ceremonies.decide(event.ceremony.id, accept=accept)

    device.do(lambda app: app.pairing.events.subscribe(lambda event: decide(app, event)))
    return numbers


def failures(device: DeviceThread) -> int:
    def read(app: App) -> int:
        assert app.pairing.window is not None
        return app.pairing.window.failures

    return device.do(read)


def method_of(device: DeviceThread, name: str) -> str:
    """The pairing method of a user's first key."""
    return str(device.do(lambda app: app.access.store.state.users[name].keys[0].method))


# ---------------------------------------------------------------------------- the `pair` command


def test_the_client_pairs_with_the_shown_code(shell: Shell, device_thread: DeviceThread) -> None:
    at = open_window(device_thread)
    done = shell("pair", at, "--code", shown_code(device_thread), "--name", "anna")
    assert (done.code, done.out) == (0, "paired with kitchen as user anna, role owner\n")
    assert f"method code: {meaning(Method.CODE)}" in done.err
    assert method_of(device_thread, "anna") == "code"
    listed = json.loads(shell("devices", "--json").out)
    assert listed["devices"][0]["method"] == "code"
    assert "by code" in shell("devices").out


NO_CURVE = "pycryptodome is not installed; install pycryptodome 4 or newer"


@pytest.fixture
def no_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    """This client's Python has no pycryptodome; the device's has."""
    missing = SimpleNamespace(unavailable=lambda: NO_CURVE)
    monkeypatch.setattr("client_app.pairing.method_choice.jpake", missing)


@pytest.mark.usefixtures("no_curve")
def test_a_client_without_the_library_says_why_it_does_not_take_the_code(
    shell: Shell, device_thread: DeviceThread
) -> None:
    at = open_window(device_thread, "code", "compare")
    expected = str(device_thread.do(lambda app: app.identity.fingerprint.hex))
    answer_all(device_thread, accept=True)
    done = shell("pair", at, "--expect-fingerprint", expected, "--name", "anna", "--yes")
    assert done.code == 0, done
    assert (
        f"the method code is stronger than compare and cannot be used here: {NO_CURVE}" in done.err
    )
    assert method_of(device_thread, "anna") == "compare"


@pytest.mark.usefixtures("no_curve")
def test_a_code_for_a_client_without_the_library_is_refused(
    shell: Shell, device_thread: DeviceThread
) -> None:
    at = open_window(device_thread)
    refused = shell("pair", at, "--code", shown_code(device_thread))
    assert refused.code == 2
    assert f"the pairing method code cannot be used here: {NO_CURVE}" in refused.err
    assert failures(device_thread) == 0


@pytest.mark.usefixtures("no_curve")
def test_nothing_is_said_if_the_user_chose_the_method_or_the_device_offers_no_code(
    shell: Shell, device_thread: DeviceThread
) -> None:
    expected = str(device_thread.do(lambda app: app.identity.fingerprint.hex))
    answer_all(device_thread, accept=True)
    for names, options in ((("compare",), ()), (("code", "compare"), ("--method", "compare"))):
        at = open_window(device_thread, *names)
        proof = ("--expect-fingerprint", expected, "--yes")
        done = shell("pair", at, *proof, *options)
        assert (done.code, "stronger" in done.err) == (0, False), done


@pytest.mark.parametrize(
    ("dash", "end", "encoding"),
    [(" ", "\n", "utf-8"), ("\u2013", "\r\n", "utf-8-sig"), ("-", "\r\nmore\r\n", "utf-16")],
)
def test_the_code_can_be_read_from_standard_input(
    shell: Shell, device_thread: DeviceThread, dash: str, end: str, encoding: str
) -> None:
    """An en dash comes from a word processor; the line end and the encoding from Windows."""
    at = open_window(device_thread, "code")
    code = shown_code(device_thread).replace("-", dash)
    assert (
        shell("pair", at, "--code", "-", "--yes", stdin=f"{code}{end}".encode(encoding)).code == 0
    )


def test_a_wrong_code_exits_with_6_and_shows_no_code(
    shell: Shell, device_thread: DeviceThread
) -> None:
    at = open_window(device_thread)
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
    at = open_window(device_thread)
    assert shell("pair", at, "--code", shown_code(device_thread), "--name", "anna").code == 0
    at = open_window(device_thread)
    again = shell("pair", at, "--code", "0000-0000", "--name", "anna")
    assert (again.code, again.out) == (0, "already paired with kitchen as user anna, role owner\n")
    assert "already knows this client; the code was not checked" in again.err
    assert failures(device_thread) == 0


@pytest.mark.parametrize("typed", ["", "1", "123456789", "12a4-5678", "K7QM-2ZXD-4J", "\x1b[2J"])
def test_a_malformed_code_does_not_count_as_an_attempt(
    shell: Shell, device_thread: DeviceThread, typed: str
) -> None:
    at = open_window(device_thread)
    assert shell("pair", at, "--code", typed or " ", "--yes").code == 2
    assert failures(device_thread) == 0
    assert not device_thread.events("ceremony-started")


def test_the_client_pairs_with_the_printed_code(shell: Shell, device_thread: DeviceThread) -> None:
    code = create_label(device_thread)["code"]
    at = open_window(device_thread)
    assert shell("pair", at, "--code", code.lower(), "--name", "anna").code == 0
    assert method_of(device_thread, "anna") == "code"


@pytest.mark.parametrize("how", ["words", "stdin", "mail", "picture"])
def test_the_client_pairs_with_the_label(
    shell: Shell, device_thread: DeviceThread, tmp_path: Path, how: str
) -> None:
    text = create_label(device_thread)["text"]
    at = open_window(device_thread)
    (tmp_path / "box.png").write_bytes(png(text))
    words = {"words": text.lower(), "picture": str(tmp_path / "box.png")}.get(how, "-")
    typed = {
        "stdin": f"{text[:40]}\n{text[40:]}\n".encode(),
        "mail": f"\r\n> {text[:40]}\r\n> {text[40:]}\r\n".encode("utf-16"),
    }
    result = shell("pair", words, "--at", at, stdin=typed.get(how))
    assert result.code == 0, result
    assert f"method label: {meaning(Method.LABEL)}" in result.err
    assert len(device_thread.events("paired")) == 1
    assert text.split(":")[4] not in result.out + result.err  # the check symbol may be a `:`


def test_a_replaced_label_is_refused(shell: Shell, device_thread: DeviceThread) -> None:
    old, _ = create_label(device_thread)["text"], create_label(device_thread)
    at = open_window(device_thread)
    refused = shell("pair", old, "--at", at)
    assert refused.code == 6, refused
    assert not device_thread.events("paired")


def test_the_label_of_another_device_is_a_key_mismatch(
    shell: Shell, device_thread: DeviceThread
) -> None:
    text = Label(Fingerprint(bytes(32)), b"t" * 16).text
    at = open_window(device_thread)
    refused = shell("pair", text, "--at", at)
    assert refused.code == 5
    assert not device_thread.events("ceremony-started")


def test_a_typing_error_in_a_label_is_found_before_a_connection(
    shell: Shell, device_thread: DeviceThread
) -> None:
    text = create_label(device_thread)["text"]
    at = open_window(device_thread)
    for place in (15, 30, 60, len(text) - 1):
        wrong = f"{text[:place]}{'A' if text[place] != 'A' else 'B'}{text[place + 1 :]}"
        refused = shell("pair", wrong, "--at", at)
        assert (refused.code, "error" in refused.err) == (2, True), refused

    def handshakes(app: App) -> int:
        assert app.pairing.port.server is not None
        return app.pairing.port.server.counters["handshakes"]

    assert device_thread.do(handshakes) == 0


def test_the_button_method_is_used_only_if_it_is_named(
    shell: Shell, device_thread: DeviceThread
) -> None:
    at = open_window(device_thread, "button", pressed=True)
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
def test_methods_that_ask_a_question_need_a_terminal(
    shell: Shell, device_thread: DeviceThread, words: list[str]
) -> None:
    at = open_window(device_thread)
    assert shell("pair", at, *words).code == 2
    assert not device_thread.events("ceremony-started")


def test_a_given_fingerprint_is_reported_as_the_proof(
    shell: Shell, device_thread: DeviceThread
) -> None:
    at, _ = open_window(device_thread, "compare"), answer_all(device_thread, accept=True)
    done = shell("pair", at, "--expect-fingerprint", device_thread.fingerprint.hex)
    assert done.code == 0, done
    assert "method compare: the device has the fingerprint that you gave" in done.err


def test_json_output_names_the_method_and_stderr_is_empty(
    shell: Shell, device_thread: DeviceThread
) -> None:
    done = shell("--json", "pair", open_window(device_thread), "--code", shown_code(device_thread))
    assert (json.loads(done.out)["method"], done.err) == ("code", "")


def test_every_method_has_its_own_meaning() -> None:
    assert len({meaning(method) for method in Method}) == len(Method)


# ----------------------------------------------------------------------------- the blocking client


@pytest.fixture
def client(home: Path, lan: list[object]) -> Any:
    assert not lan
    with Client(home=home) as made:
        yield made


def test_a_script_pairs_with_a_code(client: Client, device_thread: DeviceThread) -> None:
    done = client.pair(open_window(device_thread), name="anna", code=shown_code(device_thread))
    assert (done.method, done.device.user, done.is_new) == ("code", "anna", True)
    assert client.connect(done.device.alias).get("/hello").text.startswith("Hello anna")


def test_the_code_callback_runs_in_a_thread_of_its_own(
    client: Client, device_thread: DeviceThread
) -> None:
    asked: list[str] = []

    def ask() -> str:
        asked.append(threading.current_thread().name)
        return shown_code(device_thread)

    assert client.pair(open_window(device_thread), code=ask).method == "code"
    assert len(asked) == 1
    assert asked[0] not in {"handfast", "MainThread"}


@pytest.mark.parametrize("method", ["sas", "compare"])
def test_a_script_pairs_with_a_comparison_by_both_users(
    client: Client, device_thread: DeviceThread, method: str
) -> None:
    at, theirs = open_window(device_thread), answer_all(device_thread, accept=True)
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


def test_a_refusal_by_the_devices_user_stores_nothing(
    client: Client, device_thread: DeviceThread
) -> None:
    at, _ = open_window(device_thread), answer_all(device_thread, accept=False)
    with pytest.raises(RefusedByUser):
        client.pair(at, method="sas", confirm=lambda _question: True)
    assert client.devices == []


def test_an_unanswered_question_does_not_block_pair_or_close(
    client: Client, device_thread: DeviceThread
) -> None:
    """`input()` cannot be cancelled; `pair` and `close` return although it still blocks."""
    at, _ = open_window(device_thread), answer_all(device_thread, accept=False)
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


def test_an_exception_of_the_confirm_callback_is_raised_by_pair(
    client: Client, device_thread: DeviceThread
) -> None:
    def confirm(_question: object) -> bool:
        raise LookupError("no screen")

    with pytest.raises(LookupError, match="no screen"):
        client.pair(open_window(device_thread), method="compare", confirm=confirm)
    assert client.devices == []


def test_a_script_pairs_with_a_label(client: Client, device_thread: DeviceThread) -> None:
    text = create_label(device_thread)["text"]
    assert client.pair(text, at=open_window(device_thread)).method == "label"


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
def test_errors_of_the_methods_are_raised(
    client: Client, device_thread: DeviceThread, how: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        client.pair(open_window(device_thread), **how)
    assert client.devices == []


def test_the_libraries_for_qr_codes_are_imported_on_demand(shell: Shell) -> None:
    """`handfast devices` must not wait for the import of libraries that it does not use."""
    loaded: Callable[[], set[str]] = lambda: {"segno", "zxingcpp"} & set(sys.modules)  # noqa: E731
    before = loaded()
    assert shell("devices").code == 0
    assert loaded() == before
