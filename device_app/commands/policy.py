"""`policy …`: check policy files, put them in force, explain decisions, import from Nabto Edge."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import click

from device_app.access import policies
from device_app.access.bodies import UserRequest
from device_app.commands.common import CommandLine
from device_app.commands.verbs import Family, Verb
from device_app.console.console import Console
from device_app.errors import AppError, NoDaemon
from device_app.terminal.render_policy import (
    explain_lines,
    import_lines,
    policy_check_lines,
    policy_list_lines,
    policy_reload_lines,
)
from iam.attributes import IS_LOCAL, PATH
from iam.builtin import UNPAIRED
from iam.errors import IamError
from peer.errors import PeerError
from peer.terminal.exit_codes import ExitCode


@click.group(cls=Family, example="handfast-device policy explain anna Hello:Get")
def policy() -> None:
    """Manage roles and policies: which users may do what, under which conditions."""


@policy.command(name="check", cls=Verb, example="handfast-device policy check policy.d/*.toml")
@click.argument(
    "files",
    metavar="FILE…",
    nargs=-1,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@click.pass_obj
def check(cli: CommandLine, *, files: tuple[Path, ...]) -> None:
    """Check policy files, all of them together; without FILE, those in policy.d.

    An error is printed with file, line and reason. The check needs no device and
    changes nothing.
    """
    if not files:
        cli.note_own_files()
    answer = policies.check(files) if files else policies.check_folder(cli.paths.policies)
    cli.show(answer, lambda: policy_check_lines(answer))
    for warning in answer["warnings"]:
        cli.message(f"warning: {warning}")


@policy.command(name="list", cls=Verb, example="handfast-device policy list --json")
@click.pass_obj
def list_(cli: CommandLine) -> None:
    """List the roles and policies in force."""
    answer = cli.do(Console.policy_list)
    cli.show(answer, lambda: policy_list_lines(answer))


@policy.command(name="reload", cls=Verb, example="handfast-device policy reload")
@click.pass_obj
def reload_(cli: CommandLine) -> None:
    """Apply policy.d on the running daemon, and those limits of device.toml that need no restart.

    If a file has an error, nothing changes. Sessions of users whose role has other rights now are
    ended. Settings that need a restart are listed.
    """
    answer = cli.ask(Console.policy_reload)
    cli.show(answer, lambda: policy_reload_lines(answer))


@policy.command(
    name="explain",
    cls=Verb,
    example="handfast-device policy explain anna Lamp:Set --local --attr Lamp:Room=hall",
)
@click.argument("user")
@click.argument("action")
@click.option(
    "--attr", "attributes", multiple=True, metavar="K=V", help="Value of an attribute; repeatable."
)
@click.option(
    "--local/--remote", default=False, help="Whether the request comes from the local network."
)
@click.pass_obj
def explain(
    cli: CommandLine, *, user: str, action: str, attributes: tuple[str, ...], local: bool
) -> None:
    """Explain why USER may or may not do ACTION: all statements that apply, in order.

    The exit code is 0 if the action is allowed and 7 if it is denied. It is also 7 if that depends
    on attributes of a request that --attr does not give.
    """
    of_connection = {IS_LOCAL: "true" if local else "false", PATH: "lan" if local else "address"}
    given = of_connection | dict(map(_attribute, attributes))
    answer = cli.do(Console.policy_explain, user=user, action=action, attributes=given)
    cli.show(answer, lambda: explain_lines(answer))
    if not answer["known"]:
        similar = [f" Did you mean {one}?" for one in answer["similar"]]
        cli.message(f"No resource of this device has the action {action}.{''.join(similar)}")
    sys.exit(ExitCode.DONE if answer["allowed"] else ExitCode.DENIED)


@policy.command(
    name="import-nabto",
    cls=Verb,
    example="handfast-device policy import-nabto iam_config.json --out nabto.toml",
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--state", type=click.Path(path_type=Path), help="Nabto's state file, with users.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the policy to this file.")
@click.option("--users", "add_users", is_flag=True, help="Add the users of --state to the device.")
@click.option(
    "--map",
    "roles",
    multiple=True,
    metavar="THEIRS=OURS",
    help="Give users with this role of Nabto's a role of this device: Administrator=admin.",
)
@click.option("--force", is_flag=True, help="Replace the file of --out if it exists.")
@click.pass_obj
def import_nabto(
    cli: CommandLine,
    *,
    file: Path,
    state: Path | None,
    out: Path | None,
    add_users: bool,
    roles: tuple[str, ...],
    force: bool,
) -> None:
    """Convert a Nabto Edge IAM configuration to a policy file. Without --out, print it.

    Anything that cannot be converted, or has no effect here, is printed to stderr. The users of
    --state are listed; --users also adds them to the device. Imported roles rank below `guest`, so
    no imported user may more than before; --map gives users a role of this device instead.
    """
    from device_app.console import nabto_import  # noqa: PLC0415  # other verbs start faster

    if add_users and state is None:
        raise click.UsageError("--users needs --state FILE.")
    if roles and state is None:
        raise click.UsageError("--map needs --state FILE.")
    found = nabto_import.NabtoImport.read(file, state, dict(map(_mapped, roles)))
    for note in found.notes:
        cli.message(f"note: {note}")
    if out is not None:
        nabto_import.write_policy(out, found.policy, force=force)
        cli.message(f"Policy written to {out}. Check it: `handfast-device policy check {out}`")
        is_read = out.absolute().parent.resolve() == cli.paths.policies.absolute().resolve()
        if not is_read:
            cli.message(f"The device reads the policies in {cli.paths.policies}.")
        elif add_users:
            with suppress(NoDaemon):
                cli.ask(Console.policy_reload)
    if add_users:
        found.check_in_force(cli.do(Console.policy_list)["roles"])
    added = list(_added(cli, found.users)) if add_users else []
    lines = [] if out is not None else [found.policy.rstrip("\n")]
    answer = {
        "toml": found.policy,
        "users": [user.to_json() for user in found.users],
        "notes": list(found.notes),
        "added": added,
    }
    cli.show(answer, lambda: [*lines, *import_lines(found.users, added)])
    if add_users and len(added) < len(found.users):
        sys.exit(ExitCode.OTHER)


def _added(cli: CommandLine, users: Iterable[UserRequest]) -> Iterator[str]:
    """Add each user, and yield the names of those that were added; report the others."""
    for user in users:
        try:
            cli.do(Console.users_add, body=user)
        except (AppError, IamError, PeerError) as error:
            cli.report(error, about=f"user {user.name} was not added: ")
        else:
            yield user.name


def _mapped(text: str) -> tuple[str, str]:
    theirs, equals, ours = text.partition("=")
    if not (theirs and equals and ours) or ours == UNPAIRED:
        raise click.UsageError(f"--map {text!r} has not the form THEIRS=OURS.")
    return theirs, ours


def _attribute(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or ":" not in name:
        raise click.UsageError(f"--attr {text!r} has not the form Module:Name=VALUE.")
    return name, value
