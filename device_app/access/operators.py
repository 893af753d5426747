"""The user of this machine on whose behalf a verb of the console is carried out.

A member of the group `handfast` has all rights of the console. The audit trail states who it was,
since the actor of each such event is `@console`. The control server knows the user from the kernel,
and names it for the task that carries out the verb (`acting`); `AuditLog.event` asks for it. Only
code of that task has an operator: a timer, a socket or another task that the verb starts has none,
because what it does later is not done by the user who started the verb.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from weakref import WeakKeyDictionary


@dataclass(frozen=True, slots=True)
class Operator:
    """A user of this machine: the user ID, and the name of the account, or empty without one."""

    uid: int
    name: str

    def __str__(self) -> str:
        return f"uid {self.uid} {self.name}".rstrip()


_acting: Final[WeakKeyDictionary[asyncio.Task[object], Operator]] = WeakKeyDictionary()


@contextmanager
def acting(operator: Operator | None) -> Iterator[None]:
    """Let the current task act for an operator inside the block; None is the daemon's own user."""
    task = asyncio.current_task()
    assert task is not None
    if operator is not None:
        _acting[task] = operator
    try:
        yield
    finally:
        _acting.pop(task, None)


def current_operator() -> Operator | None:
    """Return the operator of the current task, or None: also outside of a task or an event loop."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return None
    return None if task is None else _acting.get(task)


def detail_by(operator: Operator, detail: str) -> str:
    """Return the detail of an event with the operator in front."""
    return f"{operator}, {detail}" if detail else str(operator)


def without_operator(detail: str) -> str:
    """Return the detail of an event as it is without an operator."""
    return detail.partition(", ")[2] if detail.startswith("uid ") else detail
