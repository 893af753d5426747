"""Events as both command lines print them."""

from client_app.models import Event
from client_app.terminal import render_administration  # noqa: F401 - registers the type
from client_app.terminal.render import as_text
from device_app.terminal.render_events import event_line
from peer.terminal.event_lines import event_lines

FIELDS = {
    "actor": "anna",
    "user": "mia b",
    "result": "failures",
    "fingerprint": "ab" * 32,
    "address": "192.0.2.7:5684",
}


def test_both_programs_print_an_event_alike() -> None:
    record = {"seq": 7, "kind": "denied", "wall": 1e9, "digest": "", "previous": "", **FIELDS}
    of_device = event_line(record)  # type: ignore[arg-type]  # has no boot
    of_client = as_text(Event(7, "denied", 1e9, "", "", FIELDS))
    assert of_device == of_client
    assert 'user="mia b" result="too many attempts failed" fingerprint="abab abab' in of_client


def test_a_long_event_is_folded_between_words() -> None:
    lines = event_lines(7, "denied", 1e9, FIELDS, width=60)
    assert len(lines) > 1
    assert max(map(len, lines)) <= 60
    assert all(line.startswith("        ") for line in lines[1:])
    assert " ".join(" ".join(lines).split()) == " ".join(
        event_lines(7, "denied", 1e9, FIELDS, width=0)[0].split()
    )
