"""`handfast pair`: get to know a device, both users looking."""

from __future__ import annotations

import sys
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from client_app.choice import MEANING, AskCode, is_invite, scanned
from client_app.picture import is_picture, text_in_picture
from client_app.setting import Setting, Verb
from client_app.targets import check_target
from client_app.values import Paired
from peer.errors import Malformed, UsageError
from peer.identity import Fingerprint
from peer.pairing import methods
from peer.pairing.armour import is_armoured
from peer.pairing.sas import grouped
from peer.terminal.text import on_one_line

if TYPE_CHECKING:
    from client_app.pairing import Comparison

METHODS: Final = ("label", "code", "sas", "compare", "button")
STANDARD_INPUT: Final = "-"
_MOST_TYPED: Final = 4096  # characters; an invite has 619 at most, and perhaps line breaks


@click.command(cls=Verb, example="handfast pair kitchen --name anna")
@click.argument("words", metavar="[TARGET]", nargs=-1)
@click.option("--name", default="", metavar="ME", help="Who you want to be on the device.")
@click.option("--role", default="", help="The role to ask for, at most the window's.")
@click.option(
    "--method",
    type=click.Choice(METHODS),
    help="How to get to know it; by default the best that both can do.",
)
@click.option(
    "--code",
    default="",
    metavar="CODE",
    help="The code that the device shows or bears; `-` reads it from standard input.",
)
@click.option("--at", default="", metavar="HOST[:PORT]", help="Where the device of a label is.")
@click.option(
    "--expect-fingerprint",
    "expected",
    metavar="FP",
    help="The device's fingerprint, known by other means: checked, and nobody is asked here.",
)
@click.option(
    "--yes",
    is_flag=True,
    help="Ask nothing; needs --expect-fingerprint, --code, a label or an invite.",
)
@click.option("--as", "alias", default="", metavar="ALIAS", help="What to call the device here.")
@click.pass_obj
def command(
    setting: Setting, /, words: tuple[str, ...], **options: Any
) -> Coroutine[Any, Any, Paired]:
    """Pair with a device whose window is open, or redeem an invite.

    TARGET is its name, its id, or the address of its pairing port; without one, the only device
    that is open on this network. How you get to know each other is up to what the device offers: a
    code that it shows, six digits on both sides, or both fingerprints, all digits of them.

    Or TARGET is what the QR code on the device says, HANDFAST:1*…, or a picture of it; then nothing
    is asked. Or it is an invite, HANDFAST:I*…: then nobody has to be at the device. `-` reads
    either from standard input, where other users of this machine and the shell's history do not
    see it.
    """
    wish = _Wish(**options)
    target = _target(setting, words)
    if is_invite(target):
        if wish.name or wish.role:
            raise UsageError(
                "who you will be is in the invite", advice="Leave --name and --role out."
            )
        return _redeemed(setting, target, alias=wish.alias, expect=wish.expect)
    check_target(target)
    label = scanned(target)
    _check_answers(setting, wish, is_label=label is not None)
    return _paired(setting, target, wish)


@dataclass(frozen=True, slots=True)
class _Wish:
    """The options."""

    name: str
    role: str
    method: str | None
    code: str = field(repr=False)
    at: str
    expected: str | None
    yes: bool
    alias: str

    @property
    def expect(self) -> Fingerprint | None:
        """What the device's key has to be."""
        if self.expected is None:
            return None
        try:
            return Fingerprint.parse(self.expected)
        except Malformed as error:
            raise UsageError(f"--expect-fingerprint: {error}", advice=error.advice) from error


def _target(setting: Setting, words: tuple[str, ...]) -> str:
    """What was given: as words, on standard input, or in a picture."""
    if words == (STANDARD_INPUT,):
        return _typed(setting)
    target = " ".join(words)
    if is_picture(target):
        return text_in_picture(Path(target))
    if len(words) > 1 and not is_armoured(target):
        raise UsageError(
            "more than one TARGET is given", advice="Name one device; quote a name with blanks."
        )
    return target


def _check_answers(setting: Setting, wish: _Wish, *, is_label: bool) -> None:
    """Refuse what could only be answered by somebody who is not there, before anything is tried."""
    proved = is_label or wish.expect is not None or bool(wish.code)
    if wish.yes and not (proved or wish.method == methods.BUTTON):
        raise UsageError(
            "--yes alone would accept any device",
            advice="Add --code or --expect-fingerprint, with what the device itself shows.",
        )
    if not proved and wish.method != methods.BUTTON and not setting.screen.can_ask:
        raise UsageError(
            "nobody is at this terminal to compare or to type anything",
            advice="Give --code or --expect-fingerprint, with what the device itself shows.",
        )


def _typed(setting: Setting) -> str:
    """From standard input: what a program writes, or a line that a person pastes."""
    if sys.stdin.isatty():
        setting.screen.warn("Paste the invite or the label's text, then press Enter:")
        text = sys.stdin.readline(_MOST_TYPED)
    else:
        text = sys.stdin.read(_MOST_TYPED)
    if not is_armoured(text):
        raise UsageError(
            "there is neither an invite nor a label on standard input",
            advice="An invite begins with HANDFAST:I*, a label with HANDFAST:1*",
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


async def _paired(setting: Setting, target: str, wish: _Wish) -> Paired:
    screen = setting.screen
    shown = "the device of this label" if is_armoured(target) else on_one_line(target)
    screen.progress(f"looking for {shown or 'the open device'}")
    asks = screen.can_ask and not wish.yes
    try:
        async with setting.client() as client:
            done = await client.pair(
                target,
                name=wish.name,
                role=wish.role,
                alias=wish.alias,
                expect=wish.expect,
                method=wish.method or (methods.CODE if wish.code else ""),
                code=_code(setting, wish.code) if wish.code or asks else "",
                confirm=(lambda question: _confirm(setting, question)) if asks else None,
                at=wish.at,
                on_wait=lambda seconds: screen.progress(
                    "waiting for the device's user", seconds=seconds
                ),
                on_note=screen.warn,
            )
    finally:
        screen.done()
    if done.is_new and not setting.json:
        is_expected = done.method == methods.COMPARE and wish.expect is not None
        proved = "the device has the fingerprint that you gave" if is_expected else ""
        screen.say(f"by {done.method}: {proved or MEANING[done.method]}")
    return done


def _code(setting: Setting, given: str) -> AskCode:
    async def ask() -> str:
        if given == STANDARD_INPUT:
            return sys.stdin.readline(_MOST_TYPED)
        if given:
            return given
        setting.screen.done()
        return await setting.screen.read(
            "The code that the device shows, or the one on its label: "
        )

    return ask


async def _confirm(setting: Setting, question: Comparison) -> bool:
    from client_app.render import halves  # noqa: PLC0415 - it knows this command

    screen = setting.screen
    screen.done()
    screen.warn(f"{on_one_line(question.name) or 'A device'} at {question.address}")
    if question.number:
        screen.warn(f"  this client shows  {grouped(question.number)}")
        return await screen.ask(
            "Does the device show the same? [y/n, or type its digits]", also=question.number
        )
    for line in (
        *halves("  its fingerprint  ", question.device),
        *halves("  this client's    ", question.own),
    ):
        screen.warn(line)
    return await screen.ask("Does the device show exactly these two? [y/n]")
