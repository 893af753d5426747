"""The verbs `policy` and `clock`, and the notation of times at the console."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from iam.store import Store
from tests.kit.daemon import run

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from tests.kit.device import Kit

pytestmark = pytest.mark.usefixtures("clean_imports")

KEY, OTHER = "ab" * 32, "cd" * 32
POLICY = """\
[[policy]]
id = "lan-only"

[[policy.statement]]
effect = "Allow"
actions = ["Hello:*", "Lamp:Set"]
conditions = [{ Bool = { "Connection:IsLocal" = ["true"] } }]

[[role]]
id = "child"
rank = 12
policies = ["core-unpaired", "lan-only"]
"""
LAMP = """
from aiocoap.resource import Resource
from device_app.resource_spec import ResourceSpec

class Lamp(Resource):
    def render_put(self, request): ...

def resources(board):
    yield ResourceSpec("/lamp", Lamp(), actions={"PUT": "Lamp:Set"})
"""
NABTO = {
    "Version": 1,
    "Config": {"UnpairedRole": "Unpaired"},
    "Policies": [
        {
            "Id": "Greet",
            "Statements": [{"Effect": "Allow", "Actions": ["HeatPump:Get"]}],
        }
    ],
    "Roles": [{"Id": "Unpaired", "Policies": []}, {"Id": "Visitor", "Policies": ["Greet"]}],
}
NABTO_STATE = {
    "Version": 1,
    "Users": [{"Username": "gina", "Role": "Visitor", "Fingerprint": "ef" * 32}],
}


async def set_up(home: Path, policy: str = POLICY) -> None:
    """Set up a device with a policy, a lamp, an owner and a child."""
    await run(home, "init", "--name", "kitchen")
    (home / "policy.d").mkdir()
    (home / "policy.d" / "home.toml").write_text(policy)
    (home / "modules").mkdir()
    (home / "modules" / "lamp_of_cli_policy.py").write_text(LAMP)
    (home / "device.d").mkdir()
    (home / "device.d" / "lamp.toml").write_text('[resources]\nmodules=["lamp_of_cli_policy"]\n')
    await run(home, "users", "add", "olga", "--role", "owner", "--key", KEY)
    await run(home, "users", "add", "kim", "--role", "child", "--key", OTHER)


async def test_check_works_without_a_device_and_names_the_line(tmp_path: Path) -> None:
    home, good = tmp_path / "home", tmp_path / "good.toml"
    good.write_text(POLICY)
    right = await run(home, "policy", "check", str(good))
    assert (right.code, "child" in right.out) == (0, True), right
    assert not home.exists()
    bad = tmp_path / "bad.toml"
    for old, new, line in (
        ("Bool", "Boool", 7),
        ('"Allow"', '"Perhaps"', 5),
        ("rank = 12", "rank = 40", 11),
        ('"lan-only"]', '"lan"]', 12),
        ('["true"]', '"true"', 7),
    ):
        bad.write_text(POLICY.replace(old, new))
        wrong = await run(home, "policy", "check", str(bad))
        assert (wrong.code, wrong.out) == (1, "")
        assert f"bad.toml:{line}:" in wrong.err, (old, wrong.err)
    twice = await run(home, "policy", "check", str(good), str(good))
    assert twice.code == 1
    missing = await run(home, "policy", "check", str(tmp_path / "none.toml"))
    assert (missing.code, "none.toml" in missing.err) == (2, True)


@pytest.mark.parametrize("running", [False, True], ids=["files", "daemon"])
async def test_explain_lists_the_statements_and_exits_with_the_decision(
    kit: Kit, *, running: bool
) -> None:
    await set_up(kit.home)
    if running:
        await kit.daemon()

    async def explained(*args: str) -> tuple[int, dict[str, Any]]:
        result = await run(kit.home, "policy", "explain", *args, "--json")
        value: dict[str, Any] = json.loads(result.out)
        return result.code, value

    code, value = await explained("kim", "Lamp:Set")
    assert (code, value["allowed"], value["known"]) == (7, False, True)
    (step,) = value["steps"]
    assert (step["policy"], step["statement"], step["applies"]) == ("lan-only", 1, False)
    assert "Connection:IsLocal" in step["why"]
    assert "own network" in value["missing"]
    assert (await explained("kim", "Lamp:Set", "--local"))[0] == 0
    assert (await explained("kim", "Lamp:Set", "--attr", "Connection:IsLocal=true"))[0] == 0
    # `--attr` cannot override an attribute of the user.
    code, value = await explained("kim", "Lamp:Set", "--attr", "Connection:RoleId=owner")
    assert (code, "child" in value["reason"]) == (7, True)
    assert (await explained("olga", "Iam:AddUser"))[0] == 0
    code, value = await explained("olga", "Lamp:Dim")
    assert (code, value["known"], value["steps"]) == (7, False, [])
    assert value["similar"] == []
    code, value = await explained("olga", "IAM:addUser")
    assert (code, value["known"], value["similar"]) == (7, False, ["Iam:AddUser"])
    typed = await run(kit.home, "policy", "explain", "olga", "IAM:addUser")
    assert "Did you mean Iam:AddUser?" in typed.err
    shown = await run(kit.home, "policy", "explain", "kim", "Hello:Get")
    assert shown.out.startswith("denied: role 'child'")
    for args, exit_code in (
        (["nobody", "Hello:Get"], 8),
        (["kim"], 2),
        (["kim", "Hello:Get", "--attr", "nonsense"], 2),
    ):
        assert (await run(kit.home, "policy", "explain", *args)).code == exit_code


@pytest.mark.parametrize("running", [False, True], ids=["files", "daemon"])
async def test_list_shows_roles_policies_and_conditions(kit: Kit, *, running: bool) -> None:
    await set_up(kit.home)
    if running:
        await kit.daemon()
    result = await run(kit.home, "policy", "list")
    assert "role child (rank 12): core-unpaired, lan-only" in result.out
    assert "if Connection:IsLocal Bool 'true'" in result.out
    value = json.loads((await run(kit.home, "policy", "list", "--json")).out)
    roles = [role["id"] for role in value["roles"]]
    assert roles == ["unpaired", "guest", "child", "user", "admin", "owner"]
    (policy,) = (one for one in value["policies"] if one["id"] == "lan-only")
    assert policy["statements"][0]["conditions"] == [
        {"operator": "Bool", "attribute": "Connection:IsLocal", "values": ["true"]}
    ]


async def test_reload_applies_a_valid_policy_set_and_rejects_an_invalid_one(
    kit: Kit,
) -> None:
    await set_up(kit.home)
    assert (await run(kit.home, "policy", "reload")).code == 3
    daemon = await kit.daemon()
    file = kit.home / "policy.d" / "home.toml"
    kim = ["policy", "explain", "kim", "Hello:Get"]
    assert (await daemon.run(*kim)).code == 7
    file.write_text(POLICY.replace('"true"', '"false"'))
    assert (await daemon.run(*kim)).code == 7  # not before the reload
    done = await daemon.json("policy", "reload")
    assert done["changed_roles"] == ["child"]
    assert (await daemon.run(*kim)).code == 0
    file.write_text(POLICY.replace("Bool", "Boool"))
    bad = await daemon.run("policy", "reload")
    assert (bad.code, "home.toml:7:" in bad.err) == (1, True)
    assert (await daemon.run(*kim)).code == 0
    assert "home.toml:7:" in (await daemon.run("status")).out
    assert (await daemon.run("health")).code == 1
    kinds = [
        json.loads(line)["kind"] for line in (await daemon.run("events", "--json")).out.splitlines()
    ]
    assert kinds[-2:] == ["policy-loaded", "policy-refused"]
    file.write_text(POLICY)
    assert (await daemon.run("policy", "reload")).code == 0
    assert (await daemon.run("health")).code == 0


async def test_import_nabto_writes_policies_and_adds_users(kit: Kit, tmp_path: Path) -> None:
    config, state = tmp_path / "iam_config.json", tmp_path / "iam_state.json"
    config.write_text(json.dumps(NABTO))
    state.write_text(json.dumps(NABTO_STATE))
    out = tmp_path / "nabto.toml"
    shown = await run(kit.home, "policy", "import-nabto", str(config))
    assert (shown.code, "Visitor" in shown.out) == (0, True), shown
    args = ["policy", "import-nabto", str(config), "--state", str(state), "--out", str(out)]
    written = await run(kit.home, *args)
    assert (written.code, "gina" in written.out) == (0, True), written
    assert (await run(kit.home, "policy", "check", str(out))).code == 0
    assert (await run(kit.home, *args)).code == 2
    out.write_text("mine")
    assert (await run(kit.home, *args)).code == 2
    assert out.read_text() == "mine"
    assert (await run(kit.home, *args, "--force")).code == 0
    # --users adds the users to the device, if the imported definition of their role is in force.
    await run(kit.home, "init", "--name", "kitchen")
    (kit.home / "policy.d").mkdir()
    for other in ("", '[[role]]\nid = "Visitor"\nrank = 39\npolicies = ["core-admin"]\n'):
        (kit.home / "policy.d" / "other.toml").write_text(other)
        early = await run(kit.home, *args, "--force", "--users")
        assert (early.code, "the role 'Visitor' of this import is not in force" in early.err) == (
            1,
            True,
        ), early
        assert json.loads((await run(kit.home, "users", "list", "--json")).out)["users"] == []
    (kit.home / "policy.d" / "other.toml").unlink()
    (kit.home / "policy.d" / "nabto.toml").write_text(out.read_text())
    assert (await run(kit.home, *args, "--force", "--users")).code == 0
    (gina,) = json.loads((await run(kit.home, "users", "list", "--json")).out)["users"]
    assert gina["keys"][0]["fingerprint"] == "ef" * 32
    allowed = await run(kit.home, "policy", "explain", "gina", "HeatPump:Get")
    assert allowed.code == 0
    for wrong, code in (
        ([str(tmp_path / "none.json")], 2),
        ([str(out)], 1),
        ([str(config), "--users"], 2),
    ):
        result = await run(kit.home, "policy", "import-nabto", *wrong)
        assert (result.code, result.out, bool(result.err)) == (code, "", True), result
        assert "Traceback" not in result.err


async def test_clock_reports_the_time_and_trusts_the_system_on_request(kit: Kit) -> None:
    await run(kit.home, "init", "--name", "kitchen")
    await run(kit.home, "users", "add", "olga", "--role", "owner", "--key", KEY)
    daemon = await kit.daemon()
    value = await daemon.json("clock")
    assert value["known"]
    assert abs(value["now"] - value["system"]) <= 1
    trusted = await daemon.json("clock", "--trust-system")
    assert trusted["known"]
    assert "clock-trusted" in (await daemon.run("events")).out
    assert await daemon.stop() == 0
    assert (await run(kit.home, "clock", "--trust-system")).code == 0


async def test_a_device_time_that_is_ahead_is_reported_and_used_for_times(kit: Kit) -> None:
    """`--until 2d` counts from the device's time, which also decides when the access ends."""
    await run(kit.home, "init", "--name", "kitchen")
    await run(kit.home, "users", "add", "olga", "--role", "owner", "--key", KEY)
    store = Store.open(kit.home / "device.db")
    started = time.time()
    ahead = started + 5 * 365 * 86_400
    store.reset_time_floor(ahead)
    store.close()

    async def check(*args: str) -> None:
        result = await run(kit.home, *args, "--json")
        assert result.code == 0, result
        found = json.loads(result.out)
        end = found.get("user", found.get("invite"))["not_after"]
        passed = time.time() - started
        assert ahead - 1 <= end - 2 * 86_400 <= ahead + passed + 1, args  # in whole seconds

    await check("users", "add", "anna", "--until", "2d")
    await check("invite", "nina", "--until", "2d")
    shown = (await run(kit.home, "users", "list")).out
    assert "until 20" in shown  # by the system's clock it would have "ended"
    daemon = await kit.daemon()
    assert any("ahead of the system's" in line for line in daemon.log_lines), daemon.log_lines
    await check("users", "set", "anna", "--until", "2d")
    health = await daemon.run("health")
    assert (health.code, "clock --trust-system" in health.out) == (1, True), health
    assert "problem      the device's time is" in (await daemon.run("status")).out
    assert "Problem: the device's time is" in (await daemon.run("clock")).out
    assert (await daemon.json("clock", "--trust-system"))["trouble"] == ""
    assert (await daemon.run("health")).code == 0


async def test_times_of_users_are_accepted_in_each_notation(kit: Kit) -> None:
    await run(kit.home, "init", "--name", "kitchen")

    async def user(*args: str) -> dict[str, Any]:
        result = await run(kit.home, "users", *args, "--json")
        assert result.code == 0, result
        found: dict[str, Any] = json.loads(result.out)["user"]
        return found

    before = time.time()
    added = await user("add", "anna", "--from", "1h", "--until", "2d")
    after = time.time()
    assert before - 1 <= added["not_before"] - 3600 <= after + 1  # in whole seconds
    assert before - 1 <= added["not_after"] - 2 * 86_400 <= after + 1
    assert (await user("set", "anna", "--until", "4000000000"))["not_after"] == 4_000_000_000
    assert "not_after" not in await user("set", "anna", "--until", "0")
    dated_ = await user("set", "anna", "--until", "2096-12-24T18:00Z")
    assert dated_["not_after"] == 4_007_210_400
    shown = (await run(kit.home, "users", "show", "anna")).out
    assert "until 2096-12-2" in shown
    assert "(in " in shown
    assert "from 2" in (await run(kit.home, "users", "list")).out
    wrong = await run(kit.home, "users", "set", "anna", "--until", "2096-13-01")
    assert (wrong.code, "2096-12-24" not in wrong.err, "2d (from now)" in wrong.err) == (
        2,
        True,
        True,
    )
