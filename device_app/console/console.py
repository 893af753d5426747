"""The console: every verb of `handfast-device` that acts on the device, one method each.

A method's name, with `-` for `_`, is the verb's name on the control socket, and its keyword
parameters are the verb's arguments. Plain methods also work without a daemon, on the files alone
(`offline`); coroutines need the running daemon. A person at the console has the highest rank, so
changes are made with no actor. Methods raise `AppError`, `IamError` and `PeerError`.

To add a verb: write a method here, and a command in `device_app/commands`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NoReturn

from device_app.access import explaining
from device_app.access.bodies import (
    UserPatch,
    UserRequest,
    UserView,
    new_key_untrusted,
    user_view,
)
from device_app.access.explaining import PolicyExplanation, PolicyList
from device_app.access.fields import fingerprint_untrusted
from device_app.access.invitations import InviteRequest
from device_app.access.user_pages import UserPages
from device_app.console import audit, identity_change, remote_test, restore
from device_app.console.answers import (
    AuditEvent,
    CeremonyAnswer,
    ClockAnswer,
    ClosedAnswer,
    DiscardAnswer,
    EventsAnswer,
    InviteAnswer,
    InvitesAnswer,
    NewIdentityAnswer,
    PendingAnswer,
    RemoteAnswer,
    RemovedAnswer,
    ResetAnswer,
    RestoreAnswer,
    RotatedAnswer,
    SelfTestAnswer,
    SelfTestEvent,
    UserAnswer,
    UsersAnswer,
    WindowAnswer,
    WithdrawnAnswer,
)
from device_app.console.control_messages import Tell
from device_app.console.host import ConsoleHost
from device_app.console.reloader import PolicyReloadAnswer
from device_app.console.status import clock_view
from device_app.console.views import OpenAnswer, StateEvent, StatusAnswer, WindowEvent
from device_app.errors import AppError, NoDevice
from device_app.limits import QUOTED_ACTION_CHARACTERS
from device_app.pairing import labels
from device_app.pairing.labels import LabelAnswer, RevivedAnswer
from iam.model import User
from iam.policy import ACTION
from peer.identity import Fingerprint
from peer.terminal.exit_codes import ExitCode

_NO_ATTRIBUTES: Mapping[str, str] = MappingProxyType({})


class Console:
    """All verbs, for one device."""

    def __init__(self, host: ConsoleHost) -> None:
        self._host = host

    # -- the device -----------------------------------------------------------------------------

    def status(self) -> StatusAnswer:
        """Describe the device."""
        return self._host.status()

    async def watch(self, tell: Tell[StateEvent]) -> NoReturn:
        """Tell the state of the device, and every change of it, until the client disconnects."""
        await self._host.states.follow(tell)

    def clock(self, *, trust_system: bool = False) -> ClockAnswer:
        """Show the device's time; with `trust_system`, set it to the system's time first."""
        if trust_system:
            self._host.registry.trust_system_clock()
        clock = self._host.access.clock
        return {**clock_view(clock), "system": int(clock.wall())}

    def reset(self, *, keep_identity: bool = False) -> ResetAnswer:
        """Factory reset: forget every user, and the device's key unless `keep_identity`."""
        self._host.reset(keep_identity=keep_identity)
        return {"reset": True, "kept_identity": keep_identity}

    def new_identity(self, *, only_if: str | None = None) -> NewIdentityAnswer:
        """Give the device a new key, and keep its users; see `identity_change`.

        With `only_if`, do nothing unless this is the device's fingerprint.
        """
        return identity_change.new_identity(self._host, only_if=only_if)

    # -- remote reach ---------------------------------------------------------------------------

    def remote(self) -> RemoteAnswer:
        """Show whether, and how, the device can be reached from other networks."""
        return {"remote": self._host.remote.view()}

    async def remote_test(self, tell: Tell[SelfTestEvent]) -> SelfTestAnswer:
        """Try each server of remote reach, and tell each step."""
        settings = self._host.settings
        servers = remote_test.servers_of(settings, self._host.config_folder)
        return await remote_test.run(servers, settings.tunnel.services, tell)

    def remote_rotate(self) -> RotatedAnswer:
        """Invalidate the remote secrets of all clients."""
        return {"rotated": True, "generation": self._host.remote.rotate()}

    # -- pairing --------------------------------------------------------------------------------

    async def open(
        self,
        tell: Tell[WindowEvent],
        *,
        seconds: float | None = None,
        role: str | None = None,
        methods: tuple[str, ...] = (),
        wait: bool = False,
    ) -> OpenAnswer:
        """Open the pairing window; with `wait`, tell what happens until it closes."""
        pairing = self._host.pairing
        was_open = pairing.is_open
        await pairing.open(seconds=seconds, role=role, methods=methods)
        if wait:
            return await pairing.follow(tell, closes_at_end=not was_open)
        return {"window": pairing.window_view()}

    async def close(self) -> ClosedAnswer:
        """Close the pairing window, and refuse a client that is pairing."""
        return {"closed": self._host.pairing.close()}

    async def press(self, *, held: float = 0.0) -> WindowAnswer:
        """Do what the board's button does if it is held for `held` seconds (protocol §5.12)."""
        await self._host.pairing.press(held)
        return {"window": self._host.pairing.window_view()}

    async def pending(self) -> PendingAnswer:
        """Show the ceremony that waits for the device's user."""
        return {"pending": self._host.pairing.pending()}

    async def accept(self, *, id: str = "") -> CeremonyAnswer:  # noqa: A002  # its name on the socket
        """Accept the client with this ceremony ID or fingerprint."""
        return {"ceremony": self._host.pairing.decide(id, accept=True)}

    async def refuse(self, *, id: str = "") -> CeremonyAnswer:  # noqa: A002  # its name on the socket
        """Refuse the client with this ceremony ID or fingerprint."""
        return {"ceremony": self._host.pairing.decide(id, accept=False)}

    def label(self, *, replace: bool = False) -> LabelAnswer:
        """Create a label for the board; with `replace`, in place of the one there is."""
        host = self._host
        labels.require_label(host.settings.hardware)
        label, answer = labels.made(host.access, host.identity.fingerprint, replace=replace)
        host.use_label(label)
        return answer

    def label_revive(self) -> RevivedAnswer:
        """Unblock the code on the label."""
        label, answer = labels.revived(self._host.access, limits=self._host.settings.limits)
        self._host.use_label(label)
        return answer

    # -- users ----------------------------------------------------------------------------------

    def users_list(self) -> UsersAnswer:
        """List the users, by name."""
        store = self._host.access.store
        pages, seen = UserPages(store), store.seen
        return {"users": (user_view(user, seen) for user in pages.each())}

    def users_show(self, *, name: str) -> UserAnswer:
        """Show a user."""
        return {"user": self._user_view(self._host.access.store.state.user(name))}

    def users_add(self, *, body: UserRequest) -> UserAnswer:
        """Add a user, without pairing. If there is one with all that is given, change nothing."""
        user = body.user(self._host.access.clock.now())
        is_new = user.name not in self._host.access.store.state.users
        added = self._host.registry.add_user(None, user)
        return {"user": self._user_view(added), "created": is_new}

    def users_set(self, *, name: str, body: UserPatch) -> UserAnswer:
        """Change the fields of a user that are given."""
        return {"user": self._user_view(self._host.registry.set_user(None, name, body))}

    def users_remove(self, *, name: str) -> RemovedAnswer:
        """Remove a user with all keys."""
        return {"removed": self._host.registry.remove_user(None, name)}

    def users_add_key(self, *, name: str, fingerprint: str, key_name: str = "") -> UserAnswer:
        """Add a key to a user."""
        key = new_key_untrusted(fingerprint, key_name, self._host.access.clock.now())
        return {"user": self._user_view(self._host.registry.add_key(None, name, key))}

    def users_remove_key(self, *, name: str, fingerprint: str) -> UserAnswer:
        """Remove a key from a user."""
        known = fingerprint_untrusted(fingerprint)
        return {"user": self._user_view(self._host.registry.remove_key(None, name, known))}

    def _user_view(self, user: User) -> UserView:
        return user_view(user, self._host.access.store.seen)

    # -- invites --------------------------------------------------------------------------------

    def invite(self, *, body: InviteRequest) -> InviteAnswer:
        """Create an invite; only this answer has its token."""
        return {"invite": self._host.invitations.create(None, body)}

    def invites_list(self) -> InvitesAnswer:
        """List the invites that can be used, never with their tokens."""
        return {"invites": self._host.invitations.listed()}

    def invites_withdraw(self, *, id: str) -> WithdrawnAnswer:  # noqa: A002  # its name on the socket
        """Withdraw the invite whose ID begins like this."""
        invite = self._host.invitations.named(id)
        self._host.invitations.withdraw(None, invite.id)
        return {"withdrawn": invite.id}

    # -- policies -------------------------------------------------------------------------------

    def policy_list(self) -> PolicyList:
        """List the roles and policies in force."""
        return explaining.policy_list(self._host.authority.access)

    def policy_explain(
        self, *, user: str, action: str, attributes: Mapping[str, str] = _NO_ATTRIBUTES
    ) -> PolicyExplanation:
        """Explain why a user may or may not do something."""
        if not ACTION.fullmatch(action):
            raise AppError(
                f"{action[:QUOTED_ACTION_CHARACTERS]!r} is not an action",
                advice="Give MODULE:VERB, for example Hello:Get. `policy list` shows those in use.",
                code=ExitCode.USAGE,
            )
        return explaining.policy_explanation(self._host.authority, user, action, attributes)

    async def policy_reload(self) -> PolicyReloadAnswer:
        """Put the policy files into force."""
        return await self._host.reload_policies()

    # -- the store and the audit trail -------------------------------------------------------------

    async def events(
        self, tell: Tell[AuditEvent], *, since: int | None = None, last: int | None = None
    ) -> NoReturn:
        """Tell the events of the audit trail, and every new one, until the client disconnects."""
        await audit.follow(self._host.access.store, tell, since=since, last=last)

    def trail(self, *, since: int | None = None, last: int | None = None) -> EventsAnswer:
        """List the last events of the audit trail, for a user who cannot read its file."""
        return audit.listed(self._host.access.store.audit, since=since, last=last)

    def restore_show(self, *, file: str | None = None, name: str | None = None) -> RestoreAnswer:
        """Show what restoring a copy of the store would change; `name` is what to call `file`."""
        return restore.show(self._host.access, file, name=name, device=self._fingerprint())

    def restore(
        self, *, total: str, file: str | None = None, name: str | None = None
    ) -> RestoreAnswer:
        """Restore a copy that `restore_show` has shown; `total` is from its answer."""
        answer = restore.restore(
            self._host.access, file, total, name=name, device=self._fingerprint()
        )
        self._host.use_restored_store()
        return answer

    def _fingerprint(self) -> Fingerprint | None:
        """This device's fingerprint; a board that is being replaced has no key yet."""
        try:
            return self._host.identity.fingerprint
        except NoDevice:
            return None

    def restore_discard(self) -> DiscardAnswer:
        """Keep the users in force, and delete the copy that was set aside."""
        return {"discarded": restore.discard(self._host.access)}
