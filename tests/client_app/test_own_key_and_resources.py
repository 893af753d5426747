"""`handfast fingerprint` and `handfast ls`."""

import json
import stat

import pytest

from client_app.links import links_untrusted
from peer.errors import Malformed
from peer.identity import Fingerprint, Identity
from tests.kit.shell import Shell


def test_the_fingerprint_is_printed_and_a_missing_key_is_created(shell: Shell) -> None:
    path = shell.home / "identity.pem"
    first = shell("fingerprint")
    assert first.code == 0
    assert "a new key was created" in first.err
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    own = Identity.load(path).fingerprint
    assert first.out == f"{own.grouped}\n"
    again = shell("fingerprint")
    assert (again.out, again.err) == (first.out, "")


def test_the_fingerprint_is_canonical_in_json(shell: Shell) -> None:
    made = json.loads(shell("fingerprint", "--json", "-q").out)
    own = Identity.load(shell.home / "identity.pem").fingerprint
    assert made == {
        "schema": 1,
        "fingerprint": own.hex,
        "id": own.device_id,
        "ni": own.ni,
        "created": True,
    }


def test_the_qr_code_of_the_fingerprint_is_printed_to_stderr(shell: Shell) -> None:
    done = shell("fingerprint", "--qr")
    assert "\u2588" in done.err
    assert Fingerprint.parse(done.out) == Identity.load(shell.home / "identity.pem").fingerprint


def test_a_key_that_cannot_be_read_is_not_replaced(shell: Shell) -> None:
    shell.home.mkdir()
    (shell.home / "identity.pem").write_text("no key")
    (shell.home / "identity.pem").chmod(0o600)
    done = shell("fingerprint")
    assert done.code == 1
    assert "not an unencrypted PEM key" in done.err
    assert (shell.home / "identity.pem").read_text() == "no key"


@pytest.mark.usefixtures("owner")
def test_a_key_from_the_printed_fingerprint_is_accepted(shell: Shell) -> None:
    printed = Shell(shell.home.parent / "other")("fingerprint").out
    done = shell("users", "kitchen", "add", "mia", "--key", printed)
    assert done.code == 0, done.err
    assert printed.strip() in done.out


@pytest.mark.usefixtures("owner")
def test_the_resources_are_listed_as_a_table_and_as_json(shell: Shell) -> None:
    lines = shell("ls", "kitchen").out.splitlines()
    assert lines[0].split() == ["PATH", "TYPE", "FORMAT", "OBSERVE"]
    assert ["/board", "handfast.board", "cbor", "yes"] in [line.split() for line in lines]
    found = json.loads(shell("ls", "kitchen", "--json").out)["resources"]
    [board] = [one for one in found if one["path"] == "/board"]
    assert board == {
        "path": "/board",
        "kinds": ["handfast.board"],
        "formats": [60],
        "observable": True,
        "title": "",
    }


def test_links_of_other_devices_are_read() -> None:
    found = links_untrusted(
        '</a%20b>;rt="x y";ct="0 60";obs;title="A, B; c",</c>;sz=3,<coap://h/d>;ct=50;x="q\\"r"'
    )
    assert [one.path for one in found] == ["/a b", "/c", "/d"]
    assert found[0].kinds == ("x", "y")
    assert found[0].formats == (0, 60)
    assert found[0].title == "A, B; c"
    assert found[2].formats == (50,)
    assert links_untrusted("") == ()


@pytest.mark.parametrize("document", ["no links", "<a", "</a>;;;=", "\0", "</a>,,"])
def test_a_document_that_is_no_list_is_refused(document: str) -> None:
    try:
        links_untrusted(document)
    except Malformed as error:
        assert "link format" in str(error)  # noqa: PT017 - some of them parse


@pytest.mark.usefixtures("owner")
def test_the_path_of_the_connection_is_explained(shell: Shell) -> None:
    assert "path   lan: the device sees this client on its own network" in shell("whoami").out
