"""The device that `Console` acts on: a running daemon (`daemon_host`) or files (`offline`)."""

from collections.abc import Awaitable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from device_app.access.access_control import AccessControl
from device_app.access.authority import Authority
from device_app.access.invitations import Invitations
from device_app.access.registry import Registry
from device_app.console.reloader import PolicyReloadAnswer
from device_app.console.views import StatusAnswer
from device_app.pairing.stored_label import StoredLabel
from device_app.remote.off import RemoteReach
from device_app.settings.config import Settings
from peer.identity import Fingerprint, Identity

if TYPE_CHECKING:  # the command line does without the daemon's part
    from device_app.console.pairing_console import PairingConsole
    from device_app.console.state_tracker import StateTracker


class ConsoleHost(Protocol):
    """A device, with all that its console needs.

    A property raises `AppError` if the device does not have it, and `NoDaemon` if only a running
    daemon has it.
    """

    @property
    def access(self) -> AccessControl:
        """Store, clock and audit trail; decisions and changes use `authority` and `registry`."""

    @property
    def authority(self) -> Authority:
        """Decides by the policies in force, with the actions of applications."""

    @property
    def registry(self) -> Registry:
        """Changes users, keys and invites by the rules of the roles in force."""

    @property
    def invitations(self) -> Invitations:
        """Creates invites."""

    @property
    def identity(self) -> Identity:
        """The device's key."""

    @property
    def settings(self) -> Settings:
        """The configuration."""

    @property
    def config_folder(self) -> Path:
        """The folder of the configuration."""

    @property
    def pairing(self) -> "PairingConsole":
        """The pairing window; needs the daemon."""

    @property
    def states(self) -> "StateTracker":
        """The state of the device, and its changes; needs the daemon."""

    @property
    def remote(self) -> RemoteReach:
        """Remote reach."""

    def status(self) -> StatusAnswer:
        """Describe the device."""

    def use_label(self, label: StoredLabel) -> None:
        """Offer this label from now on; it is stored already."""

    def reload_policies(self) -> Awaitable[PolicyReloadAnswer]:
        """Put the policy files into force; needs the daemon."""

    def reset(self, *, keep_identity: bool) -> None:
        """Forget every user, and the device's key unless `keep_identity`."""

    def new_identity(self) -> Fingerprint:
        """Give the device a new key, and return its fingerprint. Raises `IdentityError`."""

    def use_restored_store(self) -> None:
        """Take over a store whose users were replaced."""
