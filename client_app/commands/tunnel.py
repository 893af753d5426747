"""`handfast tunnel`: local ports that lead to TCP services of a device."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from client_app.commands.common import NetworkVerb
from client_app.commands.device_argument import device_argument
from client_app.limits import CONNECT_SECONDS, LOOPBACK, REQUEST_SECONDS
from client_app.models import OpenTunnel
from client_app.terminal import render_tunnels  # noqa: F401 - registers the rendering of the result
from peer.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from client_app.commands.invocation import Invocation

_PORT_MAX = (1 << 16) - 1  # TCP, RFC 9293


def port_of(text: str) -> tuple[str, int]:
    """Return the service and the port of `SERVICE` or `SERVICE:PORT`. Raises `UsageError`."""
    service, colon, port = text.partition(":")
    is_number = port.isascii() and port.isdecimal() and len(port) <= len(str(_PORT_MAX))
    number = int(port) if is_number else 0 if not colon else _PORT_MAX + 1
    if not service or number > _PORT_MAX:
        raise UsageError(
            f"{text!r} is not a service and a port",
            advice="Write SERVICE:PORT, for example ssh:2222, or SERVICE for any free port.",
        )
    return service, number


@click.command(cls=NetworkVerb, epilog="handfast tunnel kitchen ssh:2222 http:8080")
@device_argument
@click.argument("services", metavar="SERVICE[:PORT]...", nargs=-1, required=True)
@click.option(
    "--bind",
    default=LOOPBACK,
    metavar="ADDRESS",
    show_default=True,
    help="Listen on this address. Other hosts that reach it use the services as you.",
)
@click.pass_obj
async def command(
    invocation: Invocation, device: str, services: tuple[str, ...], bind: str
) -> AsyncIterator[OpenTunnel]:
    """Forward local ports to TCP services of a device, until Ctrl-C.

    SERVICE is a name that `handfast services` lists, and PORT a port of this machine; without it,
    or with 0, any free one is used. The ports are printed, one on a line.

    If the connection to the device is lost, handfast connects again for the next connection to a
    port. --timeout limits the time until the ports are open.
    """
    asked = [port_of(one) for one in services]
    async with invocation.client() as client:
        found = await client.connect(device, timeout=invocation.seconds_left(CONNECT_SECONDS))
        for service, port in asked:
            number = await found.tunnel(
                service,
                port=port,
                host=bind,
                timeout=invocation.seconds_left(REQUEST_SECONDS),
                on_note=invocation.screen.say,
            )
            yield OpenTunnel(service, bind, number)
        await asyncio.Event().wait()
