"""The command as a process: with and without a terminal, interrupted, and in a pipe."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from client_app.sync import Client
from device_app.access.event_kind import EventKind
from iam.model import User
from peer.pairing.invite import read_untrusted
from tests.kit.threads import BoardThread
from tests.kit.waiting import TIMEOUT_SECONDS

ROOT = Path(__file__).resolve().parents[2]
# The terminal becomes the controlling terminal, so that a typed Ctrl-C sends SIGINT.
OWN_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "client_app", *sys.argv[1:]])
"""


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if "HANDFAST" not in name}
    return {**kept, "PYTHONPATH": str(ROOT), "HANDFAST_INTERFACES": "127.0.0.1", **more}


class OnTerminal:
    """A process on a pseudo-terminal, and the text that the terminal shows."""

    def __init__(self, home: Path, *words: str, **env: str) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 120, 0, 0))
        self._output = b""
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWN_TERMINAL, "--home", str(home), *words],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment(TERM="xterm", **env),
            start_new_session=True,
        )
        os.close(slave)

    @property
    def shown(self) -> str:
        """The output so far. A character of which a part is missing is replaced."""
        return self._output.decode("utf-8", "replace")

    def until(self, pattern: str) -> None:
        """Read until the terminal shows a text that matches `pattern`."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not re.search(pattern, self.shown):
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self._master], [], [], max(0.0, left))
            assert ready, f"{pattern!r} is not in {self.shown!r}"
            self._output += self._read()

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def end(self) -> int:
        """Read the remaining output and return the exit code."""
        while chunk := self._read():
            self._output += chunk
        return self.process.wait(TIMEOUT_SECONDS)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)

    def _read(self) -> bytes:
        try:
            return os.read(self._master, 4096)
        except OSError:  # the other side is closed
            return b""


@pytest.fixture
def open_board(board_thread: BoardThread) -> BoardThread:
    board_thread.do(board_thread.board.open)
    return board_thread


@pytest.fixture
def pair_question(open_board: BoardThread, home: Path) -> Iterator[OnTerminal]:
    """`handfast pair` after it has asked to compare the fingerprints."""
    terminal = OnTerminal(home, "pair", open_board.board.pairing_address, "--name", "anna")
    try:
        terminal.until(r"\[yes/no\]")
        yield terminal
    finally:
        terminal.close()


def stored(home: Path) -> list[str]:
    file = home / "devices.json"
    return (
        [one["alias"] for one in json.loads(file.read_text())["devices"]] if file.exists() else []
    )


def test_the_fingerprints_are_shown_and_answering_yes_pairs(
    pair_question: OnTerminal, open_board: BoardThread, home: Path
) -> None:
    assert open_board.board.fingerprint.hex in re.sub(r"\s", "", pair_question.shown)
    assert stored(home) == []
    pair_question.type("y\n")
    pair_question.until(r"waiting for confirmation at the device … 1[0-2]\d s")
    open_board.say(True)
    assert pair_question.end() == 0
    assert "paired with kitchen as user anna, role owner" in pair_question.shown
    assert stored(home) == ["kitchen"]


def test_an_invalid_answer_is_asked_again_and_no_stores_nothing(
    pair_question: OnTerminal, open_board: BoardThread, home: Path
) -> None:
    pair_question.type("maybe\n")
    pair_question.until("Please answer yes or no: ")
    pair_question.type("n\n")
    assert pair_question.end() == 1
    assert "nothing was stored" in pair_question.shown
    assert stored(home) == []
    assert open_board.board.users == {}


def test_input_typed_before_the_question_is_discarded(open_board: BoardThread, home: Path) -> None:
    terminal = OnTerminal(home, "pair", open_board.board.pairing_address, "--name", "anna")
    try:
        terminal.type("y\n")
        terminal.until(r"\[yes/no\]")
        terminal.type("n\n")
        assert terminal.end() == 1
        assert stored(home) == []
    finally:
        terminal.close()


def test_the_question_is_withdrawn_when_the_devices_user_refuses(
    pair_question: OnTerminal, open_board: BoardThread, home: Path
) -> None:
    open_board.say(False)
    assert pair_question.end() == 12
    assert stored(home) == []


@pytest.mark.parametrize("key", ["\x03", "\x04"], ids=["Ctrl-C", "Ctrl-D"])
def test_an_interrupt_at_the_question_stores_nothing(
    pair_question: OnTerminal, open_board: BoardThread, home: Path, key: str
) -> None:
    pair_question.type(key)
    assert pair_question.end() == {"\x03": 130, "\x04": 1}[key]
    assert "Traceback" not in pair_question.shown
    assert stored(home) == []
    assert open_board.board.users == {}


@pytest.mark.usefixtures("open_board")
def test_an_interrupt_while_waiting_for_the_device_stores_nothing(
    pair_question: OnTerminal, home: Path
) -> None:
    pair_question.type("y\n")
    pair_question.until("waiting for confirmation at the device")
    pair_question.type("\x03")
    assert pair_question.end() == 130
    assert "Traceback" not in pair_question.shown
    assert stored(home) == []


def test_the_output_is_coloured_unless_no_color_is_set(home: Path) -> None:
    for env, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
        terminal = OnTerminal(home, "doctor", "nobody", **env)
        try:
            assert terminal.end() == 3
        finally:
            terminal.close()
        assert ("\x1b[31m" in terminal.shown) == coloured


def start(home: Path, *words: str, **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "client_app", "--home", str(home), *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        **options,
    )


def test_no_question_is_asked_without_a_terminal(open_board: BoardThread, home: Path) -> None:
    with start(home, "pair", open_board.board.pairing_address) as process:
        out, err = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 2
    assert out == b""
    assert b"--expect-fingerprint" in err
    assert not home.exists()


def test_output_without_a_terminal_has_no_control_characters(
    open_board: BoardThread, home: Path
) -> None:
    board = open_board.board
    open_board.say(True)
    words = ("pair", board.pairing_address, "--expect-fingerprint", board.fingerprint.hex)
    with start(home, *words) as process:
        out, err = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 0
    assert out.startswith(b"paired with kitchen")
    assert not set(b"\r\x1b") & set(out + err)


@pytest.mark.usefixtures("paired_shell", "board_thread")
def test_an_interrupted_observation_exits_with_130(home: Path) -> None:
    with start(home, "observe", "kitchen", "/count", "--json") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["value"] == {"count": 0}
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT_SECONDS) == 130
        assert process.stderr.read() == b"\n"


@pytest.mark.usefixtures("paired_shell")
def test_an_interrupted_request_exits_with_130(board_thread: BoardThread, home: Path) -> None:
    with start(home, "get", "kitchen", "/slow") as process:
        board_thread.until_requested("/slow")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 130
    assert b"Traceback" not in err


@pytest.mark.usefixtures("paired_shell")
def test_a_closed_pipe_ends_the_command_without_an_error_message(
    board_thread: BoardThread, home: Path
) -> None:
    async def step() -> None:
        board_thread.board.observed.step()

    with start(home, "observe", "kitchen", "/count") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        board_thread.do(step)
        assert process.wait(TIMEOUT_SECONDS) == 1
        assert process.stderr.read() == b""


def test_a_verb_imports_only_what_it_needs() -> None:
    """`devices` needs no network library and nothing of administration."""
    unused = (
        "aiocoap zeroconf OpenSSL pyroute2 segno "
        "client_app.decode client_app.terminal.render_administration"
    )
    code = (
        "import sys; from client_app.cli import main\n"
        "try:\n    main(['devices', '--home', sys.argv[1]])\n"
        "except SystemExit:\n    pass\n"
        "print(sorted({name for name in UNUSED.split() if name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code.replace("UNUSED", repr(unused)), "/nonexistent"],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"


def test_the_yes_option_without_a_fingerprint_is_refused(
    open_board: BoardThread, home: Path
) -> None:
    """`--yes` needs an expected fingerprint, also on a terminal."""
    terminal = OnTerminal(home, "pair", open_board.board.pairing_address, "--yes")
    try:
        assert terminal.end() == 2
    finally:
        terminal.close()
    assert "--expect-fingerprint" in terminal.shown
    assert open_board.board.window.failures == 0


# -------------------------------------------------------------------------- administration, invites


def test_removing_a_user_asks_for_confirmation(owner: Any, home: Path) -> None:
    owner.do(lambda app: app.access.registry.add_user(None, User("mia", "guest")))
    for answer, code in (("n", 1), ("y", 0)):
        terminal = OnTerminal(home, "users", "kitchen", "remove", "mia")
        try:
            terminal.until(r"Remove mia from kitchen\? \[yes/no\]")
            assert "mia" in owner.app.access.store.state.users
            terminal.type(f"{answer}\n")
            assert terminal.end() == code
        finally:
            terminal.close()
        assert ("mia" in owner.app.access.store.state.users) == bool(code)


@pytest.mark.usefixtures("owner")
def test_removing_your_own_user_shows_a_warning(home: Path) -> None:
    terminal = OnTerminal(home, "users", "kitchen", "remove", "anna")
    try:
        terminal.until(r"This is your own user: this client will lose its access")
        terminal.type("\x03")
        assert terminal.end() == 130
    finally:
        terminal.close()


def test_an_invite_can_be_pasted(owner: Any, home: Path, tmp_path: Path) -> None:
    with Client(home=home) as client:
        made = client.connect("kitchen").iam.invite("mia")
    token, _ = read_untrusted(made.token)
    hinted = replace(token, addresses=(f"127.0.0.1:{owner.app.server.port}",))
    text = hinted.text(hinted.sign(owner.app.identity))
    terminal = OnTerminal(tmp_path / "mia", "pair", "-")
    try:
        terminal.until("Paste the text of the invite")
        terminal.type(f"{text}\n")
        assert terminal.end() == 0
    finally:
        terminal.close()
    assert "paired with kitchen as user mia, role guest" in terminal.shown
    assert owner.fingerprint.grouped in terminal.shown


@pytest.mark.usefixtures("owner")
def test_a_qr_code_on_a_terminal_sets_both_colours(home: Path) -> None:
    terminal = OnTerminal(home, "invite", "kitchen", "mia", "--qr")
    try:
        assert terminal.end() == 0
    finally:
        terminal.close()
    assert "\x1b[38;5;16;48;5;231m" in terminal.shown
    assert "HANDFAST:I:" in terminal.shown


def append_event(app: Any) -> None:
    app.access.audit.append(app.access.audit.event(EventKind.LABEL_MADE))


def test_events_are_followed_until_an_interrupt(owner: Any, home: Path) -> None:
    with start(home, "events", "kitchen", "--follow", "--last", "0", "--json") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        printed: list[Any] = []
        while not printed:  # the process may not follow yet
            owner.do(append_event)
            if select.select([process.stdout], [], [], 0.2)[0]:
                printed.append(json.loads(process.stdout.readline()))
        assert (printed[0]["kind"], printed[0]["schema"]) == ("label-made", 1)
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT_SECONDS) == 130
        assert b"Traceback" not in process.stderr.read()
