"""`handfast users` prints each page before it asks for the next one, with the same result."""

from __future__ import annotations

import asyncio
import inspect
import io
import json
from contextlib import asynccontextmanager, redirect_stdout
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from client_app.commands import users
from client_app.commands.invocation import Invocation
from client_app.limits import USERS_PAGE
from client_app.models import User
from client_app.terminal.render import put_out
from client_app.terminal.screen import Screen

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator


def user(number: int) -> User:
    return User(f"user-{number}", "guest")


class Listing(Invocation):
    """A run of `users list` at a device with `count` users; it has received `read` of them."""

    def __init__(self, count: int, *, is_json: bool) -> None:
        super().__init__(Screen(), json=is_json, device="kitchen")
        self.count = count
        self.read = 0

    async def _each_user(self, **_options: object) -> AsyncGenerator[User, None]:
        for number in range(self.count):
            self.read = number + 1
            yield user(number)

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[Any]:
        iam = SimpleNamespace(each_user=self._each_user)

        async def connect(_device: str) -> Any:
            return SimpleNamespace(iam=iam)

        yield SimpleNamespace(connect=connect)

    def client(self) -> Any:
        return self._client()


def listed(count: int, *, is_json: bool) -> tuple[str, list[int]]:
    """Return the output, and how many users were received when each part was printed."""
    listing = Listing(count, is_json=is_json)
    read: list[int] = []
    verb: Any = inspect.unwrap(users.list_.callback or print)

    async def run() -> None:
        async for part in verb(listing):
            read.append(listing.read)
            put_out(part, listing.screen, is_json=is_json, is_raw=False)

    with redirect_stdout(io.StringIO()) as out:
        asyncio.run(run())
    return out.getvalue(), read


SIZES = (0, 1, USERS_PAGE, USERS_PAGE + 1, 2 * USERS_PAGE + 50)


@pytest.mark.parametrize("count", SIZES)
def test_the_parts_are_one_json_document(count: int) -> None:
    out, _ = listed(count, is_json=True)
    document = json.loads(out)
    assert out == json.dumps(document) + "\n"
    assert [one["name"] for one in document.pop("users")] == [f"user-{n}" for n in range(count)]
    assert document == {"schema": 1}


@pytest.mark.parametrize("count", SIZES)
def test_the_parts_are_one_table(count: int, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = listed(count, is_json=False)
    names = [line.split()[0] for line in out.splitlines()]
    assert names == (["USER", *(f"user-{n}" for n in range(count))] if count else [])
    assert ("no users" in capsys.readouterr().err) == (not count)


@pytest.mark.parametrize("is_json", [False, True])
def test_a_page_is_printed_before_the_next_one_is_requested(is_json: bool) -> None:
    _, read = listed(2 * USERS_PAGE + 50, is_json=is_json)
    end = [2 * USERS_PAGE + 50] * (2 if is_json else 1)
    assert read == [USERS_PAGE, 2 * USERS_PAGE, *end]
