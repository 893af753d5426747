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
from contextlib import AsyncExitStack
from dataclasses import dataclass

from device_app import collector
from device_app.access.access_control import AccessControl
from device_app.access.clock import SystemClocks, TimeKeeper
from device_app.access.expiry import Expiry
from device_app.access.guard import Guard
from device_app.access.invitations import Invitations
from device_app.access.policies import Policies, PolicySet
from device_app.access.reach import BoundAddresses
from device_app.access.revocation import Revocation
from device_app.console.console import Console
from device_app.console.control_server import ControlServer
from device_app.console.daemon_host import DaemonHost, handlers_of
from device_app.console.device_status import DeviceStatus
from device_app.console.identity_change import end_replaced_key
from device_app.console.running import RESTARTING
from device_app.console.store_recovery import note_recovery
from device_app.console.views import StatusAnswer
from device_app.errors import AppError
from device_app.limits import BOARD_UPDATE_SECONDS
from device_app.modules import loading
from device_app.modules.handlers import Application
from device_app.pairing.announcer import Announcer
from device_app.pairing.events import PairingEvents
from device_app.pairing.port import PairingPort, PortUser, port_limits
from device_app.pairing.service import PairingService
from device_app.reloader import Reloader
from device_app.resource_spec import Board
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

_log = logging.getLogger("handfast.store")


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
        board_seconds: float = BOARD_UPDATE_SECONDS,
        net: Net = UdpSocket,
    ) -> "App":
        """Open the store, the ports and the control socket, and announce the device.

        Args:
            paths: the folders of the daemon.
            settings: the configuration.
            clocks: the clocks of the system.
            board_seconds: between two readings of an observed board.
            net: the network.

        Raises:
            AppError: the folders, the modules, the policies or the control socket.
            IamError: the store.
            PeerError: the key, or an address that cannot be bound.
        """
        async with AsyncExitStack() as stack:
            _make_private(paths)
            store = _open_store(paths, settings)
            stack.callback(store.close)
            identity = Identity.load_or_create(paths.key)
            # The policies can name the actions of modules, whose resources ask the guard: so the
            # built-in policies come first, and those of the files are adopted below.
            access = AccessControl.create(
                store, Access(), clocks or SystemClocks(), limits=settings.iam_limits
            )
            guard = Guard(access)
            loaded = loading.load(
                settings.modules,
                paths.modules,
                Board(settings.display_name, identity.fingerprint.device_id, guard.subject),
            )
            loading.log_warnings(loaded)
            app_actions = loading.actions_of(loaded)
            policy_set = PolicySet.read(paths.policies, app_actions)
            settings.require_role(policy_set.access.roles)
            access.authority.adopt(policy_set.access)
            access.clock.log_trouble()
            for warning in note_recovery(access):
                _log.error("%s", warning)
            end_replaced_key(access, identity.fingerprint)
            stack.callback(TimeKeeper(access.writer.keep).close)

            addresses = BoundAddresses(settings.public)
            invitations = Invitations(access, identity, addresses=addresses.reachable)
            pairing = _create_pairing(settings, identity, access, addresses, net)
            stack.push_async_callback(pairing.close)
            site = regular_site(
                guard,
                access,
                invitations,
                pairing,
                [Application(one.spec, module=one.module, file=one.file) for one in loaded],
                name=settings.display_name,
                limits=settings.limits,
                board_seconds=board_seconds,
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
            stack.push_async_callback(server.close)
            addresses.set(server.addresses)
            revocation = Revocation(
                access.authority,
                regular=server,
                pairing=pairing.port,
                review_window=pairing.review,
            )
            stack.callback(store.subscribe(revocation.on_change))
            stack.callback(Expiry(store, access.clock, revocation.on_expiry).close)
            policies = Policies(
                paths.policies,
                access,
                policy_set,
                app_actions=app_actions,
                check=lambda found: settings.require_role(found.roles),
                on_change=revocation.on_new_policies,
            )
            reloader = Reloader(paths, settings, access.authority, policies)
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
                name=settings.display_name,
            )
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
                reload_policies=reloader.reload,
                key_file=paths.key,
                restart=restart,
            )
            control_server = await ControlServer.start(paths.socket, handlers_of(Console(host)))
            # A command with other folders of its own finds the socket there (`console.running`).
            store.leave_note(os.fsencode(paths.socket.absolute()))
            stack.callback(lambda: store.leave_note(RESTARTING if was_reset.is_set() else b""))
            stack.push_async_callback(control_server.close)
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


def _make_private(paths: Paths) -> None:
    try:
        paths.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise AppError(
            f"the folder {paths.state} cannot be created: {error.strerror}",
            advice="Create it, or choose another with --home.",
        ) from error


def _open_store(paths: Paths, settings: Settings) -> Store:
    with collector.paused():
        return Store.open(paths.store, keep_events=settings.iam_limits.events_kept)


def _locality(settings: Settings) -> Locality:
    return Locality(
        mode=settings.local,
        allow_loopback=settings.allow_loopback,
        interfaces=frozenset(settings.local_interfaces),
    )


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
