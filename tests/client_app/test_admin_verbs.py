"""Administration commands against the real device: output, JSON and exit codes."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiocoap
import pytest

from client_app.device import Device
from client_app.known_devices import DeviceBook
from device_app.access.event_kind import EventKind
from iam.model import Key, User
from peer.errors import Denied
from peer.identity import Fingerprint
from peer.net.plain import Answer
from peer.pairing import invite
from tests.kit.shell import Shell
from tests.kit.threads import DeviceThread

FP = "ab" * 32
EVIL = "\x1b]0;owned\x07\x1b[2J\u202e\x9b31m"
CONTROL_CHARACTERS = set("\x1b\x07\u202e\x9b")


@pytest.fixture
def anna(owner: DeviceThread, shell: Shell) -> Shell:
    """The owner's command line."""
    assert owner.app.access.store.state.users  # `owner` has added the client of this home
    return shell


@pytest.fixture
def mia(tmp_path: Path, shell: Shell) -> Shell:
    """The command line of another client, which is not paired with any device."""
    return type(shell)(tmp_path / "mia")


def without_times(printed: str) -> str:
    """Remove the `last seen` times from an output: each session changes them."""
    return re.sub(r"last seen [-\d: +]+|\"last_seen\": \d+", "", printed)


def value(done: Any) -> Any:
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["schema"] == 1
    return found


def lines(done: Any) -> list[Any]:
    assert done.code == 0, done.err
    return [json.loads(line) for line in done.out.splitlines()]


# ------------------------------------------------------------------------------------------- users


def test_users_can_be_added_changed_and_removed(anna: Shell) -> None:
    made = anna("users", "kitchen", "add", "mia", "--key", FP, "--display", "Mia", "--until", "3d")
    assert made.code == 0, made.err
    assert Fingerprint.parse(FP).grouped in made.out
    assert re.search(r"until \d{4}-\d\d-\d\d \d\d:\d\d [+-]\d{4}", made.out)
    listed = anna("users", "kitchen")
    assert without_times(listed.out) == without_times(anna("users", "kitchen", "list").out)
    assert re.search(r"^anna  owner  1 key", listed.out, re.MULTILINE)
    assert re.search(r"^mia   guest  1 key", listed.out, re.MULTILINE)
    assert "Mia" in anna("users", "kitchen", "show", "mia").out
    changed = value(
        anna("users", "kitchen", "set", "mia", "--role", "user", "--until", "0", "--json")
    )
    assert (changed["user"]["role"], changed["user"]["not_after"]) == ("user", None)
    renamed = value(anna("--json", "users", "kitchen", "set", "mia", "--rename", "leo"))
    assert renamed["user"]["name"] == "leo"
    more = ("users", "kitchen", "add-key", "leo", "cd" * 32, "--key-name", "phone")
    assert "phone" in anna(*more).out
    assert anna(*more).code == 0
    assert anna("users", "kitchen", "add-key", "anna", "cd" * 32).code == 8
    gone = value(anna("users", "kitchen", "remove-key", "leo", "cd" * 32, "--yes", "--json"))
    assert gone["removed"] == "cd" * 32
    assert anna("users", "kitchen", "remove", "leo", "--yes").out == "removed leo\n"
    assert anna("users", "kitchen", "remove", "leo", "--yes").code == 8
    as_json = anna("users", "kitchen", "--json")
    assert [one["name"] for one in value(as_json)["users"]] == ["anna"]
    assert without_times(as_json.out) == without_times(anna("users", "--json", "kitchen").out)


def test_a_removal_without_a_terminal_needs_the_yes_option(anna: Shell) -> None:
    for words in (["remove", "anna"], ["remove-key", "anna", FP]):
        done = anna("users", "kitchen", *words)
        assert (done.code, done.out) == (2, "")
        assert "--yes" in done.err
    assert anna("users", "kitchen", "show", "anna").code == 0


def test_invalid_arguments_exit_with_their_code(anna: Shell) -> None:
    assert anna("users", "attic").code == 3
    assert anna("users", "attic", "remove", "x", "--yes").code == 3
    assert anna("users", "kitchen", "show", "nobody").code == 8
    assert anna("users", "kitchen", "add", "mia", "--key", "12").code == 2
    assert anna("users", "kitchen", "add", "mia", "--role", "king").code == 8
    assert anna("users", "kitchen", "remove", "anna", "--yes").code == 8  # the last owner


def test_roles_are_listed_with_their_rank(anna: Shell) -> None:
    assert re.search(r"^guest +10 +core-", anna("roles", "kitchen").out, re.MULTILINE)
    roles = value(anna("roles", "kitchen", "--json"))["roles"]
    assert (roles[0]["id"], roles[0]["rank"]) == ("unpaired", 0)


# -------------------------------------------------------------------------------------------- can


def test_can_answers_a_client_that_may_not_ask_who_it_is(
    anna: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(_device: Device) -> None:
        raise Denied("you may not do this here")

    monkeypatch.setattr(Device, "whoami", refused)
    done = anna("can", "kitchen", "IAM:AddUser")
    assert (done.code, done.err) == (7, "")
    assert done.out.startswith("no: IAM:AddUser. ")


def test_can_prints_whether_an_action_is_allowed(
    anna: Shell, owner: DeviceThread, mia: Shell
) -> None:
    done = anna("can", "kitchen", "Iam:AddUser")
    assert (done.code, done.out) == (0, "yes: Iam:AddUser\n")
    owner.add_client(mia.home, "mia", "guest")
    done = mia("can", "kitchen", "Iam:AddUser")
    assert done.code == 7
    assert done.out.startswith("no: Iam:AddUser. ")
    assert done.err == ""
    typed = anna("can", "kitchen", "IAM:AddUser")
    assert typed.code == 7
    assert typed.err == "Did you mean Iam:AddUser? Upper and lower case differ.\n"
    other = anna("can", "kitchen", "Iam:AddUser", "--user", "mia", "--json")
    assert other.code == 7
    assert json.loads(other.out)["allowed"] is False
    assert json.loads(other.out)["reason"]
    refused = mia("can", "kitchen", "Hello:Get", "--user", "anna")
    assert (refused.code, refused.out) == (7, "")
    owner.do(lambda app: app.access.registry.remove_user(None, "mia"))
    assert mia("can", "kitchen", "Hello:Get").code == 10


def test_administration_by_a_guest_is_denied(owner: DeviceThread, mia: Shell) -> None:
    owner.add_client(mia.home, "mia", "guest")
    for words in (
        ["users", "kitchen"],
        ["users", "kitchen", "add", "leo"],
        ["roles", "kitchen"],
        ["invites", "kitchen"],
        ["invite", "kitchen", "leo"],
        ["open", "kitchen"],
        ["open", "kitchen", "--close"],
        ["events", "kitchen"],
        ["events", "kitchen", "--follow"],
    ):
        done = mia(*words)
        assert (done.code, done.out) == (7, ""), words


def test_whoami_prints_when_the_access_ends(anna: Shell, mia: Shell, owner: DeviceThread) -> None:
    assert "no expiry" in anna("whoami", "kitchen").out
    owner.add_client(mia.home, "mia", "guest")
    assert anna("users", "kitchen", "set", "mia", "--until", "2030-12-24").code == 0
    done = mia("whoami", "kitchen")
    assert re.search(r"role   guest, until 2030-12-25 00:00 [+-]\d{4}", done.out)
    assert isinstance(value(mia("whoami", "kitchen", "--json"))["until"], int)


# ---------------------------------------------------------------------------------------- invites


def test_a_client_pairs_with_an_invite(
    anna: Shell, mia: Shell, owner: DeviceThread, lan: list[Any]
) -> None:
    lan.append(owner.advert())
    made = anna("invite", "kitchen", "mia", "--role", "user", "--for", "1h", "--until", "3d")
    assert made.code == 0
    token = made.out.strip()
    assert invite.read_untrusted(token)[0].name == "mia"
    assert token not in made.err
    assert "user mia, role user" in made.err
    listed = value(anna("invites", "kitchen", "--json"))["invites"]
    assert [(one["name"], one["uses"], one["inviter"]) for one in listed] == [("mia", 1, "anna")]
    assert "token" not in listed[0]
    assert re.search(r"VALID UNTIL.*\n[0-9a-f]{8}  mia", anna("invites", "kitchen").out)
    done = mia("pair", "-", stdin=f"{token}\n".encode())
    assert done.code == 0, done.err
    assert done.out.startswith("paired with kitchen as user mia, role user, until ")
    assert owner.fingerprint.grouped in done.err
    assert token not in done.err
    assert mia("get", "kitchen", "/hello").code == 0
    again = mia("pair", token, "--json")
    assert value(again)["new"] is False
    assert "already a user of the device" in again.err
    assert anna("invites", "kitchen").out == ""
    assert "handfast invite DEVICE NAME" in anna("invites", "kitchen").err


def test_invite_prints_json_and_nothing_else_with_quiet(anna: Shell) -> None:
    made = anna("invite", "kitchen", "mia", "--json", "-q")
    assert made.err == ""
    one = value(made)["invite"]
    assert one["role"] == "guest"
    assert one["token"].startswith("HANDFAST:I:")


def test_invites_are_withdrawn_by_their_id_or_a_unique_prefix(anna: Shell) -> None:
    ids = [value(anna("invite", "kitchen", f"x{n}", "--json"))["invite"]["id"] for n in range(2)]
    assert anna("invites", "kitchen", "withdraw", "f" * 33).code == 2
    assert anna("invites", "kitchen", "withdraw", ids[0]).out == f"withdrawn {ids[0]}\n"
    assert anna("invites", "kitchen", "withdraw", ids[0]).code == 8
    assert anna("invites", "kitchen", "withdraw", ids[0][:20]).code == 8
    assert value(anna("invites", "kitchen", "withdraw", ids[1][:9].upper(), "--json")) == {
        "schema": 1,
        "withdrawn": ids[1],
    }
    more = [value(anna("invite", "kitchen", f"y{n}", "--json"))["invite"]["id"] for n in range(17)]
    several = next(a[0] for n, a in enumerate(more) if any(b[0] == a[0] for b in more[n + 1 :]))
    done = anna("invites", "kitchen", "withdraw", several)
    assert (done.code, "several" in done.err) == (2, True)


def test_an_unusable_invite_is_refused_and_not_printed(
    anna: Shell, mia: Shell, owner: DeviceThread, lan: list[Any]
) -> None:
    lan.append(owner.advert())
    token = anna("invite", "kitchen", "mia").out.strip()
    for words in (
        ["pair", token, "--name", "eve"],
        ["pair", token, "--role", "owner"],
        ["pair", token[:-9]],
        ["pair", token[12:]],
        ["pair", "kitchen", token],
        ["pair", token, "--as", "no good"],
    ):
        done = mia(*words)
        assert (done.code, done.out) == (2, ""), words
        assert token[20:40] not in done.err, words
    for typed in (b"", b"kitchen\n", token[12:].encode()):
        done = mia("pair", "-", stdin=typed)
        assert done.code == 2
        assert token[20:40] not in done.err
    assert mia("pair", token, "--expect-fingerprint", "11" * 32).code == 5
    anna(
        "invites",
        "kitchen",
        "withdraw",
        value(anna("invites", "kitchen", "--json"))["invites"][0]["id"],
    )
    done = mia("pair", token, "--json")
    assert done.code == 6
    assert token[20:40] not in done.err
    assert mia("devices").out == ""
    halves = (token[:50], token[50:].lower())
    assert mia("pair", *halves).code == 6  # a pasted invite may contain a space


def test_the_qr_code_of_an_invite_is_printed_to_stderr(
    anna: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    made = anna("invite", "kitchen", "mia", "--qr", "-q")
    assert made.out.startswith("HANDFAST:I:")
    assert len(made.out.splitlines()) == 1
    assert len(made.err.splitlines()) > 20
    assert "\x1b" not in made.err
    monkeypatch.setenv("COLUMNS", "40")
    narrow = anna("invite", "kitchen", "leo", "--qr", "-q")
    assert narrow.code == 0
    assert re.search(r"needs \d+ columns, but the terminal has 40", narrow.err)
    assert narrow.out.startswith("HANDFAST:I:")


# ----------------------------------------------------------------------------- window and events


def test_the_pairing_window_can_be_opened_and_closed(anna: Shell, owner: DeviceThread) -> None:
    done = anna("open", "kitchen", "--for", "1m", "--role", "guest", "--methods", "compare")
    assert re.fullmatch(
        r"open for (1 min|[45]\d s) on port \d+, role guest, methods compare\n", done.out
    )
    assert value(anna("open", "kitchen", "--json"))["window"]["open"] is True
    assert anna("open", "kitchen", "--close").out == "closed\n"
    assert not owner.app.pairing.is_open
    assert anna("open", "kitchen", "--for", "5h").code in {2, 8}


@pytest.mark.usefixtures("owner")
def test_events_are_printed_in_order_and_from_a_given_position(anna: Shell) -> None:
    assert anna("users", "kitchen", "add", "mia", "--key", FP).code == 0
    events = lines(anna("events", "kitchen", "--json"))
    assert [one["seq"] for one in events] == list(range(1, len(events) + 1))
    for before, after in pairwise(events):
        assert after["previous"] == before["digest"]
    last = events[-1]
    assert (last["schema"], last["actor"], last["user"], last["lost"]) == (1, "anna", "mia", 0)
    shown = anna("events", "kitchen", "--last", "1").out
    assert shown.startswith(f"{last['seq']}  ")
    assert last["kind"] in shown
    assert "user=mia" in shown
    since = lines(anna("events", "kitchen", "--since", str(last["seq"] - 1), "--json"))
    assert since == [last]
    beyond = anna("events", "kitchen", "--since", "5000")
    assert (beyond.code, "was reset" in beyond.err) == (1, True)


# --------------------------------------------------------------------------- text from the device


def test_text_from_the_device_is_escaped(anna: Shell, owner: DeviceThread) -> None:
    """Names, key names and reasons come from the device; a terminal would execute their escapes."""
    store = owner.app.access.store
    evil = User(f"eve{EVIL}", "guest", (Key(FP, EVIL, EVIL),), display_name=EVIL)
    owner.do(lambda app: store.commit(app.access.store.state.replaced(None, evil)))
    event = owner.app.access.audit.event(EventKind.DENIED, detail=EVIL, address=EVIL)
    event = replace(event, kind=f"kind{EVIL}")
    owner.do(lambda app: app.access.audit.append(event))
    for words in (
        ["users", "kitchen"],
        ["users", "kitchen", "show", f"eve{EVIL}"],
        ["events", "kitchen"],
        ["can", "kitchen", f"A{EVIL}:B"],
        ["users", "kitchen", "show", EVIL],
        ["users", "kitchen", "remove", f"eve{EVIL}", "--yes"],
    ):
        for more in ([], ["--json"]):
            done = anna(*words, *more)
            assert done.out + done.err
            assert not CONTROL_CHARACTERS & set(done.out + done.err), words


def test_a_malformed_response_of_the_device_is_reported(
    anna: Shell, owner: DeviceThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def malformed(_request: object) -> aiocoap.Message:
        return aiocoap.Message(payload=b"\x82\x01\x02", content_format=60)

    for path in owner.app.site.paths().values():
        if hasattr(path, "answer"):  # what the direct path calls
            monkeypatch.setattr(path, "answer", lambda *_: Answer(b"\x82\x01\x02", 60))
        for method in ("render_get", "render_post", "render_patch", "render_put"):
            if hasattr(path, method):
                monkeypatch.setattr(path, method, malformed)
    for words in (
        ["users", "kitchen"],
        ["users", "kitchen", "show", "anna"],
        ["users", "kitchen", "set", "anna", "--role", "guest"],
        ["users", "kitchen", "add-key", "anna", FP],
        ["roles", "kitchen"],
        ["invites", "kitchen"],
        ["invite", "kitchen", "mia"],
        ["open", "kitchen"],
        ["events", "kitchen"],
        ["events", "kitchen", "--follow"],
        ["can", "kitchen", "A:B"],
        ["whoami", "kitchen"],
    ):
        done = anna(*words)
        assert (done.code, done.out) == (1, ""), words
        assert done.err.startswith("handfast: the device's response"), words
        assert "internal error" not in done.err


def test_the_paired_device_is_stored_with_its_user(anna: Shell) -> None:
    assert DeviceBook(anna.home / "devices.json").find("kitchen").user == "anna"
