"""Aliases that look like something else are refused; internationalized names are understood."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from client_app.aliases import unmistakable_alias
from client_app.errors import NotKnown
from client_app.host_port import HostPort
from client_app.known_devices import DeviceBook
from client_app.known_devices_format import book_bytes
from client_app.models import KnownDevice
from client_app.pairing.targets import host_target
from device_app.settings import checks
from peer.errors import Malformed, Unreachable, UsageError
from peer.host_names import ascii_host
from peer.identity import Fingerprint
from tests.kit.shell import Shell

LAMP = KnownDevice("lamp", Fingerprint(bytes(range(200, 232))), user="anna")
OTHER = KnownDevice("kitchen", Fingerprint(bytes(range(100, 132))), user="anna")
ID = LAMP.fingerprint.device_id

CONFUSING = {
    ID: "the ID of another paired device",
    ID.lower(): "the ID of another paired device",
    f"{ID[:4]}-{ID[4:]}": "the ID of another paired device",
    ID[:4].lower(): "the ID of another paired device",
    LAMP.fingerprint.hex: "the ID of another paired device",
    LAMP.fingerprint.hex[:9]: "the ID of another paired device",
    "192.168.1.20": "an IP address",
    "127.1": "an IP address",
    "0x7f.1": "an IP address",
    "label.png": "the file name of a picture",
    "photo.HEIC": "the file name of a picture",
}


@pytest.fixture
def book(shell: Shell) -> DeviceBook:
    book = DeviceBook(shell.home / "devices.json")
    book.put(LAMP)
    book.put(OTHER)
    return book


@pytest.mark.parametrize("alias", CONFUSING)
def test_a_device_is_not_renamed_to_what_names_something_else(
    shell: Shell, book: DeviceBook, alias: str
) -> None:
    done = shell("rename", "kitchen", alias)
    assert done.code == 2
    assert f"cannot be an alias: it would look like {CONFUSING[alias]}" in done.err
    assert book.find(ID) == LAMP
    assert book.find("kitchen") == OTHER


@pytest.mark.parametrize("alias", CONFUSING)
def test_a_new_device_does_not_get_such_an_alias(book: DeviceBook, alias: str) -> None:
    new = KnownDevice(alias, Fingerprint(b"n" * 32))
    with pytest.raises(UsageError, match="cannot be an alias"):
        book.put(new)
    derived = unmistakable_alias(alias[:40], new.fingerprint, book.all())
    assert derived == f"{alias[:40]}-{new.fingerprint.device_id.lower()}"
    book.put(KnownDevice(derived, new.fingerprint))
    assert book.find(ID) == LAMP


def test_a_device_may_have_its_own_id_and_ordinary_names(book: DeviceBook) -> None:
    book.rename("lamp", ID.lower())
    for alias in ("lamp-2", "v1.2-lamp", "büro", "42", ID[:3]):
        book.rename("kitchen", alias)
        book.rename(alias, "kitchen")
    assert book.find("kitchen") == OTHER


def test_a_file_with_such_an_alias_is_still_read(shell: Shell) -> None:
    """An earlier version may have written it; the device can be renamed."""
    old = KnownDevice("192.168.1.20", Fingerprint(b"o" * 32))
    book = DeviceBook(shell.home / "devices.json")
    book.path.parent.mkdir(exist_ok=True)
    book.path.write_bytes(book_bytes({old.alias: old}))
    book.path.chmod(0o600)
    assert shell("rename", "192.168.1.20", "attic").code == 0
    assert book.find("attic").fingerprint == old.fingerprint


def test_an_imported_alias_is_not_the_id_of_a_paired_device(
    shell: Shell, book: DeviceBook, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(
        book_bytes({ID.lower(): KnownDevice(ID.lower(), Fingerprint(b"i" * 32))})
    )
    done = shell("import", str(tmp_path / "file"))
    assert done.code == 2
    assert "the ID of another paired device" in done.err
    assert len(book.all()) == 2


@pytest.mark.parametrize(
    "spelling",
    [
        ID.lower(),
        f"{ID[:4]}\u2013{ID[4:]}",
        f"\ufeff{ID}\r\n",
        f"SHA256:{LAMP.fingerprint.hex.upper()}",
        LAMP.fingerprint.grouped,
        LAMP.fingerprint.ni,
    ],
)
def test_a_device_is_found_by_its_pasted_id_or_fingerprint(book: DeviceBook, spelling: str) -> None:
    assert book.find(spelling) == LAMP
    with pytest.raises(NotKnown):
        book.find(spelling[:-3])


# ---------------------------------------------------------------------------------- host names

NAMES = {
    "bücher.example": "xn--bcher-kva.example",
    "BÜCHER.example": "xn--bcher-kva.example",
    "bu\u0308cher.example": "xn--bcher-kva.example",
    "例え。テスト": "xn--r8jz45g.xn--zckzah",
    "１９２.0.2.1": "192.0.2.1",
    "lamp.example": "lamp.example",
}


@pytest.mark.parametrize("name", NAMES)
def test_an_internationalized_name_is_read_in_its_ascii_form(name: str) -> None:
    assert ascii_host(name) == NAMES[name]
    assert HostPort.parse(f"{name}:5684") == HostPort(NAMES[name], 5684)
    assert checks.hosts([f"{name}:5684", name]) == (f"{NAMES[name]}:5684", NAMES[name])


@pytest.mark.parametrize(
    "name", ["straße.example", "STRAẞE.example", "ος.example", "a\u200db.example"]
)
def test_a_name_that_versions_of_idna_read_differently_is_refused(name: str) -> None:
    with pytest.raises(Malformed, match="two versions of IDNA read differently") as caught:
        ascii_host(name)
    assert "xn--" in caught.value.advice
    with pytest.raises(UsageError, match="not a host name"):
        HostPort.parse(name)
    with pytest.raises(checks.InvalidSetting, match="not a host name"):
        checks.hosts([name])


@pytest.mark.parametrize("target", ["straße.example", "\u2603.example:5685", "a..b"])
def test_a_target_that_is_no_host_name_is_refused_with_the_reason(target: str) -> None:
    """No device has a point or a colon in its name, so that an address is meant."""
    with pytest.raises(UsageError, match=r"is not (a host name|an address)"):
        host_target(target, [])
    with pytest.raises(Unreachable, match="no device with the name"):
        host_target("straße", [])


@pytest.mark.parametrize("name", ["ü" * 64 + ".example", "ü..example", "ü\u2044.example", "ü\0"])
def test_what_is_no_host_name_is_a_usage_error(name: str) -> None:
    with pytest.raises(UsageError):
        HostPort.parse(name)


def test_an_address_with_such_a_name_is_stored_and_removed(shell: Shell, book: DeviceBook) -> None:
    assert shell("address", "lamp", "bücher.example:5684").code == 0
    assert book.find("lamp").addresses == ("xn--bcher-kva.example:5684",)
    content = json.loads(book.path.read_text())
    content["devices"][1]["addresses"] = ["bücher.example:5684"]  # by hand
    book.path.write_text(json.dumps(content))
    assert shell("address", "lamp", "--remove", "BÜCHER.example:5684").code == 0
    assert book.find("lamp").addresses == ()
