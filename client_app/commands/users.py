"""`handfast users`: the users of a device."""

from __future__ import annotations

from contextlib import aclosing
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from client_app.commands.common import Family, NetworkVerb, yes_option
from client_app.commands.device_argument import family_of_device
from client_app.commands.invocation import Invocation
from client_app.limits import LIST_SECONDS, USERS_PAGE
from client_app.terminal.render_administration import Removed, UsersPage
from peer.errors import Malformed, UsageError
from peer.identity import Fingerprint
from peer.terminal.durations import TIME_EXAMPLES
from peer.terminal.param_types import Time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from client_app.administration import Change
    from client_app.models import User


@click.group(cls=Family, epilog="handfast users kitchen add mia --role guest --until 3d")
@family_of_device
def command() -> None:
    """Manage the users of a device. Changes take effect at once, also on open sessions.

    Without a verb, list the users. If only one device is paired, DEVICE can be left out. The
    device's policy decides what you may see and change.
    """


@command.command("list", cls=NetworkVerb, epilog="handfast users kitchen list --json")
@click.pass_obj
async def list_(invocation: Invocation) -> AsyncIterator[UsersPage]:
    """List the users of the device. Each page is printed before the next one is requested."""
    from client_app.deadline import Deadline  # noqa: PLC0415 - slow; see `invocation`

    table, number = UsersPage.new_table(), 0
    async with Deadline(invocation.seconds_left()), invocation.client() as client:
        iam = (await client.connect(invocation.device)).iam
        page: list[User] = []
        each = iam.each_user(timeout=invocation.seconds_left(LIST_SECONDS))
        async with aclosing(each) as users:
            async for user in users:
                page.append(user)
                if len(page) == USERS_PAGE:
                    yield UsersPage(number, tuple(page), table)
                    number, page = number + 1, []
        if page:
            yield UsersPage(number, tuple(page), table)
            number += 1
        if invocation.json or not number:
            yield UsersPage(number, (), table)


@command.command("show", cls=NetworkVerb, epilog="handfast users kitchen show anna")
@click.argument("name")
@click.pass_obj
async def show(invocation: Invocation, name: str) -> User:
    """Show a user with all keys."""
    async with invocation.client() as client:
        return await (await client.connect(invocation.device)).iam.user(name)


@command.command(
    "add", cls=NetworkVerb, epilog='handfast users kitchen add robot --key "1a2b 3c4d …"'
)
@click.argument("name")
@click.option("--role", default="guest", show_default=True, help="Role, not above yours.")
@click.option("--display", default="", help="Display name.")
@click.option(
    "--key",
    "keys",
    multiple=True,
    metavar="FP",
    help="Fingerprint of a client, as `handfast fingerprint` prints it there; repeatable.",
)
@click.option("--from", "begins", type=Time(), help=f"When the access starts: {TIME_EXAMPLES}.")
@click.option("--until", "ends", type=Time(whole_day=True), help="When the access ends.")
@yes_option
@click.pass_obj
async def add(  # noqa: PLR0917 - click passes them by name
    invocation: Invocation,
    name: str,
    role: str,
    display: str,
    keys: tuple[str, ...],
    begins: float | timedelta | None,
    ends: float | timedelta | None,
    yes: bool,
) -> User:
    """Add a user whose key you know.

    To add a user whose key you do not know, use `handfast invite`. For a time in the past, you are
    asked to confirm.
    """
    await invocation.agreed_to_times(begin=begins, end=ends, yes=yes)
    async with invocation.client() as client:
        return await (await client.connect(invocation.device)).iam.add_user(
            name, role=role, display=display, keys=keys, not_before=begins, not_after=ends
        )


@command.command(
    "set", cls=NetworkVerb, epilog="handfast users kitchen set anna --role admin --until 2d"
)
@click.argument("name")
@click.option("--role", default="", help="New role, not above yours.")
@click.option("--display", help="New display name.")
@click.option("--rename", "new_name", default="", metavar="NEW", help="New name; the keys stay.")
@click.option(
    "--from",
    "begins",
    type=Time(),
    help=f"When the access starts: {TIME_EXAMPLES}; 0 removes the limit.",
)
@click.option(
    "--until",
    "ends",
    type=Time(whole_day=True),
    help="When the access ends; 0 removes the limit.",
)
@yes_option
@click.pass_obj
async def set_(  # noqa: PLR0917 - click passes them by name
    invocation: Invocation,
    name: str,
    role: str,
    display: str | None,
    new_name: str,
    begins: float | timedelta | None,
    ends: float | timedelta | None,
    yes: bool,
) -> User:
    """Change a user's role, names or access period. Options that are not given change nothing.

    For a time in the past, you are asked to confirm.
    """
    if not role and not new_name and display is None and begins is None and ends is None:
        raise UsageError(
            "no change is given",
            advice="Give --role, --display, --rename, --from or --until.",
        )
    await invocation.agreed_to_times(begin=begins, end=ends, yes=yes)
    async with invocation.client() as client:
        return await (await client.connect(invocation.device)).iam.set_user(
            name,
            role=role,
            display=display,
            new_name=new_name,
            not_before=_change(begins),
            not_after=_change(ends),
        )


def _change(moment: float | timedelta | None) -> Change:
    from client_app.administration import UNCHANGED  # noqa: PLC0415 - slow; see `invocation`

    return UNCHANGED if moment is None else moment or None


@command.command("remove", cls=NetworkVerb, epilog="handfast users kitchen remove anna")
@click.argument("name")
@yes_option
@click.pass_obj
async def remove(invocation: Invocation, name: str, yes: bool) -> Removed:
    """Remove a user with all keys.

    The user's sessions end at once, and the invites that the user created become invalid.
    """
    you = (
        " This is your own user: this client will lose its access."
        if _is_us(invocation, name)
        else ""
    )
    await invocation.agreed(f"Remove {name} from {invocation.device}?{you}", yes=yes)
    async with invocation.client() as client:
        await (await client.connect(invocation.device)).iam.remove_user(name)
    return Removed("removed", name)


@command.command(
    "add-key",
    cls=NetworkVerb,
    epilog='handfast users kitchen add-key anna "1a2b 3c4d …" --key-name phone',
)
@click.argument("name")
@click.argument("fingerprint", metavar="FP")
@click.option("--key-name", default="", help="Name of the key, for example phone or laptop.")
@click.pass_obj
async def add_key(invocation: Invocation, name: str, fingerprint: str, key_name: str) -> User:
    """Add a key to a user. `handfast fingerprint` prints FP on the client that has the key."""
    async with invocation.client() as client:
        iam = (await client.connect(invocation.device)).iam
        return await iam.add_key(name, fingerprint, key_name=key_name)


@command.command(
    "remove-key", cls=NetworkVerb, epilog='handfast users kitchen remove-key anna "1a2b 3c4d …"'
)
@click.argument("name")
@click.argument("fingerprint", metavar="FP")
@yes_option
@click.pass_obj
async def remove_key(invocation: Invocation, name: str, fingerprint: str, yes: bool) -> Removed:
    """Remove a key from a user.

    Sessions with this key end at once; sessions with the user's other keys continue.
    """
    shown = _grouped(fingerprint)
    await invocation.agreed(f"Remove the key {shown} from {name}?", yes=yes)
    async with invocation.client() as client:
        await (await client.connect(invocation.device)).iam.remove_key(name, fingerprint)
    return Removed("removed", fingerprint, shown)


def _grouped(fingerprint: str) -> str:
    """The fingerprint as people read it; a text that is none stays as it is."""
    try:
        return Fingerprint.parse(fingerprint).grouped
    except Malformed:
        return fingerprint


def _is_us(invocation: Invocation, name: str) -> bool:
    return invocation.book.find(invocation.device).user.casefold() == name.casefold()
