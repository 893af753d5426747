"""The running daemon, as `Console` sees it, and its verbs as handlers of the control socket."""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path

from device_app.access.access_control import AccessControl
from device_app.access.authority import Authority
from device_app.access.invitations import Invitations
from device_app.access.registry import Registry
from device_app.console.arguments import decode_untrusted
from device_app.console.console import Console
from device_app.console.control_messages import JsonObject, Tell
from device_app.console.control_server import Handler
from device_app.console.pairing_console import PairingConsole
from device_app.console.reloader import PolicyReloadAnswer
from device_app.console.state_tracker import StateTracker
from device_app.console.views import StatusAnswer
from device_app.pairing.service import PairingService
from device_app.pairing.stored_label import LABEL_RECORD, StoredLabel
from device_app.remote.off import RemoteReach
from device_app.settings.config import Settings
from peer.identity import Fingerprint, Identity


class DaemonHost:
    """A `ConsoleHost` made of the objects of the running daemon."""

    def __init__(
        self,
        access: AccessControl,
        invitations: Invitations,
        service: PairingService,
        identity: Identity,
        settings: Settings,
        *,
        status: Callable[[], StatusAnswer],
        states: StateTracker,
        reload_policies: Callable[[], Awaitable[PolicyReloadAnswer]],
        remote: RemoteReach,
        key_file: Path,
        remote_key_file: Path,
        config_folder: Path,
        restart: Callable[[bool], None],
    ) -> None:
        """Collect what the console needs.

        Args:
            access: users, policies and audit trail.
            invitations: creates invites.
            service: the pairing window.
            identity: the device's key.
            settings: the configuration.
            status: describes the daemon.
            states: the state of the device in one word, and its changes.
            reload_policies: puts the policy files in force.
            remote: remote reach.
            key_file: the file of that key.
            remote_key_file: the file of the remote master key.
            config_folder: the folder of the configuration.
            restart: starts the device again after its answer; the argument keeps the key.
        """
        self.access = access
        self.invitations = invitations
        self.pairing = PairingConsole(service)
        self.status = status
        self.states = states
        self.reload_policies = reload_policies
        self.remote = remote
        self.config_folder = config_folder
        self.settings = settings
        self.identity = identity
        self._service = service
        self._key_file = key_file
        self._remote_key_file = remote_key_file
        self._restart = restart

    @property
    def authority(self) -> Authority:
        """Decides by the policies in force."""
        return self.access.authority

    @property
    def registry(self) -> Registry:
        """Changes users, keys and invites."""
        return self.access.registry

    def use_label(self, label: StoredLabel) -> None:
        """Offer this label from now on."""
        self._service.methods.replace_label(label)

    def reset(self, *, keep_identity: bool) -> None:
        """Forget every user, and restart."""
        self.pairing.close()  # its events name users, and are deleted with all others
        self.registry.forget_all(keep=(LABEL_RECORD,) if keep_identity else ())
        self._remote_key_file.unlink(missing_ok=True)
        self._restart(keep_identity)

    def new_identity(self) -> Fingerprint:
        """Replace the key, and restart; the start withdraws what the old key had signed."""
        identity = Identity.create()
        identity.replace(self._key_file)
        self._restart(True)
        return identity.fingerprint

    def use_restored_store(self) -> None:
        """Restart with the same key."""
        self._restart(True)


def handlers_of(console: Console) -> dict[str, Handler]:
    """Return a handler for each verb: each public method of `Console`."""
    return {
        name.replace("_", "-"): partial(_handle, console, method)
        for name, method in vars(Console).items()
        if not name.startswith("_")
    }


async def _handle(
    console: Console,
    method: Callable[..., Mapping[str, object] | Awaitable[Mapping[str, object]]],
    args: JsonObject,
    tell: Tell[Mapping[str, object]],
) -> Mapping[str, object]:
    takes_tell = "tell" in inspect.signature(method).parameters
    decoded = decode_untrusted(method, args)
    answer = method(console, *([tell] if takes_tell else []), **decoded)
    return await answer if isinstance(answer, Awaitable) else answer
