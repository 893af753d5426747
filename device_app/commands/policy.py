"""`policy …`: check it, put it into force, ask why, and bring it along from elsewhere."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from device_app.access import policies
from device_app.commands.common import Talk, Verb, Verbs
from device_app.errors import AppError, Exit
from device_app.terminal import render
from iam.attributes import IS_LOCAL
from iam.errors import IamError
from peer.errors import PeerError


@click.group(cls=Verbs)
def policy() -> None:
    """Roles and policies: who may do what, under which conditions.

    Example: handfast-device policy explain anna Hello:Get
    """


@policy.command(name="check", cls=Verb)
@click.argument("files", metavar="FILE…", nargs=-1, type=click.Path(path_type=Path))
@click.pass_obj
def check(talk: Talk, *, files: tuple[Path, ...]) -> None:
    """Whether these files are right, taken together; without FILE those of policy.d.

    Needs no device. Anything wrong is told with file, line and reason, and nothing is changed.

    Example: handfast-device policy check policy.d/*.toml
    """
    value = policies.check(files or sorted(talk.places.policies.glob("*.toml")))
    talk.show(value, render.policy_check_lines(value))
    for warning in value["warnings"]:
        talk.say(f"warning: {warning}")


@policy.command(name="list", cls=Verb)
@click.pass_obj
def list_(talk: Talk) -> None:
    """The roles and policies in force.

    Example: handfast-device policy list --json
    """
    value = talk.do("policy-list")
    talk.show(value, render.policy_list_lines(value))


@policy.command(name="reload", cls=Verb)
@click.pass_obj
def reload_(talk: Talk) -> None:
    """Apply policy.d on the running daemon, and those limits of device.toml that need no restart.

    If a file has an error, nothing changes. Settings that wait for a restart are listed.

    Example: handfast-device policy reload
    """
    value = talk.ask("policy-reload")
    talk.show(value, render.policy_reload_lines(value))


@policy.command(name="explain", cls=Verb)
@click.argument("user")
@click.argument("action")
@click.option("--attr", "attributes", multiple=True, metavar="K=V", help="An attribute's value.")
@click.option("--local/--remote", default=False, help="From the device's own network, or not.")
@click.pass_obj
def explain(
    talk: Talk, *, user: str, action: str, attributes: tuple[str, ...], local: bool
) -> None:
    """Why USER may or may not do ACTION: every statement that has a say, in order.

    Asked as if from afar, unless --local says otherwise. Exit 0 if allowed, 7 if not; also 7 if it
    depends on attributes that a request tells and --attr does not give.

    Example: handfast-device policy explain anna Lamp:Set --local --attr Lamp:Room=hall
    """
    given = {IS_LOCAL: "true" if local else "false"} | dict(map(_attribute, attributes))
    value = talk.do("policy-explain", {"user": user, "action": action, "attributes": given})
    talk.show(value, render.explain_lines(value))
    if not value["known"]:
        talk.say(f"No resource of this device asks for the action {action}.")
    sys.exit(Exit.DONE if value["allowed"] else Exit.DENIED)


@policy.command(name="import-nabto", cls=Verb)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--state", type=click.Path(path_type=Path), help="Their state file, with the users.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the policy to this file.")
@click.option("--users", "add_users", is_flag=True, help="Add the users of --state to the device.")
@click.option("--force", is_flag=True, help="Write --out although the file is there.")
@click.pass_obj
def import_nabto(
    talk: Talk, *, file: Path, state: Path | None, out: Path | None, add_users: bool, force: bool
) -> None:
    """Turn a Nabto Edge IAM configuration into a policy file, on stdout or in --out.

    What cannot be carried is told on stderr. Users of a state are shown, and added with --users.

    Example: handfast-device policy import-nabto iam_config.json --out policy.d/nabto.toml
    """
    from device_app.console import nabto_import  # noqa: PLC0415  # the other verbs do without it

    if add_users and state is None:
        raise click.UsageError("--users needs --state FILE, which has them.")
    found = nabto_import.read(file, state)
    for note in found["notes"]:
        talk.say(f"note: {note}")
    if out is not None:
        nabto_import.write(out, found["toml"], force=force)
        talk.say(f"The policy is in {out}; `handfast-device policy check {out}` looks at it.")
    if add_users:
        nabto_import.check_in_force(found, talk.do("policy-list")["roles"])
    added = list(_added(talk, found["users"])) if add_users else []
    shown = [] if out is not None else [found["toml"].rstrip("\n")]
    del found["roles"]  # the policy says the same
    talk.show({**found, "added": added}, [*shown, *render.imported_lines(found, added)])
    if add_users and len(added) < len(found["users"]):
        sys.exit(Exit.OTHER)


def _added(talk: Talk, users: list[dict[str, Any]]) -> Iterator[str]:
    """Each by itself: one that the device refuses does not keep out the others."""
    for user in users:
        try:
            talk.do("users-add", {"wish": user})
        except (AppError, IamError, PeerError) as error:
            render.failure(f"{user['name']} was not added: {error}", error.advice)
        else:
            yield str(user["name"])


def _attribute(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or ":" not in name:
        raise click.UsageError(f"--attr {text!r}: write Module:Name=VALUE.")
    return name, value
