"""`users …`: the whitelist, on the running daemon or on the store alone."""

from datetime import timedelta
from typing import Any

import click

from device_app.commands.common import Talk, Verb, Verbs
from device_app.terminal import render
from peer.terminal.durations import TIME_EXAMPLES, resolve_time
from peer.terminal.param_types import Time


@click.group(cls=Verbs)
def users() -> None:
    """The whitelist: who may do what. Changes take effect at once.

    Example: handfast-device users list
    """


@users.command(name="list", cls=Verb)
@click.pass_obj
def users_list(talk: Talk) -> None:
    """Everybody.

    Example: handfast-device users list --json
    """
    value = talk.do("users-list")
    talk.show(value, render.users_lines(value["users"], talk.now()))


@users.command(name="show", cls=Verb)
@click.argument("name")
@click.pass_obj
def users_show(talk: Talk, *, name: str) -> None:
    """One user with all keys.

    Example: handfast-device users show anna
    """
    value = talk.do("users-show", {"name": name})
    talk.show(value, render.user_lines(value["user"], talk.now()))


@users.command(name="add", cls=Verb)
@click.argument("name")
@click.option("--role", default="guest", show_default=True)
@click.option("--key", "keys", multiple=True, metavar="FP", help="A client's fingerprint.")
@click.option("--display", default="", help="A name for people.")
@click.option(
    "--from", "begins", type=Time(), metavar="TIME", help=f"Access begins. {TIME_EXAMPLES}."
)
@click.option(
    "--until",
    type=Time(whole_day=True),
    metavar="TIME",
    help="Access ends; a date alone is that whole day.",
)
@click.pass_obj
def users_add(
    talk: Talk,
    *,
    name: str,
    role: str,
    keys: tuple[str, ...],
    display: str,
    begins: float | timedelta | None,
    until: float | timedelta | None,
) -> None:
    """A user without pairing, by the fingerprint of a key you know.

    Example: handfast-device users add anna --role user --key "1a2b 3c4d …"
    """
    wish: dict[str, Any] = {"name": name, "role": role, "display": display, "keys": list(keys)}
    wish |= _times(talk, begins, until)
    value = talk.do("users-add", {"wish": wish})
    talk.show(value, render.user_lines(value["user"], talk.now()))


@users.command(name="set", cls=Verb)
@click.argument("name")
@click.option("--role")
@click.option("--display")
@click.option("--rename", help="A new name.")
@click.option(
    "--from",
    "begins",
    type=Time(),
    metavar="TIME",
    help=f"Access begins; 0 = always. {TIME_EXAMPLES}.",
)
@click.option(
    "--until",
    type=Time(whole_day=True),
    metavar="TIME",
    help="Access ends; 0 = never. A date alone is included.",
)
@click.pass_obj
def users_set(
    talk: Talk,
    *,
    name: str,
    role: str | None,
    display: str | None,
    rename: str | None,
    begins: float | timedelta | None,
    until: float | timedelta | None,
) -> None:
    """Change a user: role, names, from when and until when.

    Example: handfast-device users set anna --role admin --until 2d
    """
    given = {"role": role, "display": display, "name": rename}
    wish = {field: value for field, value in given.items() if value is not None}
    wish |= _times(talk, begins, until)
    if not wish:
        raise click.UsageError(
            "Nothing to change: give --role, --display, --rename, --from or --until."
        )
    value = talk.do("users-set", {"name": name, "wish": wish})
    talk.show(value, render.user_lines(value["user"], talk.now()))


def _times(
    talk: Talk, begins: float | timedelta | None, until: float | timedelta | None
) -> dict[str, Any]:
    """The fields to change; a time of 0 takes the limit away, and `2d` is by the device's time."""
    found: dict[str, Any] = {}
    if begins is None and until is None:
        return found
    now = talk.now()
    if begins is not None:
        found["not_before"] = resolve_time(begins, now) or None
    if until is not None:
        found["not_after"] = resolve_time(until, now) or None
    return found


@users.command(name="remove", cls=Verb)
@click.argument("name")
@click.pass_obj
def users_remove(talk: Talk, *, name: str) -> None:
    """Remove a user with all keys; their sessions end at once.

    Example: handfast-device users remove anna
    """
    value = talk.do("users-remove", {"name": name})
    talk.show(value, [f"removed {name}"])


@users.command(name="add-key", cls=Verb)
@click.argument("name")
@click.argument("fingerprint", metavar="FP")
@click.option("--key-name", default="", help="To tell the user's keys apart: laptop, phone.")
@click.pass_obj
def users_add_key(talk: Talk, *, name: str, fingerprint: str, key_name: str) -> None:
    """One more key for a user.

    Example: handfast-device users add-key anna "1a2b 3c4d …" --key-name phone
    """
    args = {"name": name, "fingerprint": fingerprint, "key_name": key_name}
    value = talk.do("users-add-key", args)
    talk.show(value, render.user_lines(value["user"], talk.now()))


@users.command(name="remove-key", cls=Verb)
@click.argument("name")
@click.argument("fingerprint", metavar="FP")
@click.pass_obj
def users_remove_key(talk: Talk, *, name: str, fingerprint: str) -> None:
    """Take one key from a user; its sessions end at once, those of other keys go on.

    Example: handfast-device users remove-key anna "1a2b 3c4d …"
    """
    value = talk.do("users-remove-key", {"name": name, "fingerprint": fingerprint})
    talk.show(value, render.user_lines(value["user"], talk.now()))
