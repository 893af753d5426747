"""`handfast pair`: get to know a device, both users looking."""

from __future__ import annotations

import sys
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

import click

from client_app.setting import Setting, Verb
from client_app.targets import check_target
from client_app.text import on_one_line
from client_app.values import Paired
from peer.errors import Malformed, UsageError
from peer.identity import Fingerprint
from peer.pairing.armour import is_armoured

if TYPE_CHECKING:
    from client_app.pairing import Comparison

STANDARD_INPUT: Final = "-"
_MOST_TYPED: Final = 4096  # characters; an invite has 619 at most, and perhaps line breaks


@click.command(cls=Verb, example="handfast pair kitchen --name anna")
@click.argument("words", metavar="[TARGET]", nargs=-1)
@click.option("--name", default="", metavar="ME", help="Who you want to be on the device.")
@click.option("--role", default="", help="The role to ask for, at most the window's.")
@click.option(
    "--method", type=click.Choice(["compare"]), default="compare", help="How to get to know it."
)
@click.option(
    "--expect-fingerprint",
    "expected",
    metavar="FP",
    help="The device's fingerprint, known by other means: checked, and nobody is asked here.",
)
@click.option("--yes", is_flag=True, help="Ask nothing; needs --expect-fingerprint.")
@click.option("--as", "alias", default="", metavar="ALIAS", help="What to call the device here.")
@click.pass_obj
def command(  # noqa: PLR0917 - click passes them by name
    setting: Setting,
    words: tuple[str, ...],
    name: str,
    role: str,
    method: str,
    expected: str | None,
    yes: bool,
    alias: str,
) -> Coroutine[Any, Any, Paired]:
    """Pair with a device whose window is open, or redeem an invite.

    TARGET is its name, its id, or the address of its pairing port; without one, the only device
    that is open on this network. Compare both fingerprints with what the device shows, all digits.

    Or TARGET is an invite, HANDFAST:I*…: then nobody has to be at the device. `-` reads it from
    standard input, where other users of this machine and the shell's history do not see it.
    """
    target = _typed(setting) if words == (STANDARD_INPUT,) else " ".join(words)
    if is_armoured(target):
        if name or role:
            raise UsageError(
                "who you will be is in the invite", advice="Leave --name and --role out."
            )
        return _redeemed(setting, target, alias=alias, expect=_expected(expected))
    if len(words) > 1:
        raise UsageError(
            "more than one TARGET is given", advice="Name one device; quote a name with blanks."
        )
    check_target(target)
    return _paired(
        setting,
        target,
        name=name,
        role=role,
        method=method,
        expect=_expected(expected),
        yes=yes,
        alias=alias,
    )


def _typed(setting: Setting) -> str:
    """An invite from standard input: what a program writes, or a line that a person pastes."""
    if sys.stdin.isatty():
        setting.screen.warn("Paste the invite, then press Enter:")
        text = sys.stdin.readline(_MOST_TYPED)
    else:
        text = sys.stdin.read(_MOST_TYPED)
    if not is_armoured(text):
        raise UsageError(
            "there is no invite on standard input", advice="An invite begins with HANDFAST:I*"
        )
    return text


async def _redeemed(
    setting: Setting, invite: str, *, alias: str, expect: Fingerprint | None
) -> Paired:
    setting.screen.progress("looking for the device of this invite")
    async with setting.client() as client:
        done = await client.redeem(invite, alias=alias, expect=expect, on_note=setting.screen.warn)
    setting.screen.say(
        f"checked: the device proved the key in the invite, {done.device.fingerprint.grouped}"
    )
    return done


async def _paired(
    setting: Setting,
    target: str,
    *,
    name: str,
    role: str,
    method: str,
    expect: Fingerprint | None,
    yes: bool,
    alias: str,
) -> Paired:
    if expect is None and yes:
        raise UsageError(
            f"--yes with the method {method} would accept any device",
            advice="Add --expect-fingerprint, with what the device itself shows.",
        )
    if expect is None and not setting.screen.can_ask:
        raise UsageError(
            "nobody is at this terminal to compare the fingerprints",
            advice="Give --expect-fingerprint, with what the device itself shows.",
        )
    setting.screen.progress(f"looking for {on_one_line(target) or 'the open device'}")
    try:
        async with setting.client() as client:
            return await client.pair(
                target,
                name=name,
                role=role,
                alias=alias,
                expect=expect,
                confirm=lambda question: _confirm(setting, question),
                on_wait=lambda seconds: setting.screen.progress(
                    "waiting for the device's user", seconds=seconds
                ),
            )
    finally:
        setting.screen.done()


def _expected(text: str | None) -> Fingerprint | None:
    if text is None:
        return None
    try:
        return Fingerprint.parse(text)
    except Malformed as error:
        raise UsageError(f"--expect-fingerprint: {error}", advice=error.advice) from error


async def _confirm(setting: Setting, question: Comparison) -> bool:
    screen = setting.screen
    screen.done()
    screen.warn(f"{on_one_line(question.name) or 'A device'} at {question.address}")
    screen.warn(f"  its fingerprint  {question.device.grouped}")
    screen.warn(f"  this client's    {question.own.grouped}")
    return await screen.ask("Does the device show exactly these two?")
