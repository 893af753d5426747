"""Pairing, use and revocation with a real daemon and a real client as processes."""

from __future__ import annotations

import json
import re
import signal
import stat
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.kit.process import Program
    from tests.kit.system import Client, Device, Stage

pytestmark = pytest.mark.slow

CLOSE_NOTIFY = "\n< 21/1\n"  # from the device, under the keys of a session
COMPARE = ("--method", "compare")


def shows(screen: str, fingerprint: str) -> bool:
    """Whether the screen shows a fingerprint, whatever its groups and line breaks."""
    return fingerprint in re.sub(r"\s", "", screen)


# -- first contact --------------------------------------------------------------------------------


def test_a_pairing_survives_a_restart_and_a_kill_of_the_daemon(stage: Stage) -> None:
    device, anna = stage.device(announced=True), stage.client("anna")
    assert device.json("init", "--name", "kitchen")["fingerprint"] == device.fingerprint
    first = device.boot()
    assert first["window"]["open"]
    assert first["window"]["role"] == "owner"
    opening = device.open()
    asking = anna.ask_to_pair(device, device.id, "anna")  # found by mDNS
    waiting = opening.pending()
    assert (waiting["name"], waiting["fingerprint"]) == ("anna", anna.fingerprint)
    assert not anna.aliases, "the client stored the device before its user confirmed"
    assert not device.users()
    assert (
        json.loads(device.run("accept", waiting["id"], "--json").out)["ceremony"]["name"] == "anna"
    )
    assert opening.program.end(code=0).err == ""
    paired = asking.end(code=0).value
    assert (paired["alias"], paired["user"], paired["role"]) == ("kitchen", "anna", "owner")
    assert paired["fingerprint"] == device.fingerprint
    assert device.users() == {"anna": [anna.fingerprint]}
    assert not device.status()["window"]["open"], "the window did not close after the success"
    for path in (anna.home / "devices.json", anna.home / "identity.pem"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def assert_greeted() -> None:
        hello = anna.run(
            "get", "kitchen", "/hello"
        )  # without a terminal, a question would exit with 2
        assert hello.out.startswith("Hello anna")
        assert hello.err == ""

    assert_greeted()
    port = device.port
    device.stop()
    assert not device.boot()["window"]["open"]
    assert device.port == port
    assert_greeted()
    device.daemon.send(signal.SIGKILL)
    assert device.daemon.end().code == -signal.SIGKILL
    [user] = device.json("users", "list")["users"]  # read from the store, without a daemon
    assert [key["fingerprint"] for key in user["keys"]] == [anna.fingerprint]
    device.boot()
    assert device.users() == {"anna": [anna.fingerprint]}
    assert_greeted()
    assert [event.user for event in device.events("paired")] == ["anna"]


def test_an_unpaired_client_gets_not_paired(stage: Stage) -> None:
    device, anna, eve = stage.device(), stage.client("anna"), stage.client("eve")
    device.boot()
    device.admit(anna, "anna")
    exported = stage.folder / "devices.json"
    exported.write_text(anna.run("export").out)
    assert eve.run("import", str(exported)).err.startswith("1 imported")
    refused = eve.run("--json", "get", "kitchen", "/hello", code=10).error
    assert refused["kind"] == "NotPaired"
    assert "handfast pair" in refused["advice"]
    for verb in (["whoami", "kitchen"], ["observe", "kitchen", "/board"], ["doctor", "kitchen"]):
        eve.run(*verb, code=10)
    # A missing resource returns the same error.
    assert eve.run("--json", "get", "kitchen", "/nothing", code=10).error == refused
    assert eve.fingerprint not in str(device.users())
    assert anna.run("get", "kitchen", "/hello").out.startswith("Hello anna")


def test_a_closed_window_is_reported_to_the_client(stage: Stage) -> None:
    device, anna = stage.device(announced=True), stage.client("anna")
    window = device.boot()["window"]
    device.run("close")
    device.until(lambda status: status["pairing_port"] is None)
    for target in (f"127.0.0.1:{window['port']}", device.id):
        refused = anna.ask_to_pair(device, target, "anna").end(code=11).error
        assert refused["kind"] == "WindowClosed"
        assert "handfast-device open" in refused["advice"]
    assert not anna.aliases
    assert not device.users()


# -- refusal on either side -----------------------------------------------------------------------


def test_a_refusal_by_the_devices_user_stores_nothing(stage: Stage) -> None:
    device, anna = stage.device(), stage.client("anna")
    device.boot()
    opening = device.open()
    asking = anna.ask_to_pair(device, opening.address, "anna")
    device.run("refuse", opening.pending()["id"])
    assert asking.end(code=12).error["kind"] == "RefusedByUser"
    assert opening.ended()["state"] == "REFUSED"
    assert not anna.aliases
    assert not device.users()
    assert device.status()["pending"] == []
    assert not device.events("paired")
    anna.run("get", "kitchen", "/hello", code=3)
    anna.know(device)
    anna.run("get", "kitchen", "/hello", code=10)


def test_an_unexpected_fingerprint_ends_the_handshake(stage: Stage) -> None:
    """The client sends an alert and no request."""
    device, anna = stage.device(), stage.client("anna")
    device.boot()
    opening = device.open()
    tap, port = stage.wiretap(opening.address)
    wrong = stage.client("other").fingerprint
    args = ["--json", "pair", f"127.0.0.1:{port}", "--name", "anna", "--expect-fingerprint"]
    refused = anna.run(*args, wrong, code=5).error
    assert refused["kind"] == "PinMismatch"
    assert wrong in refused["message"]
    assert device.fingerprint in refused["message"]
    assert not anna.aliases
    status = device.status()
    assert (status["pending"], status["failures"], status["window"]["failures"]) == ([], 0, 0)
    json_of = tap.until("\n> 21/", on="out")  # an alert to the device
    assert "22/0" in json_of
    assert "23/" not in json_of, "application data was sent to the wrong device"
    # With the right fingerprint, the tap does record requests.
    right = anna.start(*args, device.fingerprint)
    tap.until("> 23/1", on="out")
    device.run("accept", opening.pending()["id"])
    right.end(code=0)


def test_ctrl_c_stores_nothing_and_the_window_stays_open(stage: Stage) -> None:
    device, anna = stage.device(), stage.client("anna")
    device.boot()
    opening = device.open()
    asking = anna.ask_to_pair(device, opening.address, "anna")
    opening.pending()
    asking.send(signal.SIGINT)
    ended = asking.end(code=130)
    assert ended.out == ""
    assert opening.ended()["state"] in {"REVOKED", "EXPIRED"}
    assert not anna.aliases
    assert not device.users()
    status = device.status()
    assert status["window"]["open"]
    assert status["pending"] == []
    again = anna.ask_to_pair(device, opening.address, "anna")
    device.run("accept", opening.pending(times=2)["id"])
    again.end(code=0)
    opening.program.end(code=0)
    assert anna.run("get", "kitchen", "/hello").out.startswith("Hello anna")


def test_the_error_for_a_missing_value_names_its_option(stage: Stage) -> None:
    device, anna = stage.device(), stage.client("anna")
    window = device.boot()["window"]
    target = f"127.0.0.1:{window['port']}"
    for args in (["pair", target], ["pair", target, "--yes"]):
        asked = anna.run(*args, code=2)
        assert "--expect-fingerprint" in asked.err
        assert asked.out == ""
    assert "--yes" in device.run("reset", code=2).err
    assert device.status()["counters"]["pairing"] == {}, "the client connected"


# -- pairing again --------------------------------------------------------------------------------


def test_pairing_again_changes_nothing(stage: Stage) -> None:
    device, anna, bob = stage.device(), stage.client("anna"), stage.client("bob")
    device.boot()
    device.pair(anna, "anna")
    window = device.json("open", "--no-wait", "--role", "guest")["window"]
    target = f"127.0.0.1:{window['port']}"
    again = anna.ask_to_pair(device, target, "anna").end(code=0).value  # without confirmation
    assert (again["user"], again["role"], again["new"]) == ("anna", "owner", False)
    book = (anna.home / "devices.json").read_bytes()
    for client, name in ((anna, "annie"), (bob, "anna")):
        taken = client.ask_to_pair(device, target, name).end(code=8).error
        assert taken["kind"] == "RequestFailed"
        assert re.search(r"\b(taken|already|another)\b", taken["message"]), taken
        assert taken["advice"]
    assert device.users() == {"anna": [anna.fingerprint]}
    assert (anna.home / "devices.json").read_bytes() == book
    assert not bob.aliases
    status = device.status()
    assert status["window"]["open"]
    assert status["pending"] == []


# -- revocation and shutdown ----------------------------------------------------------------------


def start_observing(client: Client, device: Device) -> Program:
    """Start `handfast observe` and wait for its first state."""
    program = client.start("--json", "observe", device.name, "/board")
    program.until("\n", on="out")
    return program


def test_revocation_ends_a_running_observation(stage: Stage) -> None:
    device, anna, bob = stage.device(), stage.client("anna"), stage.client("bob")
    device.boot()
    device.admit(anna, "anna")
    device.admit(bob, "bob")
    tap, port = stage.wiretap(f"127.0.0.1:{device.port}")
    anna.set_last_seen(device, f"127.0.0.1:{port}")
    annas, bobs = start_observing(anna, device), start_observing(bob, device)
    assert CLOSE_NOTIFY not in tap.output("out")
    device.run("users", "remove", "anna")
    # The device ends the session; the client does not have to find out by itself.
    assert json.loads(annas.end(code=10).err)["error"]["kind"] == "NotPaired"
    assert "\n> 21/1\n" not in tap.until(CLOSE_NOTIFY, on="out").partition(CLOSE_NOTIFY)[0]
    device.daemon.until("ended 1 session")
    assert anna.run("--json", "get", "kitchen", "/hello", code=10).error["kind"] == "NotPaired"
    # Another user's continues, and still gets notifications.
    bobs.until("\n", on="out", since=len(bobs.output("out")))
    assert bobs.is_running
    assert bob.run("get", "kitchen", "/hello").out.startswith("Hello bob")


def test_sigterm_sends_close_notify_to_the_clients(stage: Stage) -> None:
    device, anna, bob = stage.device(), stage.client("anna"), stage.client("bob")
    device.boot()
    device.admit(anna, "anna")
    device.admit(bob, "bob")
    tap, port = stage.wiretap(f"127.0.0.1:{device.port}")
    bob.set_last_seen(device, f"127.0.0.1:{port}")
    annas, bobs = start_observing(anna, device), start_observing(bob, device)
    assert CLOSE_NOTIFY not in tap.output("out")
    stopped = device.stop()
    tap.until(CLOSE_NOTIFY, on="out")
    tap.close()
    assert not (device.home / "control.sock").exists()
    assert "error" not in stopped.err.lower()
    # Both observations say that the device is away, and continue when it is back.
    for program in (annas, bobs):
        program.until("connecting again", on="err")
    shown = len(annas.output("out"))
    device.boot()
    annas.until("kitchen responds again", on="err")
    annas.until("\n", on="out", since=shown)
    for program in (annas, bobs):
        program.send(signal.SIGINT)
        program.end(code=130)


def test_a_second_daemon_of_a_home_is_refused(stage: Stage) -> None:
    device, anna = stage.device(), stage.client("anna")
    pid = device.boot()["pid"]
    device.admit(anna, "anna")
    second = device.run("run", "--allow-loopback", "--listen", "127.0.0.1", "--port", "0", code=1)
    assert re.search(rf"\b{pid}\b", second.err), second
    assert device.status()["pid"] == pid, "the first daemon was affected"
    assert anna.run("get", "kitchen", "/hello").out.startswith("Hello anna")


# -- pipes and terminals --------------------------------------------------------------------------


def test_output_to_a_pipe_is_one_json_object(stage: Stage) -> None:
    device, anna = stage.device(), stage.client("anna")
    assert device.json("fingerprint")["fingerprint"] == device.fingerprint
    device.boot()
    paired = device.pair(anna, "anna")
    assert paired.value["new"] is True
    assert re.fullmatch(r"(waiting for .*\n)?", paired.err)

    def json_of(*args: str) -> dict[str, Any]:
        ended = anna.run("--json", *args)
        assert ended.err == ""
        return ended.value

    assert [one["alias"] for one in json_of("devices")["devices"]] == ["kitchen"]
    hello = json_of("get", "kitchen", "/hello")
    assert (hello["code"], hello["format"]) == ("2.05", "text")
    assert hello["value"].startswith("Hello anna")
    assert json_of("whoami", "kitchen")["user"] == "anna"
    assert json_of("address", "kitchen", "home.example:15684")["addresses"] == [
        "home.example:15684"
    ]
    assert json_of("address", "kitchen", "--remove")["addresses"] == []
    assert json_of("rename", "kitchen", "küche")["alias"] == "küche"
    assert json_of("get", "küche", "/board/load")["code"] == "2.05"
    states = anna.run("--json", "observe", "küche", "/board", "--count", "2").out.splitlines()
    assert [json.loads(state)["schema"] for state in states] == [1, 1]
    assert json.loads(anna.run("export").out)["schema"] == 1
    missing = anna.run("--json", "get", "küche", "/nothing", code=8).error
    assert set(missing) == {"kind", "exit", "message", "advice"}
    assert anna.run("--json", "get", "cellar", "/hello", code=3).error["kind"] == "NotKnown"
    for verb in (["status"], ["users", "list"], ["users", "show", "anna"], ["pending"], ["health"]):
        answer = device.run(*verb, "--json")
        assert answer.value
        assert answer.err == ""


def test_both_users_compare_fingerprints_on_their_terminals(stage: Stage) -> None:
    device, anna = stage.device(), stage.client("anna")
    window = device.boot()["window"]
    board = device.start("open", terminal=True)
    board.until("handfast pair", on="screen")
    laptop = anna.start(
        "pair", f"127.0.0.1:{window['port']}", "--name", "anna", *COMPARE, terminal=True
    )
    for program, question in ((board, "[yes/no]"), (laptop, "[yes/no]")):
        screen = program.until(question, on="screen")
        assert shows(screen, device.fingerprint), screen
        assert shows(screen, anna.fingerprint), screen
    board.type("perhaps")
    board.until("yes or no", on="screen")
    board.type("yes")
    assert not anna.aliases, "the client stored the device before its user confirmed"
    assert laptop.is_running
    laptop.type("y")
    assert "paired with kitchen as user anna, role owner" in laptop.end(code=0).out
    assert "paired anna as owner" in board.end(code=0).out
    assert anna.run("get", "kitchen", "/hello").out.startswith("Hello anna")


def test_answering_no_on_either_terminal_refuses(stage: Stage) -> None:
    device, anna = stage.device(), stage.client("anna")
    window = device.boot(terminal=True)["window"]  # `run` asks on its own terminal
    target = f"127.0.0.1:{window['port']}"
    for side, code in (("client", 1), ("device", 12)):
        seen = len(device.daemon.output("screen"))
        laptop = anna.start("pair", target, "--name", "anna", *COMPARE, terminal=True)
        screen = laptop.until("[yes/no]", on="screen")
        assert shows(screen, anna.fingerprint)
        assert shows(screen, device.fingerprint)
        if side == "device":  # the previous question was withdrawn
            device.daemon.until("Press Enter to see which one.", on="screen", since=seen)
            device.daemon.type("")
        device.daemon.until("[yes/no]", on="screen", since=seen)
        question = device.daemon.output("screen")[seen:]
        assert shows(question, anna.fingerprint)
        assert shows(question, device.fingerprint)
        if side == "client":
            laptop.type("n")
            device.daemon.until("its user declined or cancelled", on="screen")
        else:
            device.daemon.type("no")
        laptop.end(code=code)
        assert not anna.aliases
        assert not device.users()
    assert device.status()["window"]["open"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_daemon_with_an_open_window_exits_at_once(stage: Stage, number: signal.Signals) -> None:
    """A client that waits for the device's user is told that there will be no decision."""
    device, anna = stage.device(), stage.client("anna")
    device.boot()
    opening = device.open()
    asking = anna.ask_to_pair(device, opening.address, "anna")
    opening.pending()
    device.daemon.send(number)
    device.daemon.end(code=0)
    assert asking.end().code in {3, 12}
    assert not anna.aliases
    assert device.json("users", "list")["users"] == []
