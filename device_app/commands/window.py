"""`open`, `close`, `pending`, `accept` and `refuse`: the pairing window and who stands in it."""

import asyncio
import sys

import click

from device_app.commands.common import Talk, Verb
from device_app.terminal.render_pairing import pending_lines, window_lines
from device_app.terminal.waiting import Waiting
from peer.terminal.param_types import Duration


@click.command(name="open", cls=Verb)
@click.option("--for", "seconds", type=Duration(), metavar="TIME", help="How long: 120s, 2m.")
@click.option("--role", help="The role of whoever pairs.")
@click.option("--methods", help="Methods to offer, separated by commas.")
@click.option("--no-wait", is_flag=True, help="Open it and return.")
@click.pass_obj
def open_window(
    talk: Talk, *, seconds: float | None, role: str | None, methods: str | None, no_wait: bool
) -> None:
    """Open the pairing window, and wait until somebody has paired or it closes.

    Example: handfast-device open --for 5m --role user
    """
    args = {
        "seconds": seconds,
        "role": role,
        "methods": [one.strip() for one in methods.split(",")] if methods else [],
    }
    if no_wait:
        window = talk.ask("open", args)["window"]
        talk.show({"window": window}, window_lines(window))
        return
    waiting = Waiting(talk.places.socket, as_json=talk.as_json, quiet=talk.verbosity < 0)
    sys.exit(asyncio.run(waiting.open(args)))


@click.command(name="close", cls=Verb)
@click.pass_obj
def close_window(talk: Talk) -> None:
    """Close the pairing window; whoever is pairing is refused.

    Example: handfast-device close
    """
    value = talk.ask("close")
    talk.show(value, ["closed" if value["closed"] else "it was closed already"])


@click.command(cls=Verb)
@click.pass_obj
def pending(talk: Talk) -> None:
    """What waits for the device's user.

    Example: handfast-device pending
    """
    value = talk.ask("pending")
    talk.show(value, pending_lines(value["pending"]))


@click.command(cls=Verb)
@click.argument("client", metavar="ID|FINGERPRINT", nargs=-1)
@click.pass_obj
def accept(talk: Talk, *, client: tuple[str, ...]) -> None:
    """Say yes to the client that wants to pair, after comparing what both sides show.

    `handfast-device pending` shows its ID, and its fingerprint where that has to be compared; give
    either, so that no other client gets your answer.

    Example: handfast-device accept 5f0c3a9e1b7d248866
    """
    done = talk.ask("accept", {"id": _named(client)})["ceremony"]
    talk.show({"ceremony": done}, [f"accepted {done['name']} as {done['role']}"])


@click.command(cls=Verb)
@click.argument("client", metavar="ID|FINGERPRINT", nargs=-1)
@click.pass_obj
def refuse(talk: Talk, *, client: tuple[str, ...]) -> None:
    """Say no to the client that wants to pair. Name it as for `accept`.

    Example: handfast-device refuse 5f0c3a9e1b7d248866
    """
    done = talk.ask("refuse", {"id": _named(client)})["ceremony"]
    talk.show({"ceremony": done}, [f"refused {done['name']}"])


@click.command(cls=Verb)
@click.option("--held", type=float, default=0.0, metavar="SECONDS", help="For how long.")
@click.pass_obj
def press(talk: Talk, *, held: float) -> None:
    """What the board's button means: call this when it is pressed and let go.

    A press opens the window, and whoever pairs first in it becomes a guest that nobody has
    verified. Held for 5 s it also clears the back-off after failures; held for 10 s, whoever pairs
    with a code, a label, or a comparison becomes an owner.

    Example: handfast-device press --held 0.3
    """
    window = talk.ask("press", {"held": held})["window"]
    talk.show({"window": window}, window_lines(window))


def _named(client: tuple[str, ...]) -> str:
    """What names a client: one word, or a fingerprint in groups."""
    if not client:
        raise click.UsageError(
            "Say which client: its ID or its fingerprint. `handfast-device pending` shows them."
        )
    return " ".join(client)
