"""DEVICE can be left out if only one device is paired, and aliases are found without their case."""

from dataclasses import replace
from pathlib import Path

import pytest

from client_app.known_devices import DeviceBook
from client_app.models import KnownDevice
from peer.errors import UsageError
from peer.identity import Fingerprint
from tests.kit.shell import Shell
from tests.kit.threads import DeviceThread


def known(alias: str, number: int) -> KnownDevice:
    return KnownDevice(alias, Fingerprint(bytes([number] * 32)), user="anna", role="owner")


@pytest.fixture
def anna(owner: DeviceThread, shell: Shell) -> Shell:
    """The shell of the owner of a device."""
    del owner
    return shell


@pytest.mark.parametrize(
    "words",
    [
        ["get", "/hello"],
        ["whoami"],
        ["ls"],
        ["roles"],
        ["events"],
        ["can", "Hello:Get"],
        ["users"],
        ["users", "list"],
        ["users", "show", "anna"],
        ["users", "--json"],
        ["invites"],
        ["invite", "mia"],
        ["open", "--close"],
        ["get", "/hello", "--raw"],
    ],
)
def test_a_verb_without_a_device_is_for_the_only_one(anna: Shell, words: list[str]) -> None:
    done = anna(*words)
    assert done.code == 0, done.err


def test_a_device_is_asked_for_if_there_are_several(anna: Shell) -> None:
    DeviceBook(anna.home / "devices.json").put(known("attic", 2))
    for words in (["get", "/hello"], ["users"], ["whoami"], ["invite", "mia"]):
        done = anna(*words)
        assert done.code == 2
        assert "2 devices" in done.err
        assert "attic, kitchen" in done.err


def test_without_any_device_the_next_step_is_named(shell: Shell) -> None:
    for words in (["get", "/hello"], ["users"], ["whoami"]):
        done = shell(*words)
        assert done.code == 2
        assert "handfast pair" in done.err


@pytest.mark.parametrize(
    "words", [["get", "kitchen"], ["can", "kitchen"], ["invite", "kitchen"], ["put", "kitchen"]]
)
def test_the_name_of_a_device_is_not_taken_for_the_next_argument(
    anna: Shell, words: list[str]
) -> None:
    done = anna(*words)
    assert done.code == 2
    assert "Missing argument" in done.err


def test_an_alias_that_is_also_a_verb_names_the_device(shell: Shell) -> None:
    DeviceBook(shell.home / "devices.json").put(known("list", 1))
    DeviceBook(shell.home / "devices.json").put(known("show", 2))
    done = shell("users", "list", "remove", "mia")
    assert "Remove mia from list?" in done.err or "terminal" in done.err


@pytest.mark.parametrize("text", ["Kitchen", "KITCHEN", "kitchen", "kItChEn"])
def test_an_alias_is_found_without_its_case(tmp_path: Path, text: str) -> None:
    book = DeviceBook(tmp_path / "devices.json")
    book.put(known("kitchen", 1))
    assert book.find(text).alias == "kitchen"
    with pytest.raises(UsageError, match="alias of another device"):
        book.put(known(text, 2))
    assert book.rename(text, "Kitchen").alias == "Kitchen"
    book.put(known("attic", 2))
    with pytest.raises(UsageError, match="alias of another device"):
        book.rename("attic", text)


def test_two_old_aliases_that_differ_in_case_name_each_its_device(tmp_path: Path) -> None:
    path = tmp_path / "devices.json"
    book = DeviceBook(path)
    book.put(known("kitchen", 1))
    other = known("zitchen", 2)
    book.put(other)
    path.write_text(path.read_text().replace("zitchen", "Kitchen"))
    assert book.find("kitchen").fingerprint != book.find("Kitchen").fingerprint
    assert book.update(other.fingerprint, lambda one: replace(one, user="mia")) is not None


def test_umlauts_and_composed_letters_are_the_same_alias(tmp_path: Path) -> None:
    book = DeviceBook(tmp_path / "devices.json")
    book.put(known("K\u00fcche", 1))
    assert book.find("KU\u0308CHE").alias == "K\u00fcche"
