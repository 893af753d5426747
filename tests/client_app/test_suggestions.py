"""A mistyped verb or alias gets a suggestion, and an empty list names the next step."""

import pytest

from client_app.cli import SYNONYMS, VERBS
from client_app.known_devices import DeviceBook
from client_app.models import KnownDevice
from peer.identity import Fingerprint
from peer.terminal.suggestions import did_you_mean
from peer.terminal.wire_words import in_typed_words
from tests.kit.shell import Shell


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("opne", "open"),
        ("pari", "pair"),
        ("Devices", "devices"),
        ("devcies", "devices"),
        ("obsrve", "observe"),
        ("who", "whoami"),
        ("disc", "discover"),
        ("scan", "discover"),
        ("unpair", "forget"),
        ("watch", "observe"),
        ("list", "devices"),
        ("fingerprnt", "fingerprint"),
    ],
)
def test_an_unknown_verb_is_answered_with_the_one_that_was_meant(
    shell: Shell, typed: str, meant: str
) -> None:
    done = shell(typed)
    assert done.code == 2
    assert f"Did you mean `{meant}`" in done.err


def test_a_word_that_is_like_no_verb_gets_no_suggestion(shell: Shell) -> None:
    done = shell("xyzzy")
    assert done.code == 2
    assert "Did you mean" not in done.err
    assert "handfast --help" in done.err.replace("main --help", "handfast --help")


def test_each_synonym_is_no_verb_and_leads_to_one() -> None:
    assert not SYNONYMS.keys() & VERBS.keys()
    assert set(SYNONYMS.values()) <= VERBS.keys()


def test_a_verb_of_a_group_is_suggested(shell: Shell) -> None:
    assert "Did you mean `add`" in shell("users", "kitchen", "ad").err


def test_a_mistyped_alias_is_suggested(shell: Shell) -> None:
    DeviceBook(shell.home / "devices.json").put(KnownDevice("kitchen", Fingerprint(bytes(32))))
    assert "Did you mean kitchen?" in shell("get", "kitchn", "/hello").err


def test_nothing_is_suggested_for_nothing() -> None:
    assert not did_you_mean("", ["pair"])
    assert not did_you_mean("p", ["pair"])


@pytest.mark.usefixtures("lan")
def test_a_search_without_a_result_names_the_next_step(shell: Shell) -> None:
    done = shell("discover", "--timeout", "1m")
    assert (done.code, done.out) == (0, "")
    assert "handfast doctor" in done.err
    assert "--timeout" in done.err


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("seconds is missing or is not a number of seconds above 0", "--for is not a duration"),
        ("not_after is missing or is not seconds since 1970", "--until is not a time"),
        ("uses is missing or is not a whole number from 1 to 32", "--uses is not a whole number"),
        ("colour is missing or is not text", "colour is missing or is not text"),
        ("the window is open", "the window is open"),
    ],
)
def test_an_error_about_a_field_names_the_option(message: str, shown: str) -> None:
    options = {"seconds": "--for", "not_after": "--until", "uses": "--uses"}
    found, advice = in_typed_words(message, "Give it.", options)
    assert found.startswith(shown)
    assert ("--" in advice) == ("--" in shown)
