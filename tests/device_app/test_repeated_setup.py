"""Commands that a configuration manager runs again and again: the same result, no change."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from device_app.errors import AppError
from device_app.settings.naming import renamed
from iam.errors import Denied, NameTaken
from iam.model import Key, Subject, User
from tests.kit.daemon import run

if TYPE_CHECKING:
    from tests.kit.device import Kit
    from tests.kit.process import Result

ANNA, PHONE = "ab" * 32, "cd" * 32


def value(result: Result) -> Any:
    assert result.code == 0, result.err
    return result.value


async def events(home: Path) -> int:
    return len((await run(home, "events", "--json", "--last", "999")).out.splitlines())


async def test_adding_the_same_user_again_changes_nothing(kit: Kit) -> None:
    """Also after the user has got another key."""
    await run(kit.home, "init")
    for is_running in (False, True):
        if is_running:
            await kit.daemon()
        name = f"anna-{is_running}"
        key = f"{int(is_running) + 1:064x}"
        add = ["users", "add", name, "--role", "owner", "--key", key, "--display", "Anna"]
        first = value(await run(kit.home, "--json", *add))
        assert first["created"]
        await run(kit.home, "users", "add-key", name, f"{int(is_running) + 8:064x}")
        before = await events(kit.home)
        again = await run(kit.home, *add)
        assert again.code == 0
        assert "exists already, as given. Nothing was changed." in again.err
        assert value(await run(kit.home, "--json", *add))["created"] is False
        assert await events(kit.home) == before
        listed = value(await run(kit.home, "--json", "users", "show", name))["user"]
        assert len(listed["keys"]) == 2
        for other in (
            ["--role", "guest"],
            ["--display", "Another"],
            ["--key", f"{int(is_running) + 20:064x}"],
            ["--until", "2036-01-01"],
        ):
            refused = await run(kit.home, *add, *other)
            assert refused.code == 8, (other, refused)


async def test_other_changes_can_be_repeated(kit: Kit) -> None:
    await run(kit.home, "init", "--name", "kitchen")
    await run(kit.home, "users", "add", "anna", "--role", "owner", "--key", ANNA)
    await run(kit.home, "users", "add", "leo")
    for words in (
        ["users", "set", "leo", "--role", "user", "--display", "Leo", "--until", "2036-01-01"],
        ["users", "set", "leo", "--until", "0"],
        ["users", "add-key", "leo", PHONE, "--key-name", "phone"],
        ["init", "--name", "kitchen", "--owner", f"anna={ANNA}"],
    ):
        assert (await run(kit.home, *words)).code == 0
        before = await events(kit.home)
        assert (await run(kit.home, *words)).code == 0
        assert await events(kit.home) == before, words


async def test_a_user_without_the_right_to_the_role_learns_nothing(kit: Kit) -> None:
    """Adding a user who exists is still a request for that user's role."""
    device = await kit.device()
    registry = device.app.access.registry
    owner = registry.add_user(None, User("anna", "owner", (Key(ANNA, "", "given"),)))
    registry.add_user(None, User("mia", "admin", (Key(PHONE, "", "given"),)))
    admin = Subject(PHONE, device.app.access.store.state.users["mia"], "admin")
    assert registry.add_user(None, owner) == owner
    with pytest.raises(Denied):
        registry.add_user(admin, owner)
    with pytest.raises(NameTaken):
        registry.add_user(None, User("anna", "admin"))


async def test_init_names_its_files_and_sets_the_first_owners(kit: Kit) -> None:
    done = await run(kit.home, "init", "--owner", f"anna={ANNA.upper()}", "--owner", f"leo={PHONE}")
    assert done.code == 0
    assert f"settings     {kit.home / 'device.toml'}" in done.out
    assert f"state        {kit.home}" in done.out
    assert "owners       anna, leo" in done.out
    answer = value(await run(kit.home, "--json", "init", "--owner", f"anna={ANNA}"))
    assert answer["owners"] == ["anna"]
    users = value(await run(kit.home, "--json", "users", "list"))["users"]
    assert [(one["name"], one["role"]) for one in users] == [("anna", "owner"), ("leo", "owner")]
    daemon = await kit.daemon()
    assert not daemon.status["window"]["open"], "the device has owners already"
    mia = value(await run(kit.home, "--json", "init", "--owner", f"mia={'ef' * 32}"))
    assert mia["owners"] == ["mia"], "also while the daemon runs"
    assert "mia" in (await daemon.run("users", "list")).out


@pytest.mark.parametrize("owner", ["anna", "anna=12", f"a/b={ANNA}", f"={ANNA}"])
async def test_an_owner_that_is_not_valid_creates_nothing(tmp_path: Path, owner: str) -> None:
    home = tmp_path / "home"
    assert (await run(home, "init", "--owner", owner)).code == 2
    assert not os.path.lexists(home)  # noqa: ASYNC240 - nothing else waits


SETTINGS = {
    "another name": 'name = "attic"\n[network]\nport = 7\n',
    "a comment": "# mine\n\nname='attic'  # the old one\n[network]\nport = 7 # seven\n",
    "no name": "# mine\n[network]\nport = 7\n",
    "nothing": "",
    "CR LF": 'name = "attic"\r\n[network]\r\nport = 7\r\n',
    "a table with a name": "[limits]\nusers = 9\n[board]\nlabel = true\n",
}


@pytest.mark.parametrize("form", SETTINGS)
async def test_init_changes_the_name_and_no_other_setting(tmp_path: Path, form: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    file = home / "device.toml"
    file.write_bytes(SETTINGS[form].encode())
    file.chmod(0o640)
    done = value(await run(home, "--json", "init", "--name", "küche"))
    assert done["name"] == "küche"
    text = file.read_bytes().decode()
    assert tomllib.loads(text) == {**tomllib.loads(SETTINGS[form]), "name": "küche"}
    kept = [line for line in SETTINGS[form].split("\n") if "name" not in line]
    assert [line for line in text.split("\n") if line in kept] == kept
    assert "old one" in text or "old one" not in SETTINGS[form]
    assert file.stat().st_mode & 0o777 == 0o640
    assert (await run(home, "init", "--name", "küche")).code == 0
    assert file.read_bytes().decode() == text


def test_a_file_whose_name_cannot_be_changed_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "device.toml"
    for text in ('name = """\nattic"""\n', 'x = """\n[\n"""\nname = "attic"\n'):
        file.write_text(text)
        with pytest.raises(AppError, match="the name cannot be changed"):
            renamed(file, "kitchen")


async def test_a_name_in_another_file_is_pointed_to(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "device.d").mkdir(parents=True)
    (home / "device.d" / "site.toml").write_text('\nname = "attic"\n')
    done = await run(home, "init", "--name", "kitchen")
    assert done.code == 1
    assert f"{home / 'device.d' / 'site.toml'}:2" in done.err
