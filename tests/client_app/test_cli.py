"""Every verb, exit code and output format of the command line, run in this process."""

import importlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest

from client_app.cli import VERBS, main
from client_app.commands.common import Family, Verb
from client_app.known_devices import DeviceBook
from client_app.models import KnownDevice
from client_app.pairing.ceremony import Comparison
from peer.identity import Fingerprint
from peer.net.discovery import Advert
from tests.kit.shell import Shell
from tests.kit.threads import BoardThread


def known(alias: str = "kitchen", number: int = 1) -> KnownDevice:
    return KnownDevice(alias, Fingerprint(bytes([number]) * 32), user="anna", role="owner")


@pytest.fixture
def book(shell: Shell) -> DeviceBook:
    return DeviceBook(shell.home / "devices.json")


def lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


# ---------------------------------------------------------------------------------- every verb


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_every_verb_has_an_example(shell: Shell, verb: str) -> None:
    done = shell(verb, "--help")
    assert done.code == 0
    assert re.search(rf"Example:\s+(\S+ )*.*handfast {verb}", done.out, re.DOTALL)
    for option in ("--json", "--quiet", "--verbose", "--home"):
        assert option in done.out
    command: Any = importlib.import_module(f"client_app.commands.{VERBS[verb][0]}").command
    assert isinstance(command, Verb | Family)
    assert command.get_short_help_str(200).startswith(VERBS[verb][1].rstrip(".").split(";")[0][:12])


FAMILIES = {
    verb: importlib.import_module(f"client_app.commands.{module}").command
    for verb, (module, _) in VERBS.items()
    if verb in {"users", "invites"}
}


@pytest.mark.parametrize(
    ("family", "verb"), [(name, verb) for name, one in FAMILIES.items() for verb in one.commands]
)
def test_every_verb_of_a_group_has_a_help_text(shell: Shell, family: str, verb: str) -> None:
    done = shell(family, "kitchen", verb, "--help")
    assert done.code == 0
    assert f"handfast {family} kitchen {verb}" in done.out
    assert f"{family} DEVICE {verb}" in done.out
    for option in ("--json", "--quiet", "--verbose", "--home"):
        assert option in done.out
    for help_first in ([family, "--help"], [family, "kitchen", "--help"]):
        assert verb in shell(*help_first).out


def test_the_help_lists_all_verbs_and_exit_codes(shell: Shell) -> None:
    done = shell("--help")
    assert done.code == 0
    assert all(verb in done.out for verb in VERBS)
    assert "130 interrupted" in done.out
    assert shell("--version").code == 0
    assert "handfast" in shell("--version").out


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["get"],
        ["get", "kitchen"],
        ["get", "kitchen", "/x", "--format", "xml"],
        ["observe", "kitchen", "/x", "--count", "0"],
        ["discover", "--timeout", "soon"],
        ["discover", "--timeout", "-1s"],
        ["pair", "--yes"],
        ["pair", "--method", "magic"],
        ["pair", "--expect-fingerprint", "12"],
        ["pair"],
        ["put", "kitchen", "/x"],
        ["put", "kitchen", "/x", "--data", "{", "--format", "cbor"],
        ["put", "kitchen", "/x", "--data", "a", "--file", "-"],
        ["address", "kitchen", "a:b:c"],
        ["import", "/nowhere/at/all"],
        ["completion", "csh"],
        ["pair", "a", "b"],
        ["pair", "x" * 300],
        ["pair", "HANDFAST:I:ABC"],
        ["users"],
        ["users", "kitchen", "nonsense"],
        ["users", "kitchen", "--nonsense"],
        ["users", "kitchen", "set", "anna"],
        ["users", "kitchen", "add", "anna", "--until", "soon"],
        ["invites", "kitchen", "withdraw", "no-id"],
        ["invite", "kitchen"],
        ["invite", "kitchen", "mia", "--for", "0s"],
        ["invite", "kitchen", "mia", "--uses", "0"],
        ["open", "kitchen", "--close", "--role", "guest"],
        ["events", "kitchen", "--since", "1", "--last", "1"],
        ["events", "kitchen", "--since", "-1"],
        ["can", "kitchen"],
        ["--nonsense"],
    ],
    ids=" ".join,
)
def test_invalid_arguments_exit_with_2(shell: Shell, words: list[str]) -> None:
    done = shell(*words)
    assert done.code == 2
    assert done.out == ""
    assert done.err


def test_the_error_for_a_missing_value_names_its_option(shell: Shell) -> None:
    assert "--expect-fingerprint" in shell("pair").err
    assert "--expect-fingerprint" in shell("pair", "--yes").err
    assert "--data" in shell("put", "kitchen", "/x").err


# -------------------------------------------------------------------------------- known devices


def test_known_devices_can_be_renamed_addressed_and_forgotten(
    shell: Shell, book: DeviceBook
) -> None:
    empty = shell("devices")
    assert (empty.code, empty.out) == (0, "")
    assert "No devices are paired yet. Run `handfast pair`" in empty.err
    book.put(known())
    assert "kitchen" in shell("devices").out
    assert known().fingerprint.grouped in shell("devices").out
    assert shell("rename", "kitchen", "cellar").code == 0
    assert shell("rename", "kitchen", "x").code == 3
    assert shell("rename", "cellar", "no good").code == 2
    assert shell("address", "cellar", "lamp.example:7", "[2001:db8::1]:8").code == 0
    assert shell("address", "cellar", "lamp.example:7").code == 0
    value = json.loads(shell("address", "cellar", "--json").out)
    assert value["addresses"] == ["lamp.example:7", "[2001:db8::1]:8"]
    assert value["schema"] == 1
    assert shell("address", "cellar", "lamp.example:7", "--remove").code == 0
    assert json.loads(shell("address", "cellar", "--json").out)["addresses"] == ["[2001:db8::1]:8"]
    assert shell("address", "cellar", "--remove").code == 0
    assert book.find("cellar").addresses == ()
    gone = shell("forget", "cellar")
    assert gone.code == 0
    assert "still" in gone.err
    assert shell("forget", "cellar").code == 3
    assert json.loads(shell("devices", "--json").out) == {"schema": 1, "devices": []}


@pytest.mark.parametrize("places", [["192.0.2.7:4711"], []])
def test_a_removed_address_is_removed_also_as_the_last_one_that_worked(
    shell: Shell, book: DeviceBook, places: list[str]
) -> None:
    book.put(replace(known(), addresses=("192.0.2.7:4711",), last_seen="192.0.2.7:4711"))
    printed = shell("address", "kitchen", *places, "--remove").out
    assert "192.0.2.7" not in printed
    book.put(replace(known(), addresses=("192.0.2.7:4711",), last_seen="192.168.1.2:5684"))
    assert "192.168.1.2" in shell("address", "kitchen", *places, "--remove").out
    last = f"192.0.2.7:{known().port}"
    book.put(replace(known(), addresses=("192.0.2.7",), last_seen=last))
    assert "192.0.2.7" not in shell("address", "kitchen", "192.0.2.7", "--remove").out


def test_global_options_work_before_and_after_the_verb(shell: Shell, book: DeviceBook) -> None:
    book.put(known())
    assert shell("--json", "devices").out == shell("devices", "--json").out
    assert shell("-q", "forget", "kitchen").err == ""


def test_exported_devices_can_be_imported(shell: Shell, book: DeviceBook, tmp_path: Path) -> None:
    book.put(known())
    book.put(known("attic", 2))
    exported = shell("export").raw
    assert b"PRIVATE" not in exported
    file = tmp_path / "devices.json"
    file.write_bytes(exported)
    again = shell("import", str(file), "--json")
    assert json.loads(again.out)["devices"] == []
    shell("forget", "attic")
    assert shell("import", "-", stdin=exported).code == 0
    assert [one.alias for one in book.all()] == ["attic", "kitchen"]
    shell("forget", "attic")
    book.put(known("attic", 3))
    before = book.path.read_bytes()
    assert shell("import", str(file)).code == 2
    assert book.path.read_bytes() == before
    file.write_text("[]")
    assert shell("import", str(file)).err.startswith("0 imported")
    file.write_text("{")
    assert shell("import", str(file)).code == 1


@pytest.mark.parametrize(
    "words",
    [["devices"], ["get", "kitchen", "/x"], ["forget", "kitchen"], ["doctor"], ["export"]],
    ids=" ".join,
)
def test_a_damaged_devices_file_exits_with_1_and_is_not_changed(
    shell: Shell, book: DeviceBook, words: list[str]
) -> None:
    book.path.parent.mkdir()
    book.path.write_text("{")
    done = shell(*words)
    assert done.code == 1
    assert "not JSON" in done.err + done.out
    assert "backup" in done.err + done.out
    assert book.path.read_text() == "{"


def test_an_error_is_printed_as_json(shell: Shell) -> None:
    done = shell("get", "kitchen", "/x", "--json")
    assert done.code == 3
    assert done.out == ""
    (value,) = lines(done.err)
    assert value["schema"] == 1
    assert value["error"]["exit"] == 3
    assert value["error"]["kind"] == "NotKnown"
    assert value["error"]["advice"]


def test_an_internal_error_is_reported_as_such(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_self: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(DeviceBook, "all", broken)
    done = shell("devices")
    assert (done.code, done.out) == (1, "")
    assert "internal error: ZeroDivisionError" in done.err
    assert "Traceback" not in done.err
    assert "Traceback" in shell("devices", "-v").err


# -------------------------------------------------------------------------------------- the LAN


def test_discover_lists_announced_devices(shell: Shell, lan: list[Advert]) -> None:
    assert shell("discover", "--timeout", "1m").out == ""
    lan.append(
        Advert("ABCD0123", "a\x1b[2Jb", ("192.0.2.1", "2001:db8::1"), 5684, 5685, True, 1, "h.")
    )
    done = shell("discover", "--timeout", "1m")
    assert done.code == 0
    assert "192.0.2.1:5684, [2001:db8::1]:5684" in done.out
    assert "open for pairing" in done.out
    assert "\x1b" not in done.out
    (value,) = json.loads(shell("discover", "--timeout", "1m", "--json").out)["devices"]
    assert value["id"] == "ABCD0123"
    assert value["pairing_open"] is True


def test_discover_watch_prints_json_lines(shell: Shell, lan: list[Advert]) -> None:
    here = Advert("ABCD0123", "lamp", ("192.0.2.1",), 5684, 0, False, 1, "h.")
    gone = Advert("ABCD0123", "lamp", ("192.0.2.1",), 5684, 0, False, 1, "h.", is_present=False)
    lan += [here, gone]
    done = shell("discover", "--watch", "--json")
    assert [value["present"] for value in lines(done.out)] == [True, False]
    assert "left" in shell("discover", "--watch").out


# ------------------------------------------------------------------------------ with a device


def test_a_paired_device_answers_requests(paired_shell: Shell, board_thread: BoardThread) -> None:
    shell, board = paired_shell, board_thread.board
    assert shell("get", "kitchen", "/hello").out == "hello anna\n"
    assert shell("get", "kitchen", "/hello", "--raw").raw == b"hello anna"
    put = shell("put", "kitchen", "/light", "--data", '{"on": true}', "--format", "cbor")
    assert (put.code, put.out) == (0, "")
    assert board.light == b"\xa1bon\xf5"
    assert shell("put", "kitchen", "/light", "--file", "-", stdin=b"\x00\xff").code == 0
    assert board.light == b"\x00\xff"
    assert shell("get", "kitchen", "/light", "--raw").raw == b"\x00\xff"
    assert shell("get", "kitchen", "/light").out == "2 bytes: 00 ff\n"
    assert shell("post", "kitchen", "/hello", "--data", "hi").code == 0
    assert board.light == b"posted"
    value = json.loads(shell("get", "kitchen", "/light", "--format", "cbor", "--json").out)
    assert value == {
        "schema": 1,
        "code": "2.05",
        "format": "cbor",
        "value": {"light": "posted", "raw": {"hex": "01"}},
    }
    assert "h'01'" in shell("get", "kitchen", "/light", "--format", "cbor").out
    assert shell("delete", "kitchen", "/light").code == 0
    me = json.loads(shell("whoami", "kitchen", "--json").out)
    assert (me["user"], me["role"], me["path"]) == ("anna", "owner", "local")
    assert "anna" in shell("whoami", "kitchen").out


def test_pairing_again_changes_nothing(paired_shell: Shell, board_thread: BoardThread) -> None:
    shell, board = paired_shell, board_thread.board
    before = (shell.home / "devices.json").read_bytes()
    words = ("pair", board.pairing_address, "--expect-fingerprint", board.fingerprint.grouped)
    done = shell(*words, "--yes", "--json")
    assert done.code == 0
    assert json.loads(done.out)["new"] is False
    assert (shell.home / "devices.json").read_bytes() == before


def test_text_from_the_device_is_escaped(paired_shell: Shell, board_thread: BoardThread) -> None:
    shell, board = paired_shell, board_thread.board
    evil = "\x1b]0;owned\x07\u202e"
    board.users = dict.fromkeys(board.users, evil)
    for words in (["get", "kitchen", "/hello"], ["whoami", "kitchen"]):
        for done in (shell(*words), shell(*words, "--json")):
            assert done.code == 0
            assert not set(evil[:1] + "\x07\u202e") & set(done.out + done.err)
    assert shell("get", "kitchen", "/hello", "--raw").raw == f"hello {evil}".encode()


def test_observe_ends_after_the_given_count(paired_shell: Shell) -> None:
    done = paired_shell("observe", "kitchen", "/count", "--count", "1", "--json")
    assert [value["value"] for value in lines(done.out)] == [{"count": 0}]
    done = paired_shell("observe", "kitchen", "/hello")
    assert (done.code, done.out) == (0, "hello anna\n")
    assert done.err == "/hello cannot be observed; this is its present state.\n"


@pytest.mark.parametrize(
    ("path", "code"), [("/nothing", 8), ("/vault", 7), ("/broken", 9)], ids=["8", "7", "9"]
)
def test_an_error_response_exits_with_its_code(paired_shell: Shell, path: str, code: int) -> None:
    done = paired_shell("get", "kitchen", path)
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith("handfast: ")


def test_a_revoked_user_exits_with_10(paired_shell: Shell, board_thread: BoardThread) -> None:
    board_thread.board.users.clear()
    for words in (["get", "kitchen", "/hello"], ["observe", "kitchen", "/count"]):
        assert paired_shell(*words).code == 10
    assert paired_shell("doctor", "kitchen").code == 10


def test_an_unreachable_device_exits_with_3(paired_shell: Shell, board_thread: BoardThread) -> None:
    board_thread.do(board_thread.board.stop)
    assert paired_shell("get", "kitchen", "/hello").code == 3
    done = paired_shell("doctor", "kitchen")
    assert done.code == 3
    assert "failed reach" in done.out


def test_a_device_with_another_key_exits_with_5(
    paired_shell: Shell, board_thread: BoardThread
) -> None:
    file = paired_shell.home / "devices.json"
    theirs = board_thread.board.fingerprint.hex
    file.write_text(file.read_text().replace(theirs, "11" * 32))
    done = paired_shell("get", "kitchen", "/hello")
    assert done.code == 5
    for digits in (theirs, "11" * 32):  # in two halves, lined up
        first, *_, last = Fingerprint.parse(digits).grouped.split()
        assert first in done.err
        assert last in done.err
    assert paired_shell("doctor", "kitchen").code == 5
    wanted = ("--expect-fingerprint", "22" * 32)
    assert paired_shell("pair", board_thread.board.pairing_address, *wanted).code == 5


def test_another_device_at_an_own_address_of_this_machine_exits_with_3(
    paired_shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Own addresses other than the loopback need a namespace: see tests/system."""
    for module in ("client_app.connector", "client_app.doctor"):
        monkeypatch.setattr(f"{module}.is_own", lambda _address: True)
    file = paired_shell.home / "devices.json"
    [known] = [json.loads(line) for line in paired_shell("devices", "--json").out.splitlines()]
    theirs = known["devices"][0]["fingerprint"]
    file.write_text(file.read_text().replace(theirs, "11" * 32))
    for verb in (("get", "kitchen", "/hello"), ("doctor", "kitchen")):
        done = paired_shell(*verb)
        assert done.code == 3
        assert "man-in-the-middle" not in done.out + done.err


def test_a_failed_pairing_exits_with_its_code(shell: Shell, board_thread: BoardThread) -> None:
    board = board_thread.board
    expect = ("--expect-fingerprint", board.fingerprint.hex)
    assert shell("pair", *expect).code == 3
    assert shell("pair", "127.0.0.1:9", *expect).code == 11
    board_thread.do(board.open)
    board_thread.say(False)
    assert shell("pair", board.pairing_address, *expect).code == 12
    board.local = False
    assert shell("pair", board.pairing_address, *expect).code == 13
    assert shell("devices", "--json").out == '{"schema": 1, "devices": []}\n'


def test_an_unanswered_confirmation_exits_with_4(
    shell: Shell, board_thread: BoardThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = board_thread.board
    board_thread.do(board.open)
    monkeypatch.setattr("client_app.pairing.attempt.Comparison", _with_short_timeout)
    done = shell("pair", board.pairing_address, "--expect-fingerprint", board.fingerprint.hex)
    assert done.code == 4


def _with_short_timeout(**values: Any) -> Any:
    return Comparison(**{**values, "seconds": 0.1})


def test_a_device_id_selects_the_device(paired_shell: Shell, board_thread: BoardThread) -> None:
    device_id = board_thread.board.fingerprint.device_id
    assert paired_shell("get", device_id.lower(), "/hello").code == 0


# --------------------------------------------------------------------------------------- doctor


def test_doctor_reports_a_reachable_device_as_ok(
    paired_shell: Shell, board_thread: BoardThread, lan: list[Advert]
) -> None:
    lan.append(board_thread.board.advert())
    done = paired_shell("doctor", "kitchen", "--json")
    assert done.code == 0
    checks = {value["name"].split()[0]: value for value in lines(done.out)}
    assert list(checks) == [
        *("key", "devices", "network", "discovery", "announced"),
        *("address", "policy", "window"),
    ]
    assert checks["address"]["verdict"] == "ok"
    assert checks["policy"]["verdict"] == "ok"


def test_doctor_works_in_an_empty_home(shell: Shell) -> None:
    done = shell("doctor")
    assert done.code == 0
    assert "created at the first pairing" in done.out
    assert not shell.home.exists()
    assert shell("doctor", "kitchen").code == 3


@pytest.mark.usefixtures("paired_shell")
def test_doctor_reports_a_key_file_that_others_can_read(shell: Shell) -> None:
    (shell.home / "identity.pem").chmod(0o644)
    done = shell("doctor", "kitchen")
    assert done.code == 1
    assert "failed key" in done.out
    assert "chmod 600" in done.out


# ----------------------------------------------------------------------------------- completion


@pytest.mark.parametrize("shell_name", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_each_shell(shell: Shell, shell_name: str) -> None:
    done = shell("completion", shell_name)
    assert done.code == 0
    assert "_HANDFAST_COMPLETE" in done.out


def test_verbs_and_device_aliases_are_completed(
    book: DeviceBook, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    book.put(known())
    book.put(known("attic", 2))
    monkeypatch.setenv("HANDFAST_HOME", str(shell.home))
    finder = click.shell_completion.BashComplete(main, {}, "handfast", "_HANDFAST_COMPLETE")
    assert {one.value for one in finder.get_completions([], "d")} == {
        *("devices", "discover", "delete", "doctor", "demo")
    }
    assert [one.value for one in finder.get_completions(["get"], "k")] == ["kitchen"]
    assert {one.value for one in finder.get_completions(["forget"], "")} == {"attic", "kitchen"}
    book.path.write_text("{")
    assert finder.get_completions(["get"], "k") == []
