"""`policy import-nabto`: roles that are mapped, and notes about what has no counterpart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from tests.kit.daemon import run

if TYPE_CHECKING:
    from tests.kit.device import Kit


STATE = {
    "Version": 2,
    "Users": [
        {
            "Username": name,
            "Role": role,
            "Fingerprints": [{"Fingerprint": f"{number:064x}"}],
        }
        for number, (name, role) in enumerate(
            (("gina", "Administrator"), ("hugo", "Standard")), start=1
        )
    ],
}


async def test_an_import_names_what_has_no_counterpart_and_maps_roles(
    kit: Kit, tmp_path: Path
) -> None:
    """Both commands of the documentation, with the daemon running and without."""
    await run(kit.home, "init")
    tunnel = Path(__file__).parents[1] / "iam" / "nabto" / "tunnel.json"
    state = tmp_path / "iam_state.json"
    state.write_text(json.dumps(STATE))
    out = kit.home / "policy.d" / "nabto.toml"
    converted = await run(kit.home, "policy", "import-nabto", str(tunnel), "--out", str(out))
    assert converted.code == 0, converted.err
    assert "carried over without effect: TcpTunnel:Connect" in converted.err
    assert "handfast has no TCP tunnels" in converted.err
    users = ["policy", "import-nabto", str(tunnel), "--state", str(state)]
    for wrong, code in (
        (["--map", "Administrator"], 2),
        (["--map", "Boss=admin"], 2),
        (["--map", "Administrator=unpaired"], 2),
        (["--map", "Administrator=king", "--users"], 1),
    ):
        refused = await run(kit.home, *users, *wrong)
        assert refused.code == code, (wrong, refused)
    daemon = await kit.daemon()
    added = await daemon.run(*users, "--users", "--map", "Administrator=admin")
    assert added.code == 0, added.err
    assert "users with the role Administrator get the role admin" in added.err
    listed = (await daemon.json("users", "list"))["users"]
    assert [(one["name"], one["role"]) for one in listed] == [
        ("gina", "admin"),
        ("hugo", "Standard"),
    ]


async def test_one_command_puts_an_import_in_force_and_adds_its_users(
    kit: Kit, tmp_path: Path
) -> None:
    thermostat = Path(__file__).parents[1] / "iam" / "nabto" / "thermostat.json"
    state = tmp_path / "iam_state.json"
    state.write_text(json.dumps(STATE))
    daemon = await kit.daemon()
    out = kit.home / "policy.d" / "nabto.toml"
    done = await daemon.run(
        *("policy", "import-nabto", str(thermostat), "--state", str(state)),
        *("--out", str(out), "--users"),
    )
    assert done.code == 0, done.err
    assert "carried over for your application: Thermostat:Get, Thermostat:Set" in done.err
    elsewhere = await daemon.run(
        "policy", "import-nabto", str(thermostat), "--out", str(tmp_path / "x" / "nabto.toml")
    )
    assert elsewhere.code == 0
    assert f"The device reads the policies in {kit.home / 'policy.d'}." in elsewhere.err
