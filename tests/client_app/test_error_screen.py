"""Errors as `handfast` prints them."""

import json

import pytest

from client_app.terminal.render import put_error
from peer.errors import PinMismatch
from peer.identity import Fingerprint

ONE, OTHER = Fingerprint(bytes(32)), Fingerprint(bytes(31) + b"\1")


def test_two_keys_are_lined_up_with_their_difference_in_words(
    capsys: pytest.CaptureFixture[str],
) -> None:
    put_error(PinMismatch(ONE.hex, OTHER.hex), is_json=False, quiet=False)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "handfast: the device's key has changed"
    assert [line.split()[0] for line in lines[1:5]] == ["expected", "received"] * 2
    assert lines[5].strip() == "^^^^"
    assert lines[6] == "  They first differ in group 16 of 16, as marked."
    assert "man-in-the-middle" in lines[7]
    assert ONE.hex not in "".join(lines)
    assert max(map(len, lines[:7])) < 80


def test_the_json_of_a_mismatch_has_both_keys_in_canonical_form(
    capsys: pytest.CaptureFixture[str],
) -> None:
    put_error(PinMismatch(ONE.hex, OTHER.hex, is_known=False), is_json=True, quiet=False)
    error = json.loads(capsys.readouterr().err)["error"]
    assert (error["kind"], error["exit"]) == ("PinMismatch", 5)
    assert (error["expected"], error["actual"]) == (ONE.hex, OTHER.hex)
    assert f"expected {ONE.hex}, received {OTHER.hex}" in error["message"]


def test_a_mismatch_of_device_ids_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    error = PinMismatch("6MWQJMB3", "0123ABCD", is_known=False)
    put_error(error, is_json=False, quiet=True)
    assert capsys.readouterr().err == (
        "handfast: another device answered: expected 6MWQJMB3, received 0123ABCD\n"
    )
