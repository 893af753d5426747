"""`handfast pair`: get to know a device, both users looking."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from client_app.setting import Setting, Verb
from client_app.text import on_one_line
from client_app.values import Paired
from peer.errors import Malformed, UsageError
from peer.identity import Fingerprint

if TYPE_CHECKING:
    from client_app.pairing import Comparison


@click.command(cls=Verb, example="handfast pair kitchen --name anna")
@click.argument("target", default="")
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
async def command(  # noqa: PLR0917 - click passes them by name
    setting: Setting,
    target: str,
    name: str,
    role: str,
    method: str,
    expected: str | None,
    yes: bool,
    alias: str,
) -> Paired:
    """Pair with a device whose window is open.

    TARGET is its name, its id, or the address of its pairing port; without one, the only device
    that is open on this network. Compare both fingerprints with what the device shows, all digits.
    """
    expect = _expected(expected)
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
