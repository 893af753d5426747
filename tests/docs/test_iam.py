"""The tables of docs/iam.md match the code, and every recipe has the documented effect.

A device loads the recipe's policy, its commands run on the device's store, and each table row is a
request over DTLS by a user of that name or role.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import aiocoap
import pytest
from aiocoap.numbers.codes import Code

from device_app.access.clock import SystemClocks
from device_app.app import App
from device_app.settings.config import Settings
from device_app.settings.paths import Paths
from iam import limits, policy_budget
from iam.builtin import LOWEST, RANKS, TARGETED, UNPAIRED_ACTIONS
from iam.condition import Operator
from iam.config import load
from iam.limits import ATTRIBUTE_CHARACTERS_MAX, ATTRIBUTES_MAX
from iam.model import Key, State, User
from iam.nabto.counterparts import COUNTERPARTS
from iam.nabto.roles import RANK_MAX
from iam.policy_warnings import ODD as ODD_WARNINGS
from iam.store import Store
from peer import cbor
from peer.identity import Identity
from peer.net.address import Address
from peer.net.client import CoapsClient
from peer.pairing import invite
from tests.kit.waiting import TIMEOUT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.kit.documents import ProtocolDocument

ROOT = Path(__file__).parents[2]
IAM = (ROOT / "docs" / "iam.md").read_text()
HOST = "127.0.0.1"
DAY = 86_400.0
LAMP = """
import aiocoap
from aiocoap.resource import Resource

from device_app.resource_spec import Board, ResourceSpec


class Lamp(Resource):
    async def render_get(self, request):
        return aiocoap.Message(payload=b"off")

    async def render_put(self, request):
        return aiocoap.Message()


def resources(board: Board):
    yield ResourceSpec(
        "/lamp",
        Lamp(),
        actions={"GET": "Lamp:Read", "PUT": "Lamp:Set"},
        attributes=lambda request: {"Lamp:Room": "hall"},
    )
"""


@dataclass(frozen=True)
class Row:
    """One row of a recipe's table."""

    who: str
    where: str
    request: str
    answer: str

    @property
    def name(self) -> str:
        return self.who.partition("`")[2].partition("`")[0]


@dataclass(frozen=True)
class Recipe:
    """One recipe of the page."""

    title: str
    policy: str
    commands: tuple[tuple[str, ...], ...]
    lines: tuple[Row, ...]


def rows(text: str) -> Iterator[list[str]]:
    for line in re.findall(r"^\| (.*) \|$", text, re.MULTILINE):
        yield [cell.strip() for cell in line.split("|")]


def recipes() -> Iterator[Recipe]:
    _, _, part = IAM.partition("\n## Recipes\n")
    for section in part.split("\n### ")[1:]:
        title, _, text = section.partition("\n")
        commands = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
        yield Recipe(
            title,
            "\n".join(re.findall(r"```toml\n(.*?)```", text, re.DOTALL)),
            tuple(tuple(line.split()) for line in commands.splitlines()),
            tuple(Row(*row) for row in list(rows(text))[1:]),
        )


ALL = {recipe.title: recipe for recipe in recipes()}


def test_there_are_ten_recipes_and_each_has_an_effect() -> None:
    assert len(ALL) >= 10
    for recipe in ALL.values():
        assert recipe.policy or recipe.commands
        assert {line.answer[0] for line in recipe.lines} == {"2", "4"}, recipe.title
        assert {line.where for line in recipe.lines} <= {"local", "remote"}


@pytest.mark.parametrize("title", ALL)
async def test_a_recipe_has_the_documented_effect(title: str, tmp_path: Path) -> None:
    recipe = ALL[title]
    names = {line.name for line in recipe.lines} | {"user", "guest", "owner"}
    keys = {name: Identity.create() for name in names}
    home = prepare_home(tmp_path, recipe, keys)
    tokens = [printed for command in recipe.commands for printed in run(command, home)]
    app: App | None = None
    circumstances: tuple[str, bool] | None = None
    try:
        for line in recipe.lines:
            now = (line.where, "after the end" in line.who)
            if now != circumstances:
                if app is not None:
                    await app.close()
                app, circumstances = (
                    await start_app(home, near=now[0] == "local", later=now[1]),
                    now,
                )
            assert app is not None
            while tokens:
                assert (await redeem(app, keys["mia"], tokens.pop())).startswith("2.04")
            assert await answer(app, keys[line.name], line.request) == line.answer, line
    finally:
        if app is not None:
            await app.close()


def prepare_home(folder: Path, recipe: Recipe, keys: dict[str, Identity]) -> Path:
    """Create a device with the recipe's policy and a user for each role that the table names."""
    home = folder / "home"
    (home / "policy.d").mkdir(parents=True, mode=0o700)
    home.chmod(0o700)
    (home / "modules").mkdir()
    module = f"lamp_of_{re.sub('[^a-z]', '_', recipe.title.lower())}"
    (home / "modules" / f"{module}.py").write_text(LAMP)
    (home / "device.toml").write_text(f'name = "hall"\n[resources]\nmodules = ["{module}"]\n')
    (home / "policy.d" / "recipe.toml").write_text(recipe.policy)
    roles = set(load([("recipe.toml", recipe.policy)]).access({}).roles)
    store = Store.open(Paths(home, home, home).store)
    users = [
        User(name, name, (Key(key.fingerprint.hex),)) for name, key in keys.items() if name in roles
    ]
    store.commit(State.of(users))
    store.close()
    return home


def run(command: tuple[str, ...], home: Path) -> Iterable[str]:
    """Run a command of the page on the device's files and return the invites that it prints."""
    assert command[0] == "handfast-device", command
    done = subprocess.run(
        [sys.executable, "-m", "device_app", "--home", str(home), *command[1:]],
        check=True,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        env={**os.environ},
    )
    return re.findall(r"^HANDFAST:I:\S+$", done.stdout, re.MULTILINE)


async def start_app(home: Path, *, near: bool, later: bool) -> App:
    paths = Paths(home, home, home)
    settings = Settings(
        name="hall",
        listen=(HOST,),
        port=0,
        pairing_port=0,
        advertise=False,
        allow_loopback=near,
        modules=(next((home / "modules").glob("*.py")).stem,),
    )
    ahead = 4 * DAY if later else 0.0
    return await App.start(paths, settings, clocks=SystemClocks(wall=lambda: time.time() + ahead))


async def answer(app: App, key: Identity, request: str) -> str:
    """The response code of the request in a row."""
    method, path, body = re.fullmatch(r"`?(\w+) (\S+)(?: (\{.*\}))?`?", request).groups()  # type: ignore[union-attr]
    message = aiocoap.Message(code=getattr(Code, method), uri_path=path.strip("/").split("/"))
    if body:
        message.payload, message.opt.content_format = cbor.encode(ast.literal_eval(body)), 60
    return (await send(app, key, message)).code.dotted


async def redeem(app: App, key: Identity, text: str) -> str:
    _, token = invite.read_untrusted(text)
    message = aiocoap.Message(code=Code.POST, uri_path=("iam", "redeem"))
    message.payload, message.opt.content_format = cbor.encode({"token": token}), 60
    return (await send(app, key, message)).code.dotted


async def send(app: App, key: Identity, message: aiocoap.Message) -> aiocoap.Message:
    client = CoapsClient(key)
    try:
        connection = await client.connect(
            Address(HOST, app.server.port), pinned=app.identity.fingerprint, timeout=TIMEOUT_SECONDS
        )
        return await connection.request(message, timeout=TIMEOUT_SECONDS)
    finally:
        await client.close()


def test_explain_prints_the_documented_output_for_the_example(tmp_path: Path) -> None:
    """The user tom has the key `phone`, as on the page."""
    example = re.findall(r"<!-- policy: example -->\n```toml\n(.*?)```", IAM, re.DOTALL)[0]
    home = prepare_home(tmp_path, Recipe("explain", example, (), ()), {})
    store = Store.open(Paths(home, home, home).store)
    tom = User("tom", "child", (Key("5a" * 32, "phone"),))
    owner = User("owner", "owner", (Key("0e" * 32),))
    store.commit(State.of([owner, tom]))
    store.close()
    shown = re.findall(r"<!-- run by tests/docs/test_iam.py -->\n```\n(.*?)```", IAM, re.DOTALL)[0]
    printed = ""
    for line in re.findall(r"^\$ (.*)$", shown, re.MULTILINE):
        done = subprocess.run(
            [sys.executable, "-m", "device_app", "--home", str(home), *line.split()[1:]],
            check=False,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
        )
        assert done.returncode == (0 if "allowed:" in done.stdout else 7)
        printed += f"$ {line}\n{done.stdout}"
    assert printed == shown


UNUSUAL_POLICY = """
[[policy]]
id = "odd"
[[policy.statement]]
effect = "Deny"
actions = ["Lamp:*"]
conditions = [
    { NumericNotEquals = { "Lamp:Room" = ["7"] } },
    { StringEquals = { "Lamp:Room" = ["hall*"] } },
    { DateLessThan = { "Clock:Now" = ["2026"] } },
    { Bool = { "Connection:IsLocal" = ["true"] } },
    { IpAddress = { "Connection:Address" = ["192.0.2.0/24"] } },
]
[[role]]
id = "Guest"
rank = 3
policies = ["odd"]
"""


def test_each_documented_warning_is_raised_and_no_other() -> None:
    """Each row of the table has one warning, with its line number."""
    warnings = load([("odd.toml", UNUSUAL_POLICY)]).warnings
    assert [int(one.split(":")[1]) for one in warnings] == [8, 9, 10, 11, 12, 15]
    table = IAM.partition("| statement | reason for the warning |\n")[2].partition("\n\n")[0]
    words = ("Deny", "`*`", "2001", "hop limit", "another address", "built-in")
    lines = table.splitlines()[1:]
    for line, word, warning in zip(lines, words, warnings, strict=True):
        assert word in line
        assert word.strip("`") in warning
    assert len(ODD_WARNINGS) + 2 == len(warnings)
    example = re.findall(r"<!-- policy: example -->\n```toml\n(.*?)```", IAM, re.DOTALL)[0]
    assert load([("example.toml", example)]).warnings == ()


def test_the_documented_bounds_equal_those_of_the_code() -> None:
    words = IAM.partition("- All files together hold at most ")[2].partition("\n- ")[0]
    printed = [int(number.replace(",", "")) for number in re.findall(r"\b[0-9][0-9,]*\b", words)]
    in_all = list(limits.POLICY_TOTALS.values())
    assert printed[:9] == [
        limits.DEFAULT_IAM_LIMITS.policy_bytes >> 20,
        *in_all,
        limits.DECISION_STEPS_MAX,
    ]
    assert printed[9:] == [
        1,
        policy_budget.READ_STEPS,
        1,
        policy_budget.SEARCH_STEPS,
        limits.ROLE_STEPS_MAX,
    ]


def test_the_actions_that_unpaired_may_have_are_documented() -> None:
    words = IAM.partition("The role `unpaired` can have no other actions than ")[2].partition(
        ":\n"
    )[0]
    sentence = words.partition(": whatever")[0]
    assert set(re.findall(r"\w+:\w+", sentence)) == UNPAIRED_ACTIONS


def test_the_documented_numbers_equal_those_of_the_code() -> None:
    most, longest = ATTRIBUTES_MAX, ATTRIBUTE_CHARACTERS_MAX
    assert f"more than {most} attributes, or one longer than {longest:,} characters" in IAM
    assert f"from {RANK_MAX} downwards" in IAM
    assert RANKS["guest"] > RANK_MAX
    needs = IAM.partition("(Iam:AddUser needs\n")[2].partition(")")[0]
    (add,) = (one for one in COUNTERPARTS if one.action == "Iam:AddUser")
    assert set(re.findall(r"IAM:\w+", needs)) == set(add.needs)


# ----------------------------------------------------------------------------------------- tables


def test_the_documented_roles_equal_those_of_the_code() -> None:
    table = IAM.partition("| role | rank |")[2].partition("\n## ")[0]
    found = {
        cells[0].strip("`"): (int(cells[1]), cells[2]) for cells in rows(table) if "`" in cells[0]
    }
    assert {role: rank for role, (rank, _) in found.items()} == dict(RANKS)
    for role in ("unpaired", "guest", "user"):
        printed = set(re.findall(r"\w+:\w+", found[role][1]))
        assert printed == {action for action, least in LOWEST.items() if least == role}
    admin = {action for action, least in LOWEST.items() if least == "admin"}
    rest = {action for action in admin if not action.startswith("Iam:")}
    assert set(re.findall(r"\w+:\w+", found["admin"][1])) == rest
    assert "owner" not in LOWEST.values()


def test_the_documented_operators_equal_those_of_the_code() -> None:
    table = IAM.partition("| operators | values |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`([A-Z]\w+)`", table.replace("`true`", ""))) == {
        operator.value for operator in Operator
    }
    example = re.findall(r"<!-- policy: example -->\n```toml\n(.*?)```", IAM, re.DOTALL)[0]
    access = load([("example.toml", example)]).access({"Lamp:Set": "user"})
    assert access.roles["child"].rank == 12


def test_the_resources_equal_those_of_the_protocol_document(protocol: ProtocolDocument) -> None:
    ours = list(rows(IAM.partition("<!-- table: iam -->")[2].partition("\n\n")[0]))[1:]
    theirs = protocol.table("regular")

    def plain(cell: str) -> tuple[str, str]:
        method, path = re.match(r"([A-Z]+).*?`([^`?]+)", cell).groups()  # type: ignore[union-attr]
        return method, path

    def actions(table: list[list[str]]) -> set[tuple[str, str, str]]:
        return {
            (*plain(row[0]), action)
            for row in table
            if "`/iam" in row[0] or "`/events" in row[0]
            for action in re.findall(r"\w+:\w+", row[1])
        }

    assert actions(ours) == actions([list(row) for row in theirs])
    targeted = {action for row in ours if row[-1] for action in re.findall(r"\w+:\w+", row[1])}
    assert targeted - {"Iam:Check"} == TARGETED
