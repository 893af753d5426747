"""Text from a device is escaped on the screen, before pairing and in errors."""

from __future__ import annotations

from typing import Any

import pytest

from client_app.commands import pair
from client_app.commands.invocation import Invocation
from client_app.pairing.ceremony import Comparison
from client_app.terminal.screen import Screen
from peer.identity import Fingerprint
from peer.net.problem import ProblemError
from tests.kit.internals import site_of

HOSTILE = "\x1b]0;owned\x07\x1b[2J\u202e\x9b31m"
CONTROL_CHARACTERS = set("\x1b\x07\u202e\x9b")


async def test_the_device_name_in_the_question_is_escaped(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The peer is not authenticated yet; its name must not overwrite the fingerprints."""

    async def no(_self: Screen, question: str) -> bool:
        print(question)
        return False

    monkeypatch.setattr(Screen, "ask", no)
    device, own = Fingerprint(b"\x01" * 32), Fingerprint(b"\x02" * 32)
    question = Comparison(device, own, name=f"a{HOSTILE}b", address="192.0.2.1:5685", seconds=9)
    assert not await pair.confirm(Invocation(Screen()), question)
    shown = "".join(capsys.readouterr())
    assert not CONTROL_CHARACTERS & set(shown)
    assert "\\x1b[2J" in shown
    words = " ".join(shown.split())  # each fingerprint takes two lines
    assert device.grouped in words
    assert own.grouped in words


def test_the_text_of_an_error_response_is_escaped(
    paired_shell: Any, board_thread: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    [site] = {site_of(board_thread.board.regular)}
    broken = site.paths()["broken",]

    async def refuses(_request: object) -> None:
        raise ProblemError("denied", f"no{HOSTILE}", f"ask{HOSTILE}")

    monkeypatch.setattr(broken, "render_get", refuses)
    for words in (["get", "kitchen", "/broken"], ["get", "kitchen", "/broken", "--json"]):
        done = paired_shell(*words)
        assert (done.code, done.out) == (7, "")
        assert not CONTROL_CHARACTERS & set(done.err), words
        assert "owned" in done.err
