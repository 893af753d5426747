"""A store on disk and its files."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from iam import Event, State, Store

Fp = Callable[[object], str]
HELLO = Event(kind="hello", boot="b", monotonic=1.0, wall=2.0)


def filled(path: Path, state: State) -> None:
    with closing(Store.open(path)) as store:
        store.commit(state, HELLO, attempts={"failures": 3})


@contextmanager
def traced(
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[tuple[list[sqlite3.Connection], list[str]]]:
    """Record the store's connections and each statement that they run."""
    connections: list[sqlite3.Connection] = []
    statements: list[str] = []
    real = sqlite3.connect

    def connect(name: str, *, uri: bool, isolation_level: None) -> sqlite3.Connection:
        db = real(name, uri=uri, isolation_level=isolation_level)
        db.set_trace_callback(statements.append)
        connections.append(db)
        return db

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", connect)
        yield connections, statements


connect = sqlite3.connect  # not the one that `traced` puts in its place
