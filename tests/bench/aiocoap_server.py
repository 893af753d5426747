"""aiocoap's server with one small resource: `aiocoap_server.py HOST PORT [psk=IDENTITY:KEY]`.

Without a key it uses plain UDP, otherwise tinydtls.
"""

import asyncio
import sys
from typing import Any

import aiocoap
import aiocoap.resource
from aiocoap.credentials import CredentialsMap  # type: ignore[import-untyped]


class Hello(aiocoap.resource.Resource):
    """GET returns a body as long as that of a device."""

    async def render_get(self, _request: aiocoap.Message) -> aiocoap.Message:
        return aiocoap.Message(payload=b"x" * 48, content_format=0)


async def serve(host: str, port: int, psk: str) -> None:
    site = aiocoap.resource.Site()
    site.add_resource(["hello"], Hello())
    start = aiocoap.Context.create_server_context
    if not psk:
        await start(site, bind=(host, port), transports=["simplesocketserver"])
    else:
        identity, _, secret = psk.partition(":")
        key = {"psk": {"ascii": secret}, "client-identity": {"ascii": identity}}
        credentials = CredentialsMap()
        credentials.load_from_dict({":client": {"dtls": key}})
        # aiocoap serves DTLS on the port after the one that is given.
        secured: Any = {"server_credentials": credentials}
        await start(site, bind=(host, port - 1), transports=["tinydtls_server"], **secured)
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    chosen = sys.argv[3].removeprefix("psk=") if len(sys.argv) > 3 else ""
    asyncio.run(serve(sys.argv[1], int(sys.argv[2]), chosen))
