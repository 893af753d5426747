"""The announcements of a LAN for a client that does not listen to the real one."""

from collections.abc import AsyncIterator

from peer.net.discovery import Advert


async def no_adverts() -> AsyncIterator[Advert]:
    """A LAN on which no device announces itself."""
    for one in list[Advert]():
        yield one
