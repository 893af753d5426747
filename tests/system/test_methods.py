"""Every pairing method with a real daemon and a real client on pseudo-terminals."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from client_app.sync import Client as Script
from peer.errors import WrongCode
from peer.pairing.label import Label

if TYPE_CHECKING:
    from tests.kit.process import Program
    from tests.kit.system import Client, Device, Stage

pytestmark = pytest.mark.slow

HOST = "127.0.0.1"
CODE = re.compile(r"code  ([0-9]{4}-[0-9]{4})")
DIGITS = re.compile(r"shows  ([0-9]{3} [0-9]{3})\b")
WRONG = "0000-0000"


def unpaired_device(stage: Stage, *, button: bool = False) -> Device:
    """Start a device without users and close its pairing window."""
    device = stage.device()
    if button:
        (device.home / "device.d" / "board.toml").write_text("[board]\nbutton = true\n")
    device.boot()
    device.run("close")
    return device


def open_window(device: Device, *options: str) -> tuple[dict[str, Any], str]:
    """Open a window with a command that does not wait; returns the window and its address."""
    window = device.json("open", "--no-wait", *options)["window"]
    return window, f"{HOST}:{window['port']}"


def open_on_terminal(device: Device, *options: str) -> tuple[Program, str]:
    """Run `open` on a terminal until it shows the instructions; returns it and the address."""
    device_terminal = device.start("open", *options, terminal=True)
    device_terminal.until("handfast pair", on="screen")
    device_terminal.until("fingerprint", on="screen")
    return device_terminal, f"{HOST}:{device.status()['window']['port']}"


def last_match(pattern: re.Pattern[str], screen: str) -> str:
    """The last match on the screen."""
    return str(pattern.findall(screen)[-1])


def key_of(device: Device, user: str) -> dict[str, Any]:
    """The only key of a user, as the device lists it."""
    [key] = device.json("users", "show", user)["user"]["keys"]
    assert isinstance(key, dict)
    return key


def try_wrong_code(client: Client, at: str) -> None:
    """Pair once with a wrong code."""
    with Script(home=client.home) as script, pytest.raises(WrongCode):
        script.pair(at, name="guess", code=WRONG)


# -- code -----------------------------------------------------------------------------------------


def test_a_user_types_the_code_that_the_device_shows(stage: Stage) -> None:
    device, anna = unpaired_device(stage), stage.client("anna")
    device_terminal, at = open_on_terminal(device)
    client_terminal = anna.start("pair", at, "--name", "anna", terminal=True)
    shown = client_terminal.until("Code shown by the device", on="screen")
    device_id = device.json("fingerprint")["id"]
    assert f"Device found: kitchen ({device_id}) at {at}" in shown
    client_terminal.type(
        last_match(CODE, device_terminal.until("(valid for one attempt)", on="screen")).replace(
            "-", " "
        )
    )
    output = client_terminal.end(code=0).out
    assert "paired with kitchen as user anna, role owner" in output
    assert "method code: " in output
    assert "fingerprint" not in output, "a fingerprint is shown although nothing has to be compared"
    assert "paired anna as owner, method code" in device_terminal.end(code=0).out
    assert (key_of(device, "anna")["method"], key_of(device, "anna")["verified"]) == ("code", True)
    assert anna.run("get", "kitchen", "/hello").out.startswith("Hello anna")


def test_a_wrong_code_is_reported_on_both_sides_and_replaced(stage: Stage) -> None:
    device, anna = unpaired_device(stage), stage.client("anna")
    device_terminal, at = open_on_terminal(device)
    first = last_match(CODE, device_terminal.until("(valid for one attempt)", on="screen"))
    wrong = anna.run("--json", "pair", at, "--code", WRONG, "--yes", code=6).error
    assert wrong["kind"] == "WrongCode"
    assert "the code is wrong" in wrong["message"]
    device_terminal.until("2 attempts are left.", on="screen")
    second = last_match(
        CODE, device_terminal.until("(valid for one attempt)", on="screen", times=2)
    )
    assert first != second
    assert anna.run("--json", "pair", at, "--code", first, "--yes", code=6).error
    third = last_match(CODE, device_terminal.until("(valid for one attempt)", on="screen", times=3))
    assert "1 attempt is left." in device_terminal.output("screen")
    paired = anna.run("--json", "pair", at, "--code", third, "--yes", "--name", "anna").value
    assert (paired["user"], paired["role"]) == ("anna", "owner")
    assert "was not paired: the code was wrong" in device_terminal.end(code=0).out


def test_three_wrong_codes_close_the_window_of_the_command(stage: Stage) -> None:
    device, eve = unpaired_device(stage), stage.client("eve")
    opening = device.open()
    for _ in range(3):
        try_wrong_code(eve, opening.address)
    lines = [json.loads(line) for line in opening.program.end(code=6).out.splitlines()]
    kinds = [line.get("event") for line in lines]
    assert kinds == ["window", "ended", "code", "ended", "code", "ended", "closed", None]
    codes = [line["window"]["code"] for line in lines if line.get("event") in {"window", "code"}]
    assert len(set(codes)) == 3
    assert [line["ceremony"]["reason"] for line in lines if "ceremony" in line] == ["mismatch"] * 3
    assert (lines[-1]["paired"], lines[-1]["closed"]) == (None, "failures")
    assert eve.run("--json", "pair", opening.address, "--code", WRONG, "--yes", code=11).error
    assert not device.users()


def test_a_lockout_is_reported_and_paired_clients_are_still_served(stage: Stage) -> None:
    device, anna, eve = (
        unpaired_device(stage, button=True),
        stage.client("anna"),
        stage.client("eve"),
    )
    device.admit(anna, "anna")
    for tries in (3, 3, 3, 1):
        at = f"{HOST}:{device.json('press', '--held', '0.2')['window']['port']}"
        for _ in range(tries):
            try_wrong_code(eve, at)
    refused = eve.run("--json", "pair", at, "--code", WRONG, "--yes", code=6).error
    assert "too many failed pairings" in refused["message"]
    assert "Paired clients are unaffected" in refused["advice"]
    # A short press does not end the lockout.
    for shown in (device.run("press"), device.run("status")):
        assert re.search(
            r"no client can pair for (30|[12]?[0-9]) s\.\n *Paired clients are not", shown.out
        )
    assert anna.run("get", "kitchen", "/hello").out.startswith("Hello anna")
    window, at = open_window(device)  # opening a window on the console ends the lockout
    assert eve.run("pair", at, "--code", window["code"], "--yes", "--name", "mia").code == 0
    assert "no client can pair" not in device.run("status").out


# -- sas ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("typed", ["y", "the digits"])
def test_both_users_see_the_same_six_digits(stage: Stage, typed: str) -> None:
    device, anna = unpaired_device(stage), stage.client("anna")
    device_terminal, at = open_on_terminal(device, "--methods", "sas")
    assert not CODE.search(device_terminal.output("screen"))
    client_terminal = anna.start("pair", at, "--name", "anna", terminal=True)
    theirs = last_match(DIGITS, client_terminal.until("[yes/no", on="screen"))
    ours = last_match(DIGITS, device_terminal.until("[yes/no]", on="screen"))
    assert ours == theirs
    assert device.fingerprint[:8] not in client_terminal.output("screen").replace(" ", "")
    [waiting] = device.json("pending")["pending"]
    assert waiting["number"] == ours.replace(" ", "")
    assert ours in device.run("pending").out
    device_terminal.type("yes")
    device_terminal.until("Accepted. Waiting for the client's user.", on="screen")
    client_terminal.type(ours if typed == "the digits" else typed)
    assert "method sas: " in client_terminal.end(code=0).out
    assert "paired anna as owner, method sas" in device_terminal.end(code=0).out
    assert key_of(device, "anna")["method"] == "sas"


def test_different_digits_refuse_and_nothing_is_stored(stage: Stage) -> None:
    device, anna = unpaired_device(stage), stage.client("anna")
    device_terminal, at = open_on_terminal(device, "--methods", "sas")
    client_terminal = anna.start("pair", at, "--name", "anna", terminal=True)
    number = last_match(DIGITS, client_terminal.until("[yes/no", on="screen")).replace(" ", "")
    device_terminal.until("[yes/no]", on="screen")
    client_terminal.type(f"{(int(number) + 1) % 10**6:06}")
    client_terminal.end(code=1)
    device_terminal.until("(this client is no longer waiting)", on="screen")
    device_terminal.until("'anna' was not paired: its user declined or cancelled.", on="screen")
    assert not device.users()
    assert not anna.aliases


@pytest.mark.parametrize("method", ["sas", "compare"])
def test_a_refusal_by_the_devices_user_stores_nothing(stage: Stage, method: str) -> None:
    device, anna = unpaired_device(stage), stage.client("anna")
    device_terminal, at = open_on_terminal(device, "--methods", method)
    client_terminal = anna.start("pair", at, "--name", "anna", terminal=True)
    client_terminal.until("[yes/no", on="screen")
    device_terminal.until("[yes/no]", on="screen")
    device_terminal.type("no")
    screen = client_terminal.end(code=12).out
    assert re.search(r"\[yes/no[^\n]*\n+handfast: the device refused: its user declined", screen), (
        screen
    )
    device_terminal.until("2 attempts are left.", on="screen")
    assert "void" not in device_terminal.output("screen"), "the answered question was withdrawn"
    device.run("close")
    device_terminal.end(code=12)
    assert not device.users()
    assert not anna.aliases


def test_accept_withdraws_the_question_from_every_terminal(stage: Stage) -> None:
    device, anna = stage.device(), stage.client("anna")
    device.boot(terminal=True)
    window, at = open_window(device)
    client_terminal = anna.start("pair", at, "--name", "anna", "--method", "sas", terminal=True)
    client_terminal.until("[yes/no", on="screen")
    device.daemon.until("[yes/no]", on="screen")
    [waiting] = device.status()["pending"]
    device.run("accept", waiting["id"])
    device.daemon.until("(accepted elsewhere)", on="screen")
    client_terminal.type("y")
    client_terminal.end(code=0)
    assert window["code"] in device.daemon.output("screen")


# -- compare --------------------------------------------------------------------------------------


def test_both_users_compare_two_fingerprints(stage: Stage) -> None:
    device, anna = unpaired_device(stage), stage.client("anna")
    device_terminal, at = open_on_terminal(device)
    client_terminal = anna.start("pair", at, "--name", "anna", "--method", "compare", terminal=True)
    for program, question in ((device_terminal, "[yes/no]"), (client_terminal, "[yes/no]")):
        screen = re.sub(r"\s", "", program.until(question, on="screen"))
        assert device.fingerprint in screen
        assert anna.fingerprint in screen
    client_terminal.type("y")
    device_terminal.type("yes")
    assert "method compare: " in client_terminal.end(code=0).out
    assert "paired anna as owner, method compare" in device_terminal.end(code=0).out


# -- label ----------------------------------------------------------------------------------------


def test_a_picture_of_the_label_pairs_without_a_question(stage: Stage) -> None:
    device, anna = unpaired_device(stage), stage.client("anna")
    picture = stage.folder / "box.png"
    device.run("label", "--png", str(picture))
    window, at = open_window(device, "--methods", "label")
    assert window["methods"] == ["label"]
    done = anna.run("pair", str(picture), "--at", at, "--name", "anna")
    assert done.out == "paired with kitchen as user anna, role owner\n"
    assert "method label: " in done.err
    assert key_of(device, "anna")["method"] == "label"
    assert anna.run("get", "kitchen", "/hello").out.startswith("Hello anna")


def test_the_label_text_can_be_pasted_and_its_code_typed(stage: Stage) -> None:
    device = unpaired_device(stage)
    label = device.json("label")["label"]
    _, at = open_window(device)
    anna, mia = stage.client("anna"), stage.client("mia")
    client_terminal = anna.start("pair", "-", "--at", at, "--name", "anna", terminal=True)
    client_terminal.until("Paste the text of the invite or label", on="screen")
    client_terminal.type(label["text"].lower())
    client_terminal.end(code=0)
    _, at = open_window(device)
    other_terminal = mia.start("pair", at, "--name", "mia", terminal=True)
    other_terminal.until("or printed on its label", on="screen")
    other_terminal.type(label["code"].lower())
    other_terminal.end(code=0)
    assert set(device.users()) == {"anna", "mia"}


def test_a_typing_error_in_a_label_is_found_before_a_connection(stage: Stage) -> None:
    device, anna = unpaired_device(stage), stage.client("anna")
    text = device.json("label")["label"]["text"]
    window, at = open_window(device)
    tap, port = stage.wiretap(at)
    for wrong in (text[:-3] + text[-2] + text[-3] + text[-1], text[:30] + text[31:], text[:-1]):
        if wrong == text:  # swapping two equal characters changes nothing
            continue
        error = anna.run("--json", "pair", wrong, "--at", f"{HOST}:{port}", code=2).error
        assert "the text contains an error" in error["message"]
    assert anna.run("pair", at, "--code", "K7QM-2ZXD-4J", "--yes", code=2).err
    assert tap.output("out").count("\n") == 1, "a client connected"
    assert device.status()["window"]["failures"] == window["failures"] == 0


def test_the_label_of_another_device_is_not_sent(stage: Stage) -> None:
    """The client exits with 5 during the handshake and sends no application data."""
    device, other, anna = unpaired_device(stage), stage.device("attic"), stage.client("anna")
    offline = other.json("label")["label"]["text"]
    device.run("label")  # the device offers the method
    _, at = open_window(device)
    tap, port = stage.wiretap(at)
    error = anna.run("--json", "pair", offline, "--at", f"{HOST}:{port}", code=5).error
    assert error["kind"] == "PinMismatch"
    assert Label.parse_untrusted(offline).device.hex in error["message"]
    output = tap.until("\n> 21/", on="out")  # an alert to the device
    assert "22/0" in output
    assert "23/" not in output, "application data was sent to the wrong device"
    assert not device.events("ceremony-started")
    assert device.status()["window"]["failures"] == 0


# -- button ---------------------------------------------------------------------------------------


def test_a_button_press_admits_the_first_client_as_unverified_guest(stage: Stage) -> None:
    device, olga, anna = (
        unpaired_device(stage, button=True),
        stage.client("olga"),
        stage.client("anna"),
    )
    device.admit(olga, "olga")
    window = device.json("press", "--held", "0.2")["window"]
    assert "button" in window["methods"]
    at = f"{HOST}:{window['port']}"
    done = anna.run("pair", at, "--method", "button", "--yes", "--name", "anna")
    assert done.out == "paired with kitchen as user anna, role guest\n"
    assert "method button: nothing is verified" in done.err
    assert key_of(device, "anna")["verified"] is False
    for listing in (
        *(device.run("users", "list"), device.run("users", "show", "anna")),
        *(olga.run("users", "kitchen"), olga.run("users", "kitchen", "show", "anna")),
        anna.run("devices"),
    ):
        assert "*unverified*" in listing.out, listing
    window, at = open_window(device)
    anna.run("pair", at, "--code", window["code"], "--yes", "--name", "anna")
    assert (key_of(device, "anna")["method"], key_of(device, "anna")["verified"]) == ("code", True)
    for listing in (device.run("users", "list"), anna.run("devices")):
        assert "*unverified*" not in listing.out, listing


def test_the_button_method_is_never_chosen_automatically(stage: Stage) -> None:
    device, anna = unpaired_device(stage, button=True), stage.client("anna")
    at = f"{HOST}:{device.json('press')['window']['port']}"
    anna.run(
        "pair", at, "--name", "anna", code=2
    )  # without a terminal or a code, no fallback to a weaker method
    assert not device.users()


# -- methods that are not offered -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("methods", "options"),
    [
        ("compare", ["--method", "sas"]),
        ("sas", ["--code", "1234-5678"]),
        ("code", ["--method", "compare"]),
        ("code", ["--method", "button"]),
    ],
)
def test_a_method_that_is_not_offered_is_refused(
    stage: Stage, methods: str, options: list[str]
) -> None:
    device, anna = unpaired_device(stage), stage.client("anna")
    _, at = open_window(device, "--methods", methods)
    proved = ["--expect-fingerprint", device.fingerprint, "--yes"]
    error = anna.run("--json", "pair", at, *options, *proved, code=2).error
    assert f"it offers: {methods}" in error["message"]
    assert not device.events("ceremony-started")


def test_open_reports_why_a_method_is_unavailable(stage: Stage) -> None:
    device = unpaired_device(stage)
    for method, reason, code in (
        ("label", "there is no label yet", 8),
        ("button", "only a press of the board's button offers it", 8),
        ("telepathy", "Choose from: label, code, sas, compare, button", 2),
    ):
        assert reason in device.run("open", "--methods", method, code=code).err
    assert "has no button" in device.run("press", code=1).err
