"""A store with a history of changes, and the state that must hold after it was damaged."""

from __future__ import annotations

import shutil
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest

from iam import (
    Access,
    Event,
    Key,
    Rules,
    State,
    Store,
    User,
)
from iam import changes as to
from iam.model import Invite
from iam.storefile import StoreFile

EVENT = Event(kind="hello", boot="b", monotonic=1.0, wall=2.0)
LABEL = {"token": "ab", "code": "cd", "failures": 0}
NAME = "state.db"


@dataclass
class Case:
    """Copies of a device's files, its final state, and the key that was revoked last.

    `live` was copied while the device ran, with the last change only in SQLite's log; `closed` when
    the store was closed; `older` before the last change.
    """

    live: Path
    closed: Path
    older: Path
    final: State
    revoked: str


def snapshot(path: Path, folder: Path) -> Path:
    """Copy the files of a store as a loss of power would leave them."""
    folder.mkdir()
    for file in path.parent.iterdir():
        if not file.name.endswith((".lock", "-shm")):
            shutil.copy(file, folder / file.name)
    return folder


def made_case(tmp: Path) -> Case:
    """Create a store that granted and revoked rights, with copies from before and after."""
    (tmp / "device").mkdir()
    path = tmp / "device" / NAME
    rules = Rules(Access().roles)
    cast = {"anna": "owner", "bert": "admin", "carl": "user"}
    users = [User(name, role, (Key(_fp(name)),)) for name, role in cast.items()]
    house = State.of(users, [Invite("1" * 32, "eve", "guest", 100.0, 2, inviter="bert")])
    with closing(Store.open(path)) as store:
        store.commit(house, EVENT, attempts={"pairing": {"failures": 3}, "label": LABEL})
    older = snapshot(path, tmp / "older")
    with pytest.MonkeyPatch.context() as patch, closing(Store.open(path)) as store:
        patch.setattr(StoreFile, "checkpoint", lambda _file: None)  # as while a reader is active
        store.commit(to.remove_user(store.state, None, "bert", rules=rules), EVENT)
        store.commit(store.state, EVENT)
        final = store.state
        live = snapshot(path, tmp / "live")
    return Case(live, snapshot(path, tmp / "closed"), older, final, _fp("bert"))


def _fp(of: object) -> str:
    return sha256(str(of).encode()).hexdigest()
