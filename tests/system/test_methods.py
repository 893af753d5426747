"""Every pairing method with a real daemon and a real client, and people at their terminals."""

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


def board(stage: Stage, *, button: bool = False) -> Device:
    """A running device that has not been paired yet."""
    device = stage.device()
    if button:
        (device.home / "device.d" / "board.toml").write_text("[board]\nbutton = true\n")
    device.boot()
    device.run("close")
    return device


def opened(device: Device, *options: str) -> tuple[dict[str, Any], str]:
    """A window without a waiting command, and its address."""
    window = device.json("open", "--no-wait", *options)["window"]
    return window, f"{HOST}:{window['port']}"


def at_the_board(device: Device, *options: str) -> tuple[Program, str]:
    """`open` on a terminal, when it says what to do; and the window's address."""
    person = device.start("open", *options, terminal=True)
    person.until("handfast pair", on="screen")
    person.until("fingerprint", on="screen")
    return person, f"{HOST}:{device.status()['window']['port']}"


def one(pattern: re.Pattern[str], screen: str) -> str:
    """What the screen shows last."""
    return str(pattern.findall(screen)[-1])


def key_of(device: Device, user: str) -> dict[str, Any]:
    """The one key of a user, as the device lists it."""
    [key] = device.json("users", "show", user)["user"]["keys"]
    assert isinstance(key, dict)
    return key


def try_wrong(client: Client, at: str) -> None:
    """One try with a code that is wrong."""
    with Script(home=client.home) as script, pytest.raises(WrongCode):
        script.pair(at, name="guess", code=WRONG)


# -- code -----------------------------------------------------------------------------------------


def test_a_person_types_the_code_of_the_screen(stage: Stage) -> None:
    device, anna = board(stage), stage.client("anna")
    person, at = at_the_board(device)
    laptop = anna.start("pair", at, "--name", "anna", terminal=True)
    laptop.until("Code shown by the device", on="screen")
    laptop.type(one(CODE, person.until("(valid for one attempt)", on="screen")).replace("-", " "))
    said = laptop.end(code=0).out
    assert "paired with kitchen as user anna, role owner" in said
    assert "method code: " in said
    assert "fingerprint" not in said, "nothing else has to be compared"
    assert "paired anna as owner, method code" in person.end(code=0).out
    assert (key_of(device, "anna")["method"], key_of(device, "anna")["verified"]) == ("code", True)
    assert anna.run("get", "kitchen", "/hello").out.startswith("Hello anna")


def test_a_wrong_code_is_told_on_both_sides_and_the_next_is_another(stage: Stage) -> None:
    device, anna = board(stage), stage.client("anna")
    person, at = at_the_board(device)
    first = one(CODE, person.until("(valid for one attempt)", on="screen"))
    wrong = anna.run("--json", "pair", at, "--code", WRONG, "--yes", code=6).error
    assert wrong["kind"] == "WrongCode"
    assert "the code is wrong" in wrong["message"]
    person.until("2 attempts are left.", on="screen")
    second = one(CODE, person.until("(valid for one attempt)", on="screen", times=2))
    assert first != second
    assert anna.run("--json", "pair", at, "--code", first, "--yes", code=6).error
    third = one(CODE, person.until("(valid for one attempt)", on="screen", times=3))
    assert "1 attempt is left." in person.said("screen")
    paired = anna.run("--json", "pair", at, "--code", third, "--yes", "--name", "anna").value
    assert (paired["user"], paired["role"]) == ("anna", "owner")
    assert "was not paired: the code was wrong" in person.end(code=0).out


def test_three_wrong_codes_close_the_window(stage: Stage) -> None:
    device, eve = board(stage), stage.client("eve")
    opening = device.open()
    for _ in range(3):
        try_wrong(eve, opening.address)
    told = [json.loads(line) for line in opening.program.end(code=6).out.splitlines()]
    kinds = [line.get("event") for line in told]
    assert kinds == ["window", "ended", "code", "ended", "code", "ended", "closed", None]
    codes = [line["window"]["code"] for line in told if line.get("event") in {"window", "code"}]
    assert len(set(codes)) == 3
    assert [line["ceremony"]["reason"] for line in told if "ceremony" in line] == ["mismatch"] * 3
    assert (told[-1]["paired"], told[-1]["closed"]) == (None, "failures")
    assert eve.run("--json", "pair", opening.address, "--code", WRONG, "--yes", code=11).error
    assert not device.users()


def test_locked_out_in_plain_words_and_paired_clients_go_on(stage: Stage) -> None:
    device, anna, eve = board(stage, button=True), stage.client("anna"), stage.client("eve")
    device.admit(anna, "anna")
    for tries in (3, 3, 3, 1):
        at = f"{HOST}:{device.json('press', '--held', '0.2')['window']['port']}"
        for _ in range(tries):
            try_wrong(eve, at)
    refused = eve.run("--json", "pair", at, "--code", WRONG, "--yes", code=6).error
    assert "too many failed pairings" in refused["message"]
    assert "Paired clients are unaffected" in refused["advice"]
    for told in (device.run("press"), device.run("status")):  # a press that is too short
        assert re.search(
            r"no client can pair for (30|[12]?[0-9]) s\.\n *Paired clients are not", told.out
        )
    assert anna.run("get", "kitchen", "/hello").out.startswith("Hello anna")
    window, at = opened(device)  # the console ends it
    assert eve.run("pair", at, "--code", window["code"], "--yes", "--name", "mia").code == 0
    assert "no client can pair" not in device.run("status").out


# -- sas ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("typed", ["y", "the digits"])
def test_two_people_see_the_same_six_digits(stage: Stage, typed: str) -> None:
    device, anna = board(stage), stage.client("anna")
    person, at = at_the_board(device, "--methods", "sas")
    assert not CODE.search(person.said("screen"))
    laptop = anna.start("pair", at, "--name", "anna", terminal=True)
    theirs = one(DIGITS, laptop.until("[yes/no", on="screen"))
    ours = one(DIGITS, person.until("[yes/no]", on="screen"))
    assert ours == theirs
    assert device.fingerprint[:8] not in laptop.said("screen").replace(" ", "")
    [waiting] = device.json("pending")["pending"]
    assert waiting["number"] == ours.replace(" ", "")
    assert ours in device.run("pending").out
    person.type("yes")
    person.until("Accepted. Waiting for the client's user.", on="screen")
    laptop.type(ours if typed == "the digits" else typed)
    assert "method sas: " in laptop.end(code=0).out
    assert "paired anna as owner, method sas" in person.end(code=0).out
    assert key_of(device, "anna")["method"] == "sas"


def test_other_digits_are_a_no_and_nothing_is_stored(stage: Stage) -> None:
    device, anna = board(stage), stage.client("anna")
    person, at = at_the_board(device, "--methods", "sas")
    laptop = anna.start("pair", at, "--name", "anna", terminal=True)
    number = one(DIGITS, laptop.until("[yes/no", on="screen")).replace(" ", "")
    person.until("[yes/no]", on="screen")
    laptop.type(f"{(int(number) + 1) % 10**6:06}")
    laptop.end(code=1)
    person.until("(this client is no longer waiting)", on="screen")
    person.until("'anna' was not paired: its user declined or cancelled.", on="screen")
    assert not device.users()
    assert not anna.aliases


@pytest.mark.parametrize("method", ["sas", "compare"])
def test_the_devices_user_says_no(stage: Stage, method: str) -> None:
    device, anna = board(stage), stage.client("anna")
    person, at = at_the_board(device, "--methods", method)
    laptop = anna.start("pair", at, "--name", "anna", terminal=True)
    laptop.until("[yes/no", on="screen")
    person.until("[yes/no]", on="screen")
    person.type("no")
    screen = laptop.end(code=12).out
    assert re.search(r"\[yes/no[^\n]*\n+handfast: the device refused: its user declined", screen), (
        screen
    )
    person.until("2 attempts are left.", on="screen")
    assert "void" not in person.said("screen"), "it was answered here"
    device.run("close")
    person.end(code=12)
    assert not device.users()
    assert not anna.aliases


def test_accept_takes_the_question_off_every_screen(stage: Stage) -> None:
    device, anna = stage.device(), stage.client("anna")
    device.boot(terminal=True)
    window, at = opened(device)
    laptop = anna.start("pair", at, "--name", "anna", "--method", "sas", terminal=True)
    laptop.until("[yes/no", on="screen")
    device.daemon.until("[yes/no]", on="screen")
    [waiting] = device.status()["pending"]
    device.run("accept", waiting["id"])
    device.daemon.until("(accepted elsewhere)", on="screen")
    laptop.type("y")
    laptop.end(code=0)
    assert window["code"] in device.daemon.said("screen")


# -- compare --------------------------------------------------------------------------------------


def test_two_people_compare_two_fingerprints(stage: Stage) -> None:
    device, anna = board(stage), stage.client("anna")
    person, at = at_the_board(device)
    laptop = anna.start("pair", at, "--name", "anna", "--method", "compare", terminal=True)
    for program, question in ((person, "[yes/no]"), (laptop, "[yes/no]")):
        screen = re.sub(r"\s", "", program.until(question, on="screen"))
        assert device.fingerprint in screen
        assert anna.fingerprint in screen
    laptop.type("y")
    person.type("yes")
    assert "method compare: " in laptop.end(code=0).out
    assert "paired anna as owner, method compare" in person.end(code=0).out


# -- label ----------------------------------------------------------------------------------------


def test_a_photo_of_the_label_pairs_without_a_question(stage: Stage) -> None:
    device, anna = board(stage), stage.client("anna")
    picture = stage.folder / "box.png"
    device.run("label", "--png", str(picture))
    window, at = opened(device, "--methods", "label")
    assert window["methods"] == ["label"]
    done = anna.run("pair", str(picture), "--at", at, "--name", "anna")
    assert done.out == "paired with kitchen as user anna, role owner\n"
    assert "method label: " in done.err
    assert key_of(device, "anna")["method"] == "label"
    assert anna.run("get", "kitchen", "/hello").out.startswith("Hello anna")


def test_the_labels_text_is_pasted_and_its_code_typed(stage: Stage) -> None:
    device = board(stage)
    label = device.json("label")["label"]
    _, at = opened(device)
    anna, mia = stage.client("anna"), stage.client("mia")
    laptop = anna.start("pair", "-", "--at", at, "--name", "anna", terminal=True)
    laptop.until("Paste the text of the invite or label", on="screen")
    laptop.type(label["text"].lower())
    laptop.end(code=0)
    _, at = opened(device)
    phone = mia.start("pair", at, "--name", "mia", terminal=True)
    phone.until("or printed on its label", on="screen")
    phone.type(label["code"].lower())
    phone.end(code=0)
    assert set(device.users()) == {"anna", "mia"}


def test_a_label_with_a_typing_error_is_told_before_anything_is_sent(stage: Stage) -> None:
    device, anna = board(stage), stage.client("anna")
    text = device.json("label")["label"]["text"]
    window, at = opened(device)
    tap, port = stage.wiretap(at)
    for wrong in (text[:-3] + text[-2] + text[-3] + text[-1], text[:30] + text[31:], text[:-1]):
        if wrong == text:  # two equal neighbours
            continue
        error = anna.run("--json", "pair", wrong, "--at", f"{HOST}:{port}", code=2).error
        assert "the text contains an error" in error["message"]
    assert anna.run("pair", at, "--code", "K7QM-2ZXD-4J", "--yes", code=2).err
    assert tap.said("out").count("\n") == 1, "a client connected"
    assert device.status()["window"]["failures"] == window["failures"] == 0


def test_the_label_of_another_device_stays_with_the_client(stage: Stage) -> None:
    """Exit 5 inside the handshake: not one record of application data leaves the client."""
    device, other, anna = board(stage), stage.device("attic"), stage.client("anna")
    offline = other.json("label")["label"]["text"]
    device.run("label")  # so that the method would be offered
    _, at = opened(device)
    tap, port = stage.wiretap(at)
    error = anna.run("--json", "pair", offline, "--at", f"{HOST}:{port}", code=5).error
    assert error["kind"] == "PinMismatch"
    assert Label.parse_untrusted(offline).device.hex in error["message"]
    said = tap.until("\n> 21/", on="out")  # the device is told by an alert
    assert "22/0" in said
    assert "23/" not in said, "something was sent to the wrong device"
    assert not device.events("ceremony-started")
    assert device.status()["window"]["failures"] == 0


# -- button ---------------------------------------------------------------------------------------


def test_a_press_lets_the_first_in_as_an_unverified_guest(stage: Stage) -> None:
    device, olga, anna = board(stage, button=True), stage.client("olga"), stage.client("anna")
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
    window, at = opened(device)
    anna.run("pair", at, "--code", window["code"], "--yes", "--name", "anna")
    assert (key_of(device, "anna")["method"], key_of(device, "anna")["verified"]) == ("code", True)
    for listing in (device.run("users", "list"), anna.run("devices")):
        assert "*unverified*" not in listing.out, listing


def test_the_best_is_never_the_button(stage: Stage) -> None:
    device, anna = board(stage, button=True), stage.client("anna")
    at = f"{HOST}:{device.json('press')['window']['port']}"
    anna.run("pair", at, "--name", "anna", code=2)  # no terminal, no code: no silent way down
    assert not device.users()


# -- what is not offered --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("methods", "wish"),
    [
        ("compare", ["--method", "sas"]),
        ("sas", ["--code", "1234-5678"]),
        ("code", ["--method", "compare"]),
        ("code", ["--method", "button"]),
    ],
)
def test_a_method_that_is_not_offered(stage: Stage, methods: str, wish: list[str]) -> None:
    device, anna = board(stage), stage.client("anna")
    _, at = opened(device, "--methods", methods)
    proved = ["--expect-fingerprint", device.fingerprint, "--yes"]
    error = anna.run("--json", "pair", at, *wish, *proved, code=2).error
    assert f"it offers: {methods}" in error["message"]
    assert not device.events("ceremony-started")


def test_what_the_board_cannot_do_is_told_at_the_board(stage: Stage) -> None:
    device = board(stage)
    for method, lacking in (
        ("label", "there is no label yet"),
        ("button", "only a press of the board's button offers it"),
        ("telepathy", "Choose from: label, code, sas, compare, button"),
    ):
        assert lacking in device.run("open", "--methods", method, code=2).err
    assert "has no button" in device.run("press", code=1).err
