"""The running device: builds all rooms, and closes them in reverse order.

    regular port ─▶ GuardedSite ─▶ Guard ─▶ Authority (iam, store) ─▶ resources
    pairing port ─▶ GuardedSite ─▶ LocalOnly ─▶ Pair ─▶ PairingService ─▶ Registry
    a change of the store, expiry, new policies ─▶ Revocation ─▶ sessions end on both ports
    control socket ─▶ Console ─▶ the same AccessControl, PairingService and Policies

Every object gets what it needs from its constructor. Where two need each other, the first gets an
object that the second fills or calls later: `PairingEvents`, `BoundAddresses`, an `asyncio.Event`.
"""

import asyncio
import logging
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from device_app.access.access_control import AccessControl
from device_app.access.clock import SystemClocks, TimeKeeper
from device_app.access.expiry import Expiry
from device_app.access.guard import Guard
from device_app.access.invitations import Invitations
from device_app.access.policies import Policies, PolicySet
from device_app.access.reach import BoundAddresses
from device_app.access.revocation import Revocation
from device_app.access.store_loading import load_seconds
from device_app.access.systemd_journal import SystemdJournal
from device_app.console.console import Console
from device_app.console.control_server import ControlServer
from device_app.console.daemon_host import DaemonHost, handlers_of
from device_app.console.device_status import DeviceStatus
from device_app.console.identity_change import end_replaced_key
from device_app.console.reloader import Reloader
from device_app.console.running import RESTARTING
from device_app.console.state_tracker import StateTracker
from device_app.console.store_recovery import report_recovery
from device_app.console.views import StatusAnswer
from device_app.modules import loading
from device_app.modules.handlers import Application
from device_app.pairing.announcer import Announcer
from device_app.pairing.events import PairingEvents
from device_app.pairing.port import PairingPort, PortUser, port_limits
from device_app.pairing.service import PairingService
from device_app.process import collector
from device_app.process.notify import NO_MANAGER, ServiceManager
from device_app.remote.agent_factory import create_agent
from device_app.remote.off import NoRemoteReach, RemoteReach
from device_app.resources.sites import pairing_site, regular_site
from device_app.settings.config import Settings
from device_app.settings.paths import Paths
from iam.access import Access
from iam.errors import IamError
from iam.store import Store
from peer.errors import PeerError
from peer.identity import Identity
from peer.net.datagram import Net
from peer.net.onlink import Locality
from peer.net.server import CoapsServer
from peer.net.site import GuardedSite
from peer.net.udp import UdpSocket

if TYPE_CHECKING:
    from device_app.remote.agent import MakeAgent

_tunnel_log = logging.getLogger("handfast.tunnels")


@dataclass(kw_only=True, eq=False)
class App:
    """A running device. Create it with `start`, and end it with `close`.

    `was_reset` is set by a factory reset: close this device and start another one.
    """

    paths: Paths
    settings: Settings
    identity: Identity
    access: AccessControl
    guard: Guard
    invitations: Invitations
    pairing: PairingService
    site: GuardedSite
    server: CoapsServer
    policies: Policies
    device_status: DeviceStatus
    states: StateTracker
    was_reset: asyncio.Event
    stack: AsyncExitStack
    reloader: Reloader

    @classmethod
    async def start(
        cls,
        paths: Paths,
        settings: Settings,
        *,
        clocks: SystemClocks | None = None,
        board_seconds: float | None = None,
        net: Net = UdpSocket,
        manager: ServiceManager = NO_MANAGER,
        systemd_journal: Path | None = None,
        make_agent: "MakeAgent" = create_agent,
    ) -> "App":
        """Open the store, the ports and the control socket, and announce the device.

        Args:
            paths: the folders of the daemon.
            settings: the configuration.
            clocks: the clocks of the system.
            board_seconds: between two readings of an observed board, if it is not the default.
            net: the network.
            manager: the service manager, which is told of each step that may take long.
            systemd_journal: the socket of systemd's journal, if it gets the events of the device.
            make_agent: makes the agent of remote reach, if the settings have a broker.

        Raises:
            AppError: the folders, the modules, the policies or the control socket.
            IamError: the store.
            PeerError: the key, or an address that cannot be bound.
        """
        async with AsyncExitStack() as stack:
            paths.create_state()
            manager.starting("loading the store", seconds=load_seconds(paths.store))
            store = _open_store(paths, settings, stack, systemd_journal)
            identity = Identity.load_or_create(paths.key)
            # The policies can name the actions of modules, whose resources ask the guard: so the
            # built-in policies come first, and those of the files are adopted below.
            access = AccessControl.create(
                store, Access(), clocks or SystemClocks(), limits=settings.iam_limits
            )
            guard = Guard(access)
            manager.starting("loading the modules")
            loaded = _load_modules(paths, settings, identity, guard)
            app_actions = loading.actions_of(loaded)
            manager.starting("reading the policies")
            policy_set = _read_policies(paths, settings, access, app_actions)
            _review_store(access, identity)
            stack.callback(TimeKeeper(access.writer.keep).close)

            manager.starting("opening the ports")
            addresses = BoundAddresses(settings.public)
            invitations = Invitations(access, identity, addresses=addresses.reachable)
            pairing = _create_pairing(settings, identity, access, addresses, net)
            stack.push_async_callback(pairing.close)
            remote = _create_remote(paths, settings, identity, access, addresses, make_agent)
            site = regular_site(
                guard,
                access,
                invitations,
                pairing,
                [Application(one.spec, module=one.module, file=one.file) for one in loaded],
                name=settings.display_name,
                limits=settings.limits,
                board_seconds=board_seconds,
                remote_settings=remote.settings_source,
            )
            server = await CoapsServer.start(
                site,
                identity=identity,
                listen=[(host, settings.port) for host in settings.listen],
                locality=_locality(settings),
                priority=guard.session_priority,
                limits=settings.limits,
                ccm8=settings.ccm8,
                net=net,
            )
            _add_tunnels(settings, identity, guard, site, stack, server)
            addresses.set(server.addresses)
            revocation = _follow_changes(access, server, pairing, remote, stack)
            policies = Policies(
                paths.policies,
                access,
                policy_set,
                app_actions=app_actions,
                check=lambda found: settings.require_role(found.roles),
                on_change=revocation.on_new_policies,
            )
            reloader = Reloader(paths, settings, access.authority, policies, manager)
            stack.push_async_callback(reloader.close)
            announcer = Announcer(
                pairing,
                name=settings.display_name,
                port=server.port,
                pairing_port=settings.pairing_port,
                interfaces=settings.interfaces,
                audit=access.audit,
            )
            stack.push_async_callback(announcer.close)
            device_status = DeviceStatus(
                settings,
                access,
                pairing,
                server,
                policies,
                announcer,
                remote=remote,
                name=settings.display_name,
            )
            states = StateTracker(pairing, store, access.clock, problems=device_status.problems)
            stack.callback(states.close)
            was_reset = asyncio.Event()

            def restart(keep_identity: bool) -> None:
                """End this device once the console has its answer; take no further command."""
                store.leave_note(RESTARTING)
                control_server.stop_listening()
                if not keep_identity:
                    paths.key.unlink(missing_ok=True)
                asyncio.get_running_loop().call_soon(was_reset.set)

            host = DaemonHost(
                access,
                invitations,
                pairing,
                identity,
                settings,
                status=device_status.view,
                states=states,
                reload_policies=reloader.reload,
                remote=remote,
                key_file=paths.key,
                remote_key_file=paths.remote_key,
                config_folder=paths.config,
                restart=restart,
            )
            control_server = await ControlServer.start(paths.socket, handlers_of(Console(host)))
            # A command with other folders of its own finds the socket there (`console.running`).
            store.leave_note(os.fsencode(paths.socket.absolute()))
            stack.callback(lambda: store.leave_note(RESTARTING if was_reset.is_set() else b""))
            stack.push_async_callback(control_server.close)
            await remote.start(server)
            if settings.advertise:
                await announcer.start()
            return cls(
                paths=paths,
                settings=settings,
                identity=identity,
                access=access,
                guard=guard,
                invitations=invitations,
                pairing=pairing,
                site=site,
                server=server,
                policies=policies,
                device_status=device_status,
                states=states,
                was_reset=was_reset,
                stack=stack.pop_all(),
                reloader=reloader,
            )

    async def close(self) -> None:
        """Stop announcing, end all sessions, and close the control socket and the store."""
        await self.stack.aclose()

    def status(self) -> StatusAnswer:
        """Return what `status --json` shows, without its schema."""
        return self.device_status.view()

    async def open_first_window(self, *, pair: bool) -> None:
        """Open a window at the start of a device that never had an owner, or if `pair` asks for it.

        If it cannot be opened, because the port is in use for example, the regular port still
        serves paired clients; `status` and `health` show the reason.
        """
        try:
            if not self.access.store.had_owner:
                await self.pairing.open(seconds=self.settings.limits.first_boot_window_seconds)
            elif pair:
                await self.pairing.open()
        except (PeerError, IamError) as error:
            self.pairing.report_trouble(error)


def _open_store(
    paths: Paths, settings: Settings, stack: AsyncExitStack, systemd_journal: Path | None
) -> Store:
    """Open the store, which the stack closes; the journal gets its events from now on."""
    with collector.paused():
        store = Store.open(paths.store, keep_events=settings.iam_limits.events_kept)
    stack.callback(store.close)
    if systemd_journal is not None:
        copy = SystemdJournal(store.audit, systemd_journal)
        stack.callback(store.on_events(copy.send_until))
    return store


def _load_modules(
    paths: Paths, settings: Settings, identity: Identity, guard: Guard
) -> list[loading.Loaded]:
    board = loading.board_of(settings.display_name, identity.fingerprint.device_id, guard.subject)
    loaded = loading.load(settings.modules, paths.modules, board)
    loading.log_warnings(loaded)
    return loaded


def _read_policies(
    paths: Paths, settings: Settings, access: AccessControl, app_actions: Mapping[str, str]
) -> PolicySet:
    """Read the policies and put them into force."""
    found = PolicySet.read(paths.policies, app_actions)
    settings.require_role(found.access.roles)
    access.authority.adopt(found.access)
    return found


def _review_store(access: AccessControl, identity: Identity) -> None:
    report_recovery(access)
    end_replaced_key(access, identity.fingerprint)


def _locality(settings: Settings) -> Locality:
    return Locality(
        mode=settings.local,
        allow_loopback=settings.allow_loopback,
        interfaces=frozenset(settings.local_interfaces),
    )


def _create_remote(
    paths: Paths,
    settings: Settings,
    identity: Identity,
    access: AccessControl,
    addresses: BoundAddresses,
    make_agent: "MakeAgent",
) -> RemoteReach:
    """Return remote reach, not yet started."""
    if not settings.remote.is_on:
        return NoRemoteReach(paths.remote_key, access)
    from device_app.remote.service import RemoteService  # noqa: PLC0415 - off for most devices

    return RemoteService(
        settings.remote,
        folder=paths.config,
        key_file=paths.remote_key,
        device=identity.fingerprint,
        access=access,
        addresses=addresses.reachable,
        make_agent=make_agent,
        random_bytes=os.urandom,
        now=asyncio.get_running_loop().time,
    )


def _follow_changes(
    access: AccessControl,
    server: CoapsServer,
    pairing: PairingService,
    remote: RemoteReach,
    stack: AsyncExitStack,
) -> Revocation:
    """Let sessions and remote clients follow each change of users, and each begin and end.

    The paths of remote clients end before their server.
    """
    stack.push_async_callback(remote.close)
    revocation = Revocation(
        access.authority,
        regular=server,
        pairing=pairing.port,
        review_window=pairing.review,
        remote=remote,
    )
    stack.callback(access.store.subscribe(revocation.on_change))
    expiry = Expiry(access.store, access.clock, revocation.on_expiry, on_begin=revocation.on_begin)
    stack.callback(expiry.close)
    return revocation


def _add_tunnels(
    settings: Settings,
    identity: Identity,
    guard: Guard,
    site: GuardedSite,
    stack: AsyncExitStack,
    server: CoapsServer,
) -> None:
    """Serve `/tunnels` if the settings name services and the extra `tunnel` is installed.

    The stack closes the server after the tunnels.
    """
    stack.push_async_callback(server.close)
    if not settings.tunnel.services:
        return
    if trouble := settings.tunnel.trouble:
        _tunnel_log.error("%s", trouble)
        return
    # Few devices have services, and QUIC is slow to import.
    from device_app.resources.tunnels import add_tunnels  # noqa: PLC0415

    tunnels = add_tunnels(
        site,
        guard,
        identity,
        settings.tunnel.services,
        limits=settings.limits,
        counters=server.counters,
    )
    stack.callback(tunnels.close)


def _create_pairing(
    settings: Settings,
    identity: Identity,
    access: AccessControl,
    addresses: BoundAddresses,
    net: Net,
) -> PairingService:
    events, limits = PairingEvents(), port_limits(settings.limits)

    def create_port(service: PairingService, user: PortUser) -> PairingPort:
        site = pairing_site(
            service,
            access.audit,
            name=settings.display_name,
            regular_port=lambda: addresses.port,
            limits=limits,
        )
        return PairingPort(
            user,
            site,
            identity,
            events=events,
            listen=[(host, settings.pairing_port) for host in settings.listen],
            locality=_locality(settings),
            limits=limits,
            ccm8=settings.ccm8,
            net=net,
        )

    return PairingService(
        access,
        identity.fingerprint,
        events=events,
        terms=settings.terms,
        hardware=settings.hardware,
        limits=settings.limits,
        create_port=create_port,
    )
