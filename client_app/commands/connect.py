"""`handfast connect`: standard input and output as a connection to a service, for ProxyCommand."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from functools import partial
from typing import TYPE_CHECKING

import click

from client_app.commands.common import NetworkVerb
from client_app.commands.device_argument import is_anything, optional_device
from client_app.limits import COPIED_BYTES
from peer.errors import SessionFailed
from peer.net.daemon_thread import call_in_thread

if TYPE_CHECKING:
    from client_app.commands.invocation import Invocation


@click.command(
    cls=NetworkVerb, epilog="ssh -o ProxyCommand='handfast connect kitchen ssh' pi@kitchen"
)
@optional_device(is_anything)
@click.argument("service")
@click.pass_obj
async def command(invocation: Invocation, device: str, service: str) -> None:
    """Connect standard input and output to a TCP service of a device.

    Only the bytes of the service go to standard output. The end of the input is passed on, and the
    command ends when the service closes the connection.
    """
    async with invocation.client() as client:
        found = await client.connect(device)
        reader, writer = await found.stream(service)
        sending = asyncio.ensure_future(_send(writer))
        try:
            await _receive(reader)
        except BrokenPipeError:  # the reader of standard output has gone
            return
        except ConnectionError as error:
            raise SessionFailed(
                f"the connection to {service} was lost: {error}", advice="Connect again."
            ) from error
        finally:
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await sending
            writer.close()


async def _send(writer: asyncio.StreamWriter) -> None:
    """Copy standard input to the service."""
    file = sys.stdin.fileno()
    while data := await call_in_thread(lambda: os.read(file, COPIED_BYTES)):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


async def _receive(reader: asyncio.StreamReader) -> None:
    """Copy the service to standard output, which nothing else may write to."""
    file = sys.stdout.fileno()
    while data := await reader.read(COPIED_BYTES):
        await call_in_thread(partial(_write_all, file, data))


def _write_all(file: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]
