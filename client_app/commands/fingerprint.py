"""`handfast fingerprint`: the fingerprint of this client's key."""

from __future__ import annotations

import click

from client_app.commands.common import Verb
from client_app.commands.invocation import Invocation
from client_app.models import OwnKey
from client_app.terminal import render_devices  # noqa: F401 - registers the rendering of the result
from peer.identity import Identity


@click.command(cls=Verb, epilog="handfast fingerprint --qr")
@click.option("--qr", "show_qr", is_flag=True, help="Also print a QR code of it, to stderr.")
@click.pass_obj
def command(invocation: Invocation, show_qr: bool) -> OwnKey:
    """Print the fingerprint of this client. If it has no key yet, one is created.

    Give the fingerprint to someone who adds you to a device: `handfast users DEVICE add NAME --key
    FP`, `handfast invite DEVICE NAME --key FP`, or `handfast-device users add NAME --key FP`. It is
    no secret, but make sure that it arrives unchanged.
    """
    path = invocation.home.identity
    is_new = not path.exists()
    own = Identity.load_or_create(path).fingerprint
    if is_new:
        invocation.screen.say(f"a new key was created: {path}")
    if show_qr:
        invocation.draw_qr(own.ni)
    return OwnKey(own, own.device_id, own.ni, created=is_new)
