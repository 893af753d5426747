"""The pairing prompt on the terminal of the board."""

from __future__ import annotations

import asyncio
import io
import os
import pty
import signal
from typing import TYPE_CHECKING, Any

import pytest

from device_app.console.control_client import ControlClient
from device_app.terminal.questions import TerminalQuestions, question
from device_app.terminal.window_watch import WindowWatch
from peer.identity import Fingerprint
from tests.kit.daemon import command, environment, run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

DEVICE = Fingerprint(bytes(range(32)))
SAS: Any = {
    "id": "c1",
    "name": "anna",
    "fingerprint": "ab" * 32,
    "role": "guest",
    "method": "sas",
    "form": "confirmed",
    "state": "PENDING_USER_CONFIRMATION",
    "number": "012345",
    "address": "192.0.2.1:40000",
}
WINDOW: Any = {
    "open": True,
    "port": 5685,
    "seconds_left": 120.0,
    "role": "guest",
    "methods": ["sas", "compare"],
    "failures": 0,
    "fingerprint": DEVICE.hex,
}


def client(**fields: str) -> Any:
    """A waiting client with these fields changed."""
    return {**SAS, **fields}


class Screen(io.StringIO):
    """A text stream that records its output and can wait for more."""

    def __init__(self) -> None:
        super().__init__()
        self.wrote = asyncio.Event()

    def write(self, text: str) -> int:
        self.wrote.set()
        return super().write(text)

    async def until(self, text: str) -> None:
        async with asyncio.timeout(60):
            while text not in self.getvalue():
                self.wrote.clear()
                await self.wrote.wait()


class Prompted:
    """A terminal with a keyboard, a screen, and the answers that were accepted."""

    def __init__(self, keyboard: int, stdin: int) -> None:
        self.keyboard = keyboard
        self.screen = Screen()
        self.answers: asyncio.Queue[tuple[str, bool]] = asyncio.Queue()
        self.questions = TerminalQuestions(self._decide, DEVICE, out=self.screen, descriptor=stdin)

    async def _decide(self, ceremony: str, accept: bool) -> None:
        self.answers.put_nowait((ceremony, accept))

    def type(self, text: str) -> None:
        os.write(self.keyboard, text.encode())

    async def answer(self) -> tuple[str, bool]:
        async with asyncio.timeout(60):
            return await self.answers.get()


@pytest.fixture
async def asked() -> AsyncIterator[Prompted]:
    keyboard, stdin = pty.openpty()
    made = Prompted(keyboard, stdin)
    yield made
    made.questions.end("")
    for descriptor in (keyboard, stdin):
        os.close(descriptor)


def test_the_question_fits_eighty_columns() -> None:
    digits = question(SAS, DEVICE)
    assert "012 345" in digits
    assert DEVICE.hex[:8] not in digits.replace(" ", ""), (
        "the fingerprint is shown beside the number"
    )
    assert "'anna' at 192.0.2.1:40000, as guest" in digits
    without: Any = {key: value for key, value in SAS.items() if key != "number"}
    prints = question(without, DEVICE)
    for fingerprint in (DEVICE.hex, "ab" * 32):
        assert fingerprint in "".join(prints.split())
    for text in (digits, prints):
        assert max(map(len, text.splitlines())) < 80
        assert text.endswith("[yes/no] ")


@pytest.mark.parametrize(
    ("typed", "accept"), [("yes", True), ("Y", True), (" no ", False), ("n", False)]
)
async def test_yes_and_no_decide_the_ceremony(asked: Prompted, typed: str, *, accept: bool) -> None:
    asked.questions.ask(SAS)
    await asked.screen.until("[yes/no]")
    asked.type(f"{typed}\n")
    assert await asked.answer() == ("c1", accept)
    asked.questions.end("accepted elsewhere")
    assert "elsewhere" not in asked.screen.getvalue(), "the question was answered on this terminal"


async def test_any_other_answer_repeats_the_prompt(asked: Prompted) -> None:
    asked.questions.ask(SAS)
    await asked.screen.until("[yes/no]")
    for number, word in enumerate(("", "perhaps", "012345"), 1):  # the number is not an answer
        asked.type(f"{word}\n")
        await asked.screen.until("Please answer yes or no: " * number)
    asked.type("no\n")
    assert await asked.answer() == ("c1", False)


async def test_other_lines_do_not_hide_an_open_question(asked: Prompted) -> None:
    with asked.questions.interrupted():
        asked.screen.write("nothing is asked\n")
    assert asked.screen.getvalue() == "nothing is asked\n"
    asked.questions.ask(SAS)
    await asked.screen.until("[yes/no]")
    with asked.questions.interrupted():
        asked.screen.write("the window was extended\n")
    prompt = "Does the client show the same six digits? [yes/no] "
    assert asked.screen.getvalue().endswith(f"{prompt}\nthe window was extended\n{prompt}")
    asked.type("yes\n")
    assert await asked.answer() == ("c1", True)


async def test_an_answer_to_a_withdrawn_question_is_discarded(asked: Prompted) -> None:
    asked.questions.ask(SAS)
    await asked.screen.until("[yes/no]")
    asked.questions.end("accepted elsewhere")
    assert asked.screen.getvalue().endswith("[yes/no] \n(accepted elsewhere)\n")
    asked.type("yes\n")
    asked.questions.ask(client(id="c2"))
    await asked.screen.until("[yes/no] \n(accepted elsewhere)\n\nA client wants to pair. Press")
    asked.type("\n")  # earlier input is discarded
    await asked.screen.until("which one. \nA client")
    asked.type("no\n")
    assert await asked.answer() == ("c2", False)
    assert asked.answers.empty()


@pytest.mark.parametrize("why", ["this question is void", ""])
async def test_a_late_answer_does_not_apply_to_the_next_question(asked: Prompted, why: str) -> None:
    """The user answers the first question while another client replaces the first one."""
    asked.questions.ask(SAS)
    await asked.screen.until("[yes/no]")
    if why:
        asked.questions.end(why)
    asked.questions.ask(client(id="c2", name="mia"))
    await asked.screen.until("Press Enter to see which one. ")
    assert "'mia'" not in asked.screen.getvalue()
    asked.type("yes\n")
    await asked.screen.until("'mia'")
    assert asked.answers.empty()
    asked.type("yes\n")
    assert await asked.answer() == ("c2", True)


async def test_the_next_question_follows_an_answer_without_enter(asked: Prompted) -> None:
    asked.questions.ask(SAS)
    await asked.screen.until("[yes/no]")
    asked.type("no\n")
    assert await asked.answer() == ("c1", False)
    asked.questions.end("this question is void")
    asked.questions.ask(client(id="c2", name="mia"))
    await asked.screen.until("'mia'")
    assert "Press Enter" not in asked.screen.getvalue()
    asked.type("yes\n")
    assert await asked.answer() == ("c2", True)


async def test_a_closed_terminal_decides_nothing(asked: Prompted) -> None:
    asked.questions.ask(SAS)
    await asked.screen.until("[yes/no]")
    asked.type("\x04")  # the end of input
    [task] = [one for one in asyncio.all_tasks() if one.get_name() == "question at the terminal"]
    await asyncio.wait_for(task, 60)
    assert asked.answers.empty()


# -- `open` on a terminal -------------------------------------------------------------------------


@pytest.fixture
def on_screen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """A function that returns the screen after these events, without erased lines."""

    def play(*events: Mapping[str, Any], **result: Any) -> str:
        async def call(
            *_args: object, on_event: Callable[[Any], None], **_more: object
        ) -> dict[str, Any]:
            for event in ({"event": "window", "window": WINDOW}, *events):
                on_event(event)
                for _ in range(3):  # let the countdown print its line
                    await asyncio.sleep(0)
            return {"paired": None, "closed": "time", "refused": False, **result}

        monkeypatch.setattr("device_app.console.control_client.call", call)
        monkeypatch.setattr("sys.stderr.isatty", lambda: True)
        client = ControlClient(tmp_path / "control.sock")
        watch = WindowWatch(client, as_json=False, quiet=False)
        asyncio.run(watch.open(seconds=None, role=None, methods=()))
        return "\n".join(seen(capsys.readouterr().err))

    return play


def seen(written: str) -> list[str]:
    """The visible lines; a carriage return and "erase to the end" restart a line."""
    return [line.rpartition("\r\x1b[K")[2] for line in written.split("\n")]


def test_the_countdown_is_erased_before_other_output(on_screen: Callable[..., str]) -> None:
    asking = {"event": "pending", "ceremony": SAS}
    refused = {"event": "ended", "ceremony": {**SAS, "state": "REFUSED", "reason": "refused"}}
    shown = on_screen(asking, {"event": "decided"}, refused, asking, refused)
    assert " left" not in shown.replace("attempts are left", "").replace("attempt is left", "")
    lines = shown.splitlines()
    assert "Accepted. Waiting for the client's user." in lines
    assert "'anna' was not paired: it was refused here." in lines
    assert "1 attempt is left." in lines
    assert lines[-1] == "The window closed because its time was up. No client was paired."
    assert max(map(len, lines)) < 80


def test_the_code_is_bold_unless_no_color_is_set(
    on_screen: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code = {"event": "code", "window": {**WINDOW, "code": "1234-5678"}}
    for env, bold in (({"TERM": "xterm"}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False)):
        for name in ("TERM", "NO_COLOR"):
            monkeypatch.delenv(name, raising=False)
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        shown = on_screen(code)
        assert ("\x1b[1m1234-5678\x1b[0m" in shown) == bold
        assert "1234-5678" in shown


# -- `run` on a terminal --------------------------------------------------------------------------


async def test_sighup_reloads_the_daemon_and_ends_it_once_its_terminal_is_closed(
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    options = ["--port", "0", "--pairing-port", "0", "--listen", "127.0.0.1", "--allow-loopback"]
    screen, theirs = pty.openpty()
    daemon = await asyncio.create_subprocess_exec(
        *command(home, "run", *options),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(),
    )
    os.close(theirs)
    try:
        output = b""
        while b"handfast pair" not in output:
            output += await asyncio.to_thread(os.read, screen, 4096)
        daemon.send_signal(signal.SIGHUP)  # a reload is requested
        assert (await run(home, "health")).code == 0
        assert daemon.returncode is None
        os.close(screen)
        daemon.send_signal(signal.SIGHUP)  # as the kernel does when a terminal is closed
        async with asyncio.timeout(60):
            assert await daemon.wait() == 0
        assert not (home / "control.sock").exists()
    finally:
        if daemon.returncode is None:
            daemon.kill()
            await daemon.wait()
