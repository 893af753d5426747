"""`users …`: the users of the device and their keys."""

from datetime import timedelta
from typing import Final

import click

from device_app.access.bodies import KeyRequest, UserPatch, UserRequest, UserView
from device_app.commands.common import CommandLine, yes_option
from device_app.commands.verbs import Family, Verb
from device_app.console.answers import UserAnswer
from device_app.console.console import Console
from device_app.terminal import output
from device_app.terminal.render_users import NO_USERS, USERS_HEADERS, user_lines, user_row
from iam.changes import KEEP
from peer.terminal.durations import TIME_EXAMPLES, resolve_time
from peer.terminal.layout import PagedTable
from peer.terminal.param_types import Time

_KEY_EXAMPLE: Final = '"1a2b 3c4d …"'


@click.group(cls=Family, example="handfast-device users list")
def users() -> None:
    """Manage the users of this device.

    Changes take effect at once, also on open sessions.
    """


@users.command(name="list", cls=Verb, example="handfast-device users list --json")
@click.pass_obj
def users_list(cli: CommandLine) -> None:
    """List the users. Each page is printed before the next one is read."""
    if cli.as_json:
        written = output.JsonList("users")
        cli.list_rows(Console.users_list, "users", written.add)
        written.end()
        return
    now, table = cli.now(), PagedTable(USERS_HEADERS)
    has_users = False

    def show(users: list[UserView]) -> None:
        nonlocal has_users
        has_users = has_users or bool(users)
        output.page(table.lines(user_row(user, now) for user in users))

    cli.list_rows(Console.users_list, "users", show)
    if not has_users:
        output.lines([NO_USERS])


@users.command(name="show", cls=Verb, example="handfast-device users show anna")
@click.argument("name")
@click.pass_obj
def users_show(cli: CommandLine, *, name: str) -> None:
    """Show a user with all keys."""
    _show(cli, cli.do(Console.users_show, name=name))


@users.command(
    name="add",
    cls=Verb,
    example=f"handfast-device users add anna --role user --key {_KEY_EXAMPLE}",
)
@click.argument("name")
@click.option("--role", default="guest", show_default=True, help="Role of the user.")
@click.option(
    "--key",
    "keys",
    multiple=True,
    metavar="FP",
    help="Fingerprint of a client, as `handfast fingerprint` prints it there; can be repeated.",
)
@click.option("--display", default="", metavar="TEXT", help="Display name.")
@click.option("--from", "begin", type=Time(), help=f"When access begins: {TIME_EXAMPLES}.")
@click.option(
    "--until", "end", type=Time(whole_day=True), help="When access ends. A date includes that day."
)
@yes_option
@click.pass_obj
def users_add(
    cli: CommandLine,
    *,
    name: str,
    role: str,
    keys: tuple[str, ...],
    display: str,
    begin: float | timedelta | None,
    end: float | timedelta | None,
    yes: bool,
) -> None:
    """Add a user whose key you know, without pairing.

    To add a user whose key you do not know, create an invite (`handfast-device invite`) or open
    the pairing window (`handfast-device open`). For a time in the past, you are asked to confirm.

    You can run this again: if the user has the role, the names, the times and the keys that you
    give, nothing is changed. Keys that were added since then stay.
    """
    cli.confirm_times(begin=begin, end=end, yes=yes)
    request = UserRequest(
        name=name,
        role=role,
        keys=tuple(KeyRequest(fingerprint=key) for key in keys),
        display_name=display,
        not_before=_seconds(cli, begin),
        not_after=_seconds(cli, end),
    )
    answer = cli.do(Console.users_add, body=request)
    _show(cli, answer)
    if not answer.get("created", True):
        cli.message(f"{name} exists already, as given. Nothing was changed.")


@users.command(
    name="set", cls=Verb, example="handfast-device users set anna --role admin --until 2d"
)
@click.argument("name")
@click.option("--role", help="New role.")
@click.option("--display", metavar="TEXT", help="New display name.")
@click.option("--rename", metavar="NAME", help="New name.")
@click.option(
    "--from", "begin", type=Time(), help=f"When access begins; 0 = no limit. {TIME_EXAMPLES}."
)
@click.option(
    "--until",
    "end",
    type=Time(whole_day=True),
    help="When access ends; 0 = no limit. A date includes that day.",
)
@yes_option
@click.pass_obj
def users_set(
    cli: CommandLine,
    *,
    name: str,
    role: str | None,
    display: str | None,
    rename: str | None,
    begin: float | timedelta | None,
    end: float | timedelta | None,
    yes: bool,
) -> None:
    """Change a user's role, names or access period. Options that are not given change nothing.

    For a time in the past, you are asked to confirm.
    """
    cli.confirm_times(begin=begin, end=end, yes=yes)
    patch = UserPatch(
        name=rename,
        role=role,
        display_name=display,
        not_before=KEEP if begin is None else _seconds(cli, begin),
        not_after=KEEP if end is None else _seconds(cli, end),
    )
    if patch == UserPatch():
        raise click.UsageError("Give --role, --display, --rename, --from or --until.")
    _show(cli, cli.do(Console.users_set, name=name, body=patch))


@users.command(name="remove", cls=Verb, example="handfast-device users remove anna")
@click.argument("name")
@click.pass_obj
def users_remove(cli: CommandLine, *, name: str) -> None:
    """Remove a user with all keys, and end the user's sessions."""
    answer = cli.do(Console.users_remove, name=name)
    cli.show(answer, lambda: [f"removed {answer['removed']}"])


@users.command(
    name="add-key",
    cls=Verb,
    example=f"handfast-device users add-key anna {_KEY_EXAMPLE} --key-name phone",
)
@click.argument("name")
@click.argument("fingerprint", metavar="FP")
@click.option("--key-name", default="", metavar="TEXT", help="Name of the key: laptop, phone.")
@click.pass_obj
def users_add_key(cli: CommandLine, *, name: str, fingerprint: str, key_name: str) -> None:
    """Add a key to a user. All keys of a user have the same rights.

    `handfast fingerprint` prints FP on the client that has the key.
    """
    answer = cli.do(Console.users_add_key, name=name, fingerprint=fingerprint, key_name=key_name)
    _show(cli, answer)


@users.command(
    name="remove-key", cls=Verb, example=f"handfast-device users remove-key anna {_KEY_EXAMPLE}"
)
@click.argument("name")
@click.argument("fingerprint", metavar="FP")
@click.pass_obj
def users_remove_key(cli: CommandLine, *, name: str, fingerprint: str) -> None:
    """Remove a key from a user, and end its sessions. The user's other keys stay."""
    _show(cli, cli.do(Console.users_remove_key, name=name, fingerprint=fingerprint))


def _show(cli: CommandLine, answer: UserAnswer) -> None:
    cli.show(answer, lambda: user_lines(answer["user"], cli.now()))


def _seconds(cli: CommandLine, given: float | timedelta | None) -> float | None:
    """Seconds since 1970 by the device's time; None if there is no limit (0) or none was given."""
    return resolve_time(given, cli.now()) or None if given is not None else None
