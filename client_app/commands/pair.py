"""`handfast pair`: pair with a device, or redeem an invite."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import click

from client_app.commands.common import TimedVerb
from client_app.commands.invocation import Invocation
from client_app.limits import INPUT_BYTES
from client_app.models import Paired
from client_app.pairing.arguments import AskCode, AskName, is_invite, parse_label
from client_app.pairing.method_choice import meaning
from client_app.pairing.targets import check_target
from client_app.terminal import render_devices  # noqa: F401 - registers the rendering of the result
from client_app.terminal.picture import picture_path, text_in_picture
from client_app.terminal.screen import Screen
from peer.errors import Malformed, UsageError
from peer.identity import Fingerprint
from peer.pairing.armour import begins_armoured, is_armoured
from peer.pairing.methods import Method
from peer.pairing.names import check_name
from peer.pairing.sas import grouped
from peer.terminal import prompts
from peer.terminal.layout import fingerprint_lines
from peer.terminal.text import on_one_line

if TYPE_CHECKING:
    from client_app.pairing.ceremony import Comparison, FoundDevice

STANDARD_INPUT: Final = "-"
_CLOSING: Final = (
    "fetching the settings for other networks"  # which the end of the client waits for
)


@click.command(cls=TimedVerb, epilog="handfast pair kitchen --name anna")
@click.argument("words", metavar="[TARGET]", nargs=-1)
@click.option("--name", default="", metavar="ME", help="Your user name on the device.")
@click.option("--role", default="", help="Role to request, not above that of the window.")
@click.option(
    "--method",
    type=click.Choice([method.value for method in Method]),
    help="Pairing method.  [default: the strongest that both sides support]",
)
@click.option(
    "--code",
    default="",
    metavar="CODE",
    help="Code that the device shows or has on its label; `-` reads it from standard input.",
)
@click.option(
    "--at", default="", metavar="HOST[:PORT]", help="Address of the device, if TARGET is a label."
)
@click.option(
    "--expect-fingerprint",
    "expected",
    metavar="FP",
    help="Fingerprint that the device must have (`handfast-device fingerprint` prints it there). "
    "You are then not asked to compare anything.",
)
@click.option(
    "--yes",
    is_flag=True,
    help="Do not ask; requires --expect-fingerprint, --code, a label or an invite.",
)
@click.option(
    "--as", "alias", default="", metavar="ALIAS", help="Alias of the device on this client."
)
@click.pass_obj
def command(  # noqa: PLR0917 - click passes them by name
    invocation: Invocation,
    words: tuple[str, ...],
    name: str,
    role: str,
    method: str | None,
    code: str,
    at: str,
    expected: str | None,
    yes: bool,
    alias: str,
) -> Awaitable[Paired]:
    """Pair with a device whose pairing window is open, or redeem an invite.

    TARGET is the device's name, its ID, or the address of its pairing port. You can omit it if
    exactly one device on this network is open for pairing.

    TARGET can also be a label (the text of its QR code, HANDFAST:1:…, or a picture of it) or an
    invite (HANDFAST:I:…). An invite works wherever an address of the device can be reached, and no
    one has to be at the device. Give `-` to read either from standard input, so that it appears
    neither in the shell's history nor in the list of processes.

    handfast chooses the strongest method that both sides support, asks for what the method needs,
    and prints what it has proved. If the device already knows this client, nothing changes, and a
    code that you give is not checked.
    """
    if code == STANDARD_INPUT:
        code = prompts.read_first_line(INPUT_BYTES)
        if not code.strip():
            raise UsageError("standard input has no code", advice="Write the code on one line.")
    options = PairOptions(name, role, method, code, at, expected, yes, alias)
    target = _target(invocation, words)
    if is_invite(target):
        if options.name or options.role:
            raise UsageError(
                "an invite already contains the user name and the role",
                advice="Leave out --name and --role.",
            )
        return _redeemed(invocation, target, alias=options.alias, expect=options.expect)
    check_target(target)
    label = parse_label(target)
    _check_answers(invocation, options, is_label=label is not None)
    return _paired(invocation, target, options)


@dataclass(frozen=True, slots=True)
class PairOptions:
    """The options of `handfast pair`."""

    name: str
    role: str
    method: str | None
    code: str = field(repr=False)
    at: str
    expected: str | None
    yes: bool
    alias: str

    @property
    def accepts_unverified(self) -> bool:
        """Whether the user chose a method that verifies no key."""
        method = Method.named(self.method or "")
        return method is not None and not method.spec.verifies_key

    @property
    def expect(self) -> Fingerprint | None:
        """The fingerprint that the device must have, if one is given."""
        if self.expected is None:
            return None
        try:
            return Fingerprint.parse(self.expected)
        except Malformed as error:
            raise UsageError(
                f"--expect-fingerprint: {error}",
                advice=f"{error.advice} `handfast-device fingerprint` prints it on the device.",
            ) from error


def _target(invocation: Invocation, words: tuple[str, ...]) -> str:
    """The target as given: in words, on standard input, or in a picture."""
    if words == (STANDARD_INPUT,):
        return _typed(invocation)
    target = " ".join(words)
    if (path := picture_path(target)) is not None:
        return text_in_picture(path)
    if len(words) > 1 and not begins_armoured(target):
        raise UsageError(
            "more than one TARGET is given",
            advice="Give one target. Put quotes around a text that contains spaces.",
        )
    return target


def _check_answers(invocation: Invocation, options: PairOptions, *, is_label: bool) -> None:
    """Fail before connecting if the pairing would have to ask and there is no terminal."""
    proved = is_label or options.expect is not None or bool(options.code)
    if options.yes and not (proved or options.accepts_unverified):
        raise UsageError(
            "--yes alone would accept any device",
            advice="Add --code with the code that the device shows, or --expect-fingerprint with "
            "what `handfast-device fingerprint` prints there.",
        )
    if not proved and not options.accepts_unverified and not invocation.screen.can_ask:
        raise UsageError(
            "this command needs a terminal to ask for the code or to compare fingerprints",
            advice="Give --code with the code that the device shows, or --expect-fingerprint with "
            "what `handfast-device fingerprint` prints there.",
        )


def _typed(invocation: Invocation) -> str:
    """Read an invite or a label from standard input: all of it, or one line of a terminal."""
    if sys.stdin.isatty():
        invocation.screen.warn("Paste the text of the invite or label, then press Enter:")
    text = prompts.read_all(INPUT_BYTES)
    if not is_armoured(text):
        raise UsageError(
            "standard input contains neither an invite nor a label",
            advice="An invite starts with HANDFAST:I:, a label with HANDFAST:1:. "
            "Give a picture by its path.",
        )
    return text


async def _redeemed(
    invocation: Invocation, invite: str, *, alias: str, expect: Fingerprint | None
) -> Paired:
    invocation.screen.progress("searching for the device of this invite")
    async with invocation.client() as client:
        done = await client.redeem(
            invite, alias=alias, expect=expect, on_note=invocation.screen.warn
        )
        invocation.screen.progress(_CLOSING)
    invocation.screen.say("the device has proved the key that the invite names:")
    # With one leading space, a fingerprint just fits into 80 columns.
    invocation.screen.say(f" {done.device.fingerprint.grouped}")
    return done


async def _paired(invocation: Invocation, target: str, options: PairOptions) -> Paired:
    screen = invocation.screen
    shown = "the device of this label" if is_armoured(target) else on_one_line(target)
    screen.progress(f"searching for {shown or 'the device that is open for pairing'}")
    asks = screen.can_ask and not options.yes
    found: list[FoundDevice] = []
    try:
        async with invocation.client() as client:
            done = await client.pair(
                target,
                name=options.name or (_ask_name(invocation, found) if asks else ""),
                role=options.role,
                alias=options.alias,
                expect=options.expect,
                method=options.method or (Method.CODE if options.code else ""),
                code=_code(invocation, options.code, found) if options.code or asks else "",
                confirm=(lambda question: confirm(invocation, question, found)) if asks else None,
                at=options.at,
                on_wait=lambda seconds: screen.progress(
                    "waiting for confirmation at the device", seconds=seconds
                ),
                on_note=screen.warn,
                on_device=found.append,
            )
            screen.progress(_CLOSING)
    finally:
        screen.done()
    if done.is_new and not invocation.json:
        is_expected = done.method == Method.COMPARE and options.expect is not None
        proved = "the device has the fingerprint that you gave" if is_expected else ""
        screen.say(f"method {done.method}: {proved or meaning(Method(done.method))}")
    return done


def _ask_name(invocation: Invocation, found: list[FoundDevice]) -> AskName:
    """Return what asks for the user name on the device; the login name is the default."""

    async def ask() -> str:
        screen = invocation.screen
        keys = {device.fingerprint for device in found}
        _introduce(screen, found)
        if any(one.fingerprint in keys and one.user for one in invocation.book.all()):
            return ""  # it has a name there already
        default = _login_name()
        while True:
            shown = f" [{default}]" if default else ""
            line = await screen.read(f"Your user name on the device{shown}: ")
            if line is None or not (name := line.strip()):
                return default
            try:
                return check_name(name)
            except Malformed as error:
                screen.warn(f"{error}. {error.advice}")

    return ask


def _login_name() -> str:
    """The login name of this process's user, if it can be a user name; else ''."""
    try:
        return check_name(getpass.getuser())
    except (OSError, KeyError, ImportError, Malformed):
        return ""


def _introduce(screen: Screen, found: list[FoundDevice]) -> None:
    """Name the device that was found, once, before it is asked about."""
    screen.done()
    while found:
        device = found.pop()
        screen.warn(_called(device.name, device.fingerprint, device.address))


def _code(invocation: Invocation, given: str, found: list[FoundDevice]) -> AskCode:
    """Return what reads the code; before it asks, it names the device that was found."""

    async def ask() -> str:
        if given:
            return given
        _introduce(invocation.screen, found)
        line = await invocation.screen.read("Code shown by the device or printed on its label: ")
        if line is None:
            raise UsageError("no code was entered", advice="Start again, or give --code.")
        return line

    return ask


def _called(name: str, device: Fingerprint, address: str) -> str:
    """A device that was found: the name that it gives itself, its ID and its address."""
    return f"Device found: {name or '(no name)'} ({device.device_id}) at {address}"


async def confirm(
    invocation: Invocation, question: Comparison, found: list[FoundDevice] | None = None
) -> bool:
    """Ask on the screen whether the device shows the same number, or the same fingerprints.

    `found` has the device if it was not named yet.
    """
    screen = invocation.screen
    if found is None:
        screen.warn(_called(question.name, question.device, question.address))
    else:
        _introduce(screen, found)
    if question.number:
        screen.warn(f"  this client shows  {grouped(question.number)}")
        return await screen.ask(
            "Does the device show the same number? [yes/no, or type the number]",
            also=question.number,
        )
    for line in (
        *fingerprint_lines("  device's fingerprint  ", question.device),
        *fingerprint_lines("  client's fingerprint  ", question.own),
    ):
        screen.warn(line)
    return await screen.ask("Does the device show exactly these two fingerprints? [yes/no]")
