"""Users are listed in pages: over CoAP, by the client, and over the control socket."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_app.access.user_pages import UserPages
from device_app.console.console import Console
from device_app.console.control_client import ControlClient
from device_app.limits import USERS_PAGE_DEFAULT, USERS_PAGE_MAX, USERS_UNPAGED_MAX
from iam.model import Key, State, User
from iam.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.device import Caller, Device, Kit

NAMES = ["Zoë", "anna", "anna maria", "b-2", "émil", "ω", "Ω1", "𐐀", "ﾜ"]


def commit(device: Device, *names: str) -> None:
    """Replace all users but olga."""
    store = device.app.access.store
    olga = store.state.user("olga")
    store.commit(State.of([olga, *(User(name, "guest") for name in names)]))


async def names_of(caller: Caller, query: str) -> list[str]:
    answer = await caller.ask("GET", f"/iam/users{query}")
    assert answer.code == "2.05", answer
    return [user["name"] for user in answer.body]


async def test_pages_have_every_user_once_in_the_order_of_names(
    owner: Caller, device: Device
) -> None:
    commit(device, *NAMES)
    found: list[str] = []
    page = await names_of(owner, "?count=3")
    while page:
        found += page
        page = await names_of(owner, f"?count=3&after={page[-1]}")
    assert found == sorted(["olga", *NAMES])
    assert found == await names_of(owner, "")
    assert await names_of(owner, "?after=olga") == [name for name in found if name > "olga"]
    assert await names_of(owner, "?after=olga&count=1") == [found[found.index("olga") + 1]]


async def test_a_page_follows_what_has_changed(owner: Caller, device: Device) -> None:
    commit(device, "b", "d")
    assert await names_of(owner, "?count=9") == ["b", "d", "olga"]
    registry = device.app.access.registry
    registry.add_user(None, User("c", "guest"))
    registry.remove_user(None, "b")
    assert await names_of(owner, "?count=1&after=a") == ["c"]
    commit(device, "x")  # not by steps: as after a restore
    assert await names_of(owner, "?count=9") == ["olga", "x"]


@pytest.mark.parametrize(
    "query",
    [
        "?count=0",
        f"?count={USERS_PAGE_MAX + 1}",
        "?count=-1",
        "?count=²",
        "?count=",
        "?count",
        "?count=1&count=2",
        "?after=a&after=b",
        "?before=a",
        "?count=00000000001",
    ],
)
async def test_an_invalid_page_is_refused(owner: Caller, query: str) -> None:
    answer = await owner.ask("GET", f"/iam/users{query}")
    assert (answer.code, answer.reason) == ("4.00", "malformed")


async def test_a_page_needs_the_right_to_list_users(kit: Kit, device: Device) -> None:
    await kit.paired(device, "olga")
    guest = await kit.paired(device, "gus", role="guest")
    answer = await guest.ask("GET", "/iam/users?count=1")
    assert (answer.code, answer.reason) == ("4.03", "denied")


async def test_a_list_without_pages_is_bounded(owner: Caller, device: Device) -> None:
    commit(device, *(f"u{number:04}" for number in range(USERS_UNPAGED_MAX)))
    answer = await owner.ask("GET", "/iam/users")
    assert (answer.code, answer.reason) == ("4.00", "malformed")
    assert "count=N" in answer.text
    assert len(await names_of(owner, "?count=256")) == 256


async def test_the_control_socket_lists_users_by_name(owner: Caller, device: Device) -> None:
    assert await names_of(owner, "") == ["olga"]
    commit(device, *(f"u{number:03}" for number in range(3 * USERS_PAGE_DEFAULT, 0, -1)))
    answer = await ControlClient(device.app.paths.socket).do(Console.users_list)
    assert [user["name"] for user in answer["users"]] == sorted(device.users.users)


@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("+-r!")), max_size=30),
    st.integers(1, 3),
)
def test_pages_are_those_of_the_sorted_users_after_any_changes(
    steps: list[tuple[str, str]], count: int
) -> None:
    store = SimpleNamespace(state=State.of([]))
    pages = UserPages(store)  # type: ignore[arg-type]
    for name, what in steps:
        state = store.state
        user = state.users.get(name)
        match what:
            case "+" if user is None:
                store.state = state.replaced(None, User(name, "guest"))
            case "-" if user is not None:
                store.state = state.replaced(user, None)
            case "r" if user is not None and f"{name}x" not in state.users:
                store.state = state.replaced(user, replace(user, name=f"{name}x"))
            case "!":  # a state that has no step in common
                store.state = State.of(state.users.values())
            case _:
                continue
        if what in "+!":
            expected = sorted(store.state.users)
            assert [one.name for one in pages.each()] == expected
            assert [one.name for one in pages.page("c", count)] == [
                one for one in expected if one > "c"
            ][:count]
    assert [one.name for one in pages.each()] == sorted(store.state.users)


def test_users_come_sorted_after_a_restart(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "device.db")
    store.commit(
        State.of([User(name, "guest", (Key(f"{n:064x}"),)) for n, name in enumerate(NAMES)])
    )
    store.close()
    store = Store.open(tmp_path / "device.db")
    assert [user.name for user in UserPages(store).each()] == sorted(NAMES)
    store.close()
