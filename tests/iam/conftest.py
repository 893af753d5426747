"""Fixtures of the tests of iam: the built-in rules, and a household with five keys."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest

from iam import Access, Key, Rules, State, User
from iam.model import Invite


def fingerprint(of: object) -> str:
    return sha256(str(of).encode()).hexdigest()


@pytest.fixture
def fp() -> Callable[[object], str]:
    """A fingerprint for any value: fp("anna") is the key of the user anna below."""
    return fingerprint


@pytest.fixture
def access() -> Access:
    return Access()


@pytest.fixture
def rules(access: Access) -> Rules:
    return Rules(access.roles)


@pytest.fixture
def invite() -> Callable[..., Invite]:
    """Create an invite for a guest that expires at 100; its number is its id."""

    def make(number: int, name: str = "eve", role: str = "guest", **fields: Any) -> Invite:
        return Invite(f"{number:032x}", name, role, **{"expires": 100.0, **fields})

    return make


@pytest.fixture
def house() -> State:
    """The users anna (owner, two keys), bert (admin), carl (user) and dora (guest)."""
    cast = {"anna": "owner", "bert": "admin", "carl": "user", "dora": "guest"}
    users = {name: User(name, role, (Key(fingerprint(name)),)) for name, role in cast.items()}
    second = Key(fingerprint("anna's phone"), "phone", added=1.0)
    users["anna"] = User("anna", "owner", (*users["anna"].keys, second))
    return State.of(users.values())
