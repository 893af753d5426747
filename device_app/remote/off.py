"""Remote reach as the rest of the daemon sees it, and that of a device without `[remote]`."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from device_app.access.access_control import AccessControl
from device_app.remote.views import RemoteView, plain_view
from peer.fingerprint import Fingerprint

if TYPE_CHECKING:  # commands do without the network
    from peer.net.server import CoapsServer

#: Returns the encoded settings of a client key, or None if there are none now.
SettingsSource = Callable[[Fingerprint], bytes | None]


class RemoteReach(Protocol):
    """Remote reach of a device."""

    @property
    def settings_source(self) -> SettingsSource | None:
        """Returns the body of GET /remote for a client key; None: there is no such resource."""

    async def start(self, server: "CoapsServer", /) -> None:
        """Begin, for clients of the regular port. Nothing is raised."""

    async def close(self) -> None:
        """End. Safe to repeat."""

    def review(self, keys: Iterable[str]) -> None:
        """Follow a change of the rights of these keys, in this turn."""

    def review_all(self) -> None:
        """Follow a change of the rights of any key, in this turn."""

    def view(self) -> RemoteView:
        """Return the state, for `status`."""

    def problem(self) -> str:
        """Return what `health` reports, with advice; empty if there is nothing."""

    def rotate(self) -> int:
        """Invalidate the secrets of all clients; return the new generation of the master key.

        Raises `RemoteTrouble` if the file of the key cannot be read or written.
        """


class NoRemoteReach:
    """Remote reach that is off, of which nothing is imported.

    A device that had it on before still has a master key in `key_file`, which `rotate` replaces.
    `state` is `off`, or `stopped` for a device that does not run.
    """

    def __init__(self, key_file: Path, access: AccessControl, *, state: str = "off") -> None:
        self._key_file = key_file
        self._access = access
        self._state = state

    @property
    def settings_source(self) -> SettingsSource | None:
        """None: clients get no settings."""
        return None

    async def start(self, _server: "CoapsServer", /) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""

    def review(self, keys: Iterable[str]) -> None:
        """Do nothing: no key can connect."""

    def review_all(self) -> None:
        """Do nothing: no key can connect."""

    def view(self) -> RemoteView:
        """Return that it is off."""
        return plain_view(self._state)

    def problem(self) -> str:
        """Return nothing: it is off because the settings say so."""
        return ""

    def rotate(self) -> int:
        """Replace the key in the file. Raises `RemoteTrouble`."""
        from device_app.remote.rotation import rotate  # noqa: PLC0415 - hardly ever needed

        return rotate(self._key_file, self._access).generation
