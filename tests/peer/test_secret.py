"""Secrets are shown by no representation and by no encoder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import pytest

from peer import cbor
from peer.secret import Secret


@dataclass(frozen=True)
class Account:
    name: str
    password: Secret[str]


SHOWN = Account("alice", Secret("hunter2"))


def test_no_representation_shows_the_value() -> None:
    for text in (
        repr(SHOWN),
        str(SHOWN),
        f"{SHOWN.password}",
        f"{SHOWN.password!r}",
        "%s" % SHOWN.password,  # noqa: UP031 - as logging does it
        repr(asdict(SHOWN)),
    ):
        assert "hunter2" not in text


def test_no_encoder_takes_a_secret() -> None:
    with pytest.raises(TypeError):
        json.dumps(asdict(SHOWN))
    with pytest.raises(ValueError, match="no CBOR form"):
        cbor.encode({"password": SHOWN.password})


def test_secrets_are_equal_if_their_values_are() -> None:
    assert Secret(b"a") == Secret(b"a") != Secret(b"b")
    assert Secret("a") != Secret(b"a")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
    assert (bool(Secret("")), bool(Secret("a"))) == (False, True)
    assert Secret("a").reveal() == "a"
