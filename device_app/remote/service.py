"""Remote reach of the running device: the agent, its clients, and the settings that they get.

    store, expiry, policies ─▶ Revocation ─▶ RemoteService.review ─▶ RemoteClients ─▶ agent: topics
    GET /remote ─▶ RemoteService.settings_for ─▶ pair secret of the key, brokers, relays

If a package, a password or the master key is missing, the device serves its other clients: `start`
logs it, and `view` and `problem` tell it.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from device_app.access.access_control import AccessControl
from device_app.limits import REMOTE_ABSENT_SECONDS
from device_app.remote import master_key
from device_app.remote.agent import Agent, MakeAgent
from device_app.remote.broker_events import BrokerEvents
from device_app.remote.clients import RemoteClients
from device_app.remote.master_key import MasterKey, RemoteTrouble, TroubleReason
from device_app.remote.off import SettingsSource
from device_app.remote.rotation import rotate
from device_app.remote.servers import RemoteServers
from device_app.remote.status_view import view_of
from device_app.remote.views import RemoteView, plain_view
from device_app.settings.remote import RemoteOptions
from peer.fingerprint import Fingerprint
from peer.remote.agent_needs import AgentNeeds
from peer.remote.limits import MAX_CHALLENGE_ADDRESSES
from peer.remote.messages import RefusalReason
from peer.remote.pair_keys import PairKeys
from peer.remote.settings import RemoteSettings, Server
from peer.terminal.reasons import broker_reason_in_words

if TYPE_CHECKING:  # they need packages of the extra `remote`
    from peer.net.server import CoapsServer
    from peer.remote.agent_view import AgentSettings

_log = logging.getLogger("handfast.remote")
_TEST: str = "`handfast-device remote test` says what to do."


@dataclass(slots=True)
class _Working:
    """The parts of remote reach, once nothing is missing."""

    servers: RemoteServers
    key: MasterKey
    agent: Agent
    clients: RemoteClients
    revisions: dict[Fingerprint, int] = field(default_factory=dict)

    def use(self, key: MasterKey) -> None:
        """Use another master key from now on."""
        self.key = key
        self.revisions.clear()
        self.clients.derive_again()


class RemoteService:
    """Remote reach of a running device with `[remote]` in its settings.

    Args:
        options: the settings.
        folder: the folder of the settings, to which the files of passwords are relative.
        key_file: the file of the remote master key.
        device: the fingerprint of this device.
        access: users, decisions and the audit trail.
        addresses: the addresses of this device, which clients try beside the path.
        make_agent: makes the agent.
        random_bytes: returns that many random bytes.
        now: returns monotonic seconds.
    """

    def __init__(
        self,
        options: RemoteOptions,
        *,
        folder: Path,
        key_file: Path,
        device: Fingerprint,
        access: AccessControl,
        addresses: Callable[[], Sequence[str]],
        make_agent: MakeAgent,
        random_bytes: Callable[[int], bytes],
        now: Callable[[], float],
    ) -> None:
        self._options = options
        self._folder = folder
        self._key_file = key_file
        self._device = device
        self._access = access
        self._addresses = addresses
        self._make_agent = make_agent
        self._random_bytes = random_bytes
        self._now = now
        self._loop = asyncio.get_running_loop()
        self._events = BrokerEvents(access.audit, now=now)
        self._working: _Working | None = None
        self._trouble: RemoteTrouble | None = None
        self._attached: set[str] = set()
        self._absent_since = now()

    @property
    def settings_source(self) -> SettingsSource:
        """Returns the body of GET /remote for a client key, or None if there is none now."""
        return self._encoded_settings_for

    async def start(self, server: "CoapsServer", /) -> None:
        """Listen at the brokers, for clients of the regular port.

        A missing part is logged, and nothing is raised.
        """
        try:
            working = self._prepared(server)
        except RemoteTrouble as error:
            self._trouble = error
            _log.error(
                "the device cannot be reached from other networks: %s. %s", error, error.advice
            )
            return
        self._working = working
        working.clients.review_all()
        await working.agent.apply(self._agent_settings(working.servers))

    async def close(self) -> None:
        """End all paths, and disconnect from the brokers."""
        working, self._working = self._working, None
        if working is not None:
            await working.agent.close()

    # -- the device ---------------------------------------------------------------------------

    def review(self, keys: Iterable[str]) -> None:
        """Follow a change of the rights of these keys, in this turn."""
        if self._working is not None:
            self._working.clients.review(keys)

    def review_all(self) -> None:
        """Follow a change of the rights of any key, in this turn."""
        if self._working is not None:
            self._working.clients.review_all()

    def settings_for(self, client: Fingerprint) -> RemoteSettings:
        """Return what a client needs to reach the device. Raises `RemoteTrouble`."""
        if self._working is None:
            raise self._trouble or _closed()
        return self._working.servers.settings_for(self._working.key.secret_of(client))

    def rotate(self) -> int:
        """Invalidate the secrets of all clients, and return the new generation.

        Paths that are open stay open: both keys were proved on them.

        Raises:
            RemoteTrouble: the file of the key cannot be read or written.
        """
        key = rotate(self._key_file, self._access)
        if self._working is not None:
            self._working.use(key)
        return key.generation

    def view(self) -> RemoteView:
        """Return the state, for `status`."""
        if self._working is None:
            trouble = self._trouble
            if trouble is None:
                return plain_view("stopped")
            return plain_view("trouble", why=trouble.reason, trouble=self.problem())
        return view_of(
            self._working.agent.view(),
            self._access.store.state,
            clients=len(self._working.clients),
            trouble=self.problem(),
        )

    def problem(self) -> str:
        """Return what `health` reports, with advice; empty if there is nothing.

        A short absence is none: connections break, and the agent connects again.
        """
        if self._trouble is not None:
            return (
                "the device cannot be reached from other networks: "
                f"{self._trouble}. {self._trouble.advice}"
            )
        if self._working is None or self._attached:
            return ""
        if self._now() - self._absent_since < REMOTE_ABSENT_SECONDS:
            return ""
        found = self._working.agent.view()
        why = f": {broker_reason_in_words(found.why)}" if found.why else ""
        return f"the device is not attached to the broker {found.broker}{why}. {_TEST}"

    # -- the agent ------------------------------------------------------------------------------

    def _prepared(self, server: "CoapsServer") -> _Working:
        """Read passwords and key, and make the agent. Raises `RemoteTrouble`."""
        servers = RemoteServers.load(self._options, self._folder)
        for warning in servers.warnings:
            _log.warning("%s", warning)
        random_bytes = self._random_bytes(master_key.KEY_BYTES)
        key = master_key.load_or_create(self._key_file, self._device, random_bytes)
        agent = self._make_agent(
            server,
            AgentNeeds(
                may_connect=self._refusal,
                revision=self._revision,
                addresses=lambda: self._addresses()[:MAX_CHALLENGE_ADDRESSES],
                on_attached=self._on_attached,
                on_detached=self._on_detached,
                on_failed=self._events.failed,
            ),
        )
        clients = RemoteClients(
            self._access.store,
            self._access.authority,
            self._access.clock,
            keys_of=self._pair_keys,
            on_change=agent.set_clients,
            on_lost=self._end_paths,
        )
        return _Working(servers, key, agent, clients)

    @staticmethod
    def _agent_settings(servers: RemoteServers) -> "AgentSettings":
        from peer.remote.agent_view import AgentSettings  # noqa: PLC0415 - only a working one needs it

        return AgentSettings(
            prefix=servers.prefix, brokers=servers.brokers, stun=servers.stun, turn=servers.turn
        )

    def _pair_keys(self, client: Fingerprint) -> PairKeys:
        assert self._working is not None
        return PairKeys(self._working.key.secret_of(client))

    def _encoded_settings_for(self, client: Fingerprint) -> bytes | None:
        try:
            return self.settings_for(client).encode()
        except RemoteTrouble:
            return None

    def _refusal(self, client: Fingerprint) -> RefusalReason | None:
        if self._working is None or not self._working.clients.may_connect_now(client.hex):
            return RefusalReason.DENIED
        return None

    def _revision(self, client: Fingerprint) -> int:
        """The revision of a client's settings. A client can ask often, so it is remembered."""
        assert self._working is not None
        revisions = self._working.revisions
        if client not in revisions:
            revisions[client] = self.settings_for(client).revision
        return revisions[client]

    def _end_paths(self, lost: Iterable[Fingerprint]) -> None:
        """End them from the next turn of the loop on, as `Revocation` does with sessions."""
        self._loop.call_soon(self._end_now, [*lost])

    def _end_now(self, lost: Iterable[Fingerprint]) -> None:
        if self._working is None:
            return
        for key in lost:
            self._working.revisions.pop(key, None)
            self._working.agent.end_client(key)

    def _on_attached(self, server: Server) -> None:
        self._attached.add(server.url)
        self._events.attached(server)

    def _on_detached(self, server: Server, why: str) -> None:
        self._attached.discard(server.url)
        if not self._attached:
            self._absent_since = self._now()
        self._events.detached(server, why)


def _closed() -> RemoteTrouble:
    return RemoteTrouble(
        "the device is ending", advice="Try again when it runs again.", reason=TroubleReason.STOPPED
    )
