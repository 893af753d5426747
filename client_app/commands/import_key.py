"""`handfast import-key`: use a key that a person has already, for example with Nabto Edge."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import click

from client_app.commands.common import Verb
from client_app.commands.invocation import Invocation
from client_app.limits import KEY_FILE_BYTES
from client_app.models import OwnKey
from client_app.terminal import render_devices  # noqa: F401 - registers the rendering of the result
from peer.errors import IdentityError, UsageError
from peer.files import open_regular
from peer.identity import Identity


@click.command("import-key", cls=Verb, epilog="handfast import-key client.key")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.pass_obj
def command(invocation: Invocation, file: str) -> OwnKey:
    """Use the private key in FILE as the key of this client, which must have none yet.

    FILE is a P-256 key in PEM: SEC 1 ("EC PRIVATE KEY"), which Nabto Edge and OpenSSL write, or
    PKCS#8, encrypted or not; - is standard input. A device that knows this key, such as one whose
    users were imported from Nabto Edge, then knows this client. FILE stays as it is.
    """
    pem = _read(invocation, file)
    own = _identity(invocation, file, pem)
    path = invocation.home.identity
    if not path.exists():
        try:
            own.save(path)
        except FileExistsError:
            pass  # by another process; it is compared below
        except OSError as error:
            raise IdentityError(f"cannot write the key {path}: {error.strerror}") from error
        else:
            invocation.screen.say(f"the key is this client's now: {path}")
            return OwnKey(own.fingerprint, own.fingerprint.device_id, own.fingerprint.ni, True)
    present = Identity.load(path).fingerprint
    if present != own.fingerprint:
        raise UsageError(
            f"this client has another key already: {path}",
            advice="Use another folder for this key (--home). Or move that file away; devices that "
            "know only that key do not know this client then.",
        )
    invocation.screen.say("this client has this key already")
    return OwnKey(present, present.device_id, present.ni, created=False)


def _read(invocation: Invocation, file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read(KEY_FILE_BYTES)
    try:
        with open_regular(Path(file)) as source:
            if stat.S_IMODE(os.fstat(source.fileno()).st_mode) & 0o044:
                invocation.screen.warn(f"warning: other users of this machine can read {file}")
            return source.read(KEY_FILE_BYTES)
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error


def _identity(invocation: Invocation, file: str, pem: bytes) -> Identity:
    name = "standard input" if file == "-" else file
    passphrase = None
    if b"ENCRYPTED" in pem:
        if not invocation.screen.can_ask:
            raise UsageError(
                "this command needs a terminal to ask for the passphrase of the key",
                advice=f"Or decrypt it first: openssl pkey -in {name} | handfast import-key -",
            )
        passphrase = click.prompt("Passphrase of the key", hide_input=True, err=True).encode()
    try:
        return Identity.from_pem(pem, passphrase)
    except IdentityError as error:
        raise IdentityError(
            f"{name} {error}",
            advice=error.advice or "Give a private key in PEM; it begins with -----BEGIN.",
        ) from error
