"""The daemon: builds all rooms, wires them, and closes them in reverse. It alone knows them all.

Wiring in one picture:

    regular port ─▶ GuardedSite ─▶ Guard ─▶ Authority (iam, store) ─▶ resources
    pairing port ─▶ GuardedSite ─▶ LocalOnly ─▶ Pair ─▶ PairingService ─▶ Registry
    a change of the store ─▶ sessions of the keys concerned end, on both ports
    policy files, read again ─▶ Policies ─▶ sessions of the roles concerned end
    control socket ─▶ Verbs ─▶ the same AccessControl, PairingService and Policies
"""

import asyncio
import contextlib
import logging
import os
from contextlib import AsyncExitStack
from dataclasses import asdict
from typing import Any

from device_app import resource_spec
from device_app.access.access_control import AccessControl
from device_app.access.clock import SystemClocks, TimeKeeper
from device_app.access.expiry import Expiry
from device_app.access.guard import Guard
from device_app.access.invitations import Invitations
from device_app.access.policies import Policies, PolicySet
from device_app.access.reach import reachable
from device_app.config import Settings
from device_app.console.control_server import ControlServer
from device_app.console.status import (
    clock_view,
    counters_view,
    identity_view,
    package_version,
    session_view,
)
from device_app.console.store_recovery import note_recovery, store_view
from device_app.console.verbs import Verbs, ceremony_view, window_view
from device_app.errors import AppError, ConfigError
from device_app.pairing.events import PairingEvent, PairingEventKind, PairingEvents
from device_app.pairing.port import PairingPort, PortUser, port_limits
from device_app.pairing.service import PairingService
from device_app.paths import Paths
from device_app.resource_spec import Board, ResourceSpec
from device_app.resources import board, check, events, hello, iam, invites, redeem, wellknown
from device_app.resources.pair import LocalOnly, Pair
from device_app.resources.window import LATE, METHODS_OF, WindowResource
from iam.access import Access
from iam.errors import IamError
from iam.model import State, changed_keys
from iam.store import Store
from peer.errors import PeerError
from peer.identity import Identity
from peer.net.advertiser import Advertiser
from peer.net.coaps import CoapsServer
from peer.net.datagram import Net
from peer.net.onlink import Locality
from peer.net.site import GuardedSite
from peer.net.udp import UdpSocket

_log = logging.getLogger("handfast.app")


class App:
    """A running device. Made by `start`; `close` says goodbye to everybody."""

    identity: Identity
    access: AccessControl
    guard: Guard
    pairing: PairingService
    server: CoapsServer
    site: GuardedSite
    policies: Policies
    invitations: Invitations

    def __init__(self, paths: Paths, settings: Settings, *, clocks: SystemClocks, net: Net) -> None:
        self.paths = paths
        self.settings = settings
        self.limits = settings.limits
        self.clocks = clocks
        self._net = net
        self.stopped = asyncio.Event()
        #: Set by a factory reset: the caller of `stopped` starts a new App.
        self.begins_anew = False
        self._stack = AsyncExitStack()
        self._advertiser: Advertiser | None = None
        self._announcing: asyncio.Task[None] | None = None
        self._reloading: set[asyncio.Task[None]] = set()
        self._started = asyncio.get_running_loop().time()

    @classmethod
    async def start(
        cls,
        paths: Paths,
        settings: Settings,
        *,
        clocks: SystemClocks | None = None,
        board_seconds: float = board.UPDATE_SECONDS,
        net: Net = UdpSocket,
    ) -> "App":
        """Open everything, the store first. Raises `AppError`, `IamError` or `PeerError`."""
        app = cls(paths, settings, clocks=clocks or SystemClocks(), net=net)
        try:
            await app._build(board_seconds)
        except BaseException:
            await app.close()
            raise
        return app

    async def close(self) -> None:
        """close_notify, mDNS goodbye, control socket removed, store closed."""
        await self._stack.aclose()

    # -- building -------------------------------------------------------------------------------

    async def _build(self, board_seconds: float) -> None:
        _make_private(self.paths)
        store = Store.open(self.paths.store, keep_events=self.settings.iam_limits.events_kept)
        self._stack.callback(store.close)
        self.identity = Identity.load_or_create(self.paths.key)
        own = self._load_modules()
        app_actions = {action: role for one in own for action, role in one.roles().items()}
        policy_set = PolicySet.read(self.paths.policies, app_actions)
        self._check_roles(policy_set.access)
        control = self.access = AccessControl.create(
            store, policy_set.access, self.clocks, limits=self.settings.iam_limits
        )
        control.clock.log_trouble()
        note_recovery(control)
        self._stack.callback(TimeKeeper(control.writer.keep).close)
        self.guard = Guard(control)
        self.invitations = Invitations(
            store, control.clock, control.registry, self.identity, addresses=self._addresses
        )
        window = WindowResource(self.guard, limits=self.limits)
        locality = Locality(
            mode=self.settings.local,
            allow_loopback=self.settings.allow_loopback,
            interfaces=frozenset(self.settings.local_interfaces),
        )
        self.server = await CoapsServer.start(
            self._regular_site(own, window, board_seconds),
            identity=self.identity,
            listen=[(host, self.settings.port) for host in self.settings.listen],
            locality=locality,
            priority=self.guard.session_priority,
            limits=self.limits,
            ccm8=self.settings.ccm8,
            net=self._net,
        )
        self._stack.push_async_callback(self.server.close)
        self.pairing = window.service = self._build_service(locality)
        self._stack.push_async_callback(self.pairing.close)
        self._stack.callback(store.subscribe(self._end_changed))
        self._stack.callback(Expiry(store, control.clock, self._end_expired).stop)
        self.policies = Policies(
            self.paths.policies,
            control,
            policy_set,
            app_actions=app_actions,
            check=self._check_roles,
            on_change=self._end_roles,
        )
        self._stack.push_async_callback(self._finish_reloading)
        verbs = Verbs(
            self.pairing,
            control,
            self.invitations,
            status=self.status,
            reload=self.policies.reload,
            reset=self._begin_anew,
        )
        console = await ControlServer.start(self.paths.socket, verbs.table())
        self._stack.push_async_callback(console.close)
        await self._advertise()

    def reload_soon(self) -> None:
        """Put the policy files into force without waiting for it. What is wrong with them is told
        in the log, in `status` and in the trail."""
        task = asyncio.create_task(self._reload(), name="reload the policies")
        self._reloading.add(task)
        task.add_done_callback(self._reloading.discard)

    async def _reload(self) -> None:
        with contextlib.suppress(ConfigError):
            await self.policies.reload()

    async def _finish_reloading(self) -> None:
        await asyncio.gather(*self._reloading, return_exceptions=True)

    def _check_roles(self, access: Access) -> None:
        self.settings.require_role(access.roles)

    def _load_modules(self) -> list[ResourceSpec]:
        own = Board(
            name=self.name,
            device_id=self.identity.fingerprint.device_id,
            subject=lambda request: self.guard.subject(request),  # noqa: PLW0108  # made later
        )
        return resource_spec.load(self.settings.modules, self.paths.modules, own)

    def _regular_site(
        self, own: list[ResourceSpec], window: WindowResource, board_seconds: float
    ) -> GuardedSite:
        guard, control = self.guard, self.access
        site = self.site = GuardedSite(
            authorise=guard.authorise,
            limits=self.limits,
            body_bytes=lambda request: guard.body_bytes(request, self.limits),
        )
        greeting = hello.Hello(
            guard, device=self.name, device_id=self.identity.fingerprint.device_id
        )
        for path, resource, actions in (
            (wellknown.PATH, wellknown.WellKnownCore(guard, site.paths), wellknown.ACTIONS),
            (("hello",), greeting, hello.ACTIONS),
            (("iam", "me"), iam.Me(guard, control.authority, control.clock), iam.ME),
            (("iam", "check"), check.Check(guard, control.authority), check.ACTIONS),
            (("iam", "roles"), iam.Roles(control.authority), iam.ROLES),
            (("iam", "policies"), iam.Policies(control.authority), iam.POLICIES),
            (("events",), events.Events(control.store), events.ACTIONS),
            *((path, one, board.ACTIONS) for path, one in _readings(board_seconds)),
        ):
            site.add(path, resource)
            guard.rule(path, actions)
        for one in own:
            site.add(one.segments, one.resource)
            guard.rule(one.segments, one.actions, own=one.attributes)
        self._administration(site, window)
        return site

    def _administration(self, site: GuardedSite, window: WindowResource) -> None:
        """What changes users, invites and the window."""
        guard, limits = self.guard, self.limits
        users = iam.Users(guard, self.access, limits=limits)
        site.add(("iam", "users"), users, takes_rest=True)
        guard.rule(("iam", "users"), iam.USERS, late=("POST",))
        guard.rule(("iam", "users", None), iam.USER, targets=guard.user_targets)
        guard.rule(("iam", "users", None, "keys", None), iam.KEY, targets=guard.user_targets)
        made = invites.Invites(guard, self.access, self.invitations, limits=limits)
        site.add(("iam", "invites"), made, takes_rest=True)
        guard.rule(("iam", "invites"), invites.INVITES, late=("POST",))
        guard.rule(("iam", "invites", None), invites.INVITE, late=("DELETE",))
        redeeming = redeem.Redeem(
            self.invitations, self.access.audit, device=self.name, limits=limits
        )
        site.add(("iam", "redeem"), redeeming)
        # A repeat gets the first answer again, whatever the role that the invite gave.
        guard.rule(("iam", "redeem"), redeem.ACTIONS, as_unpaired=True)
        site.add(("iam", "window"), window)
        guard.rule(("iam", "window"), METHODS_OF, late=LATE)

    def _build_service(self, locality: Locality) -> PairingService:
        events = PairingEvents()
        near = LocalOnly(self.access.audit)
        limits = port_limits(self.limits)

        def create_port(service: PairingService, user: PortUser) -> PairingPort:
            site = GuardedSite(authorise=near.authorise, limits=limits)
            pair = Pair(service, near, device=self.name, port=self.server.port)
            site.add(("pair",), pair, takes_rest=True)
            return PairingPort(
                user,
                site,
                self.identity,
                events=events,
                listen=[(host, self.settings.pairing_port) for host in self.settings.listen],
                locality=locality,
                limits=limits,
                ccm8=self.settings.ccm8,
                net=self._net,
            )

        service = PairingService(
            self.access,
            self.identity.fingerprint,
            events=events,
            terms=self.settings.terms,
            hardware=self.settings.hardware,
            limits=self.limits,
            create_port=create_port,
        )
        events.subscribe(self._announce_window)
        return service

    async def _advertise(self) -> None:
        if not self.settings.advertise:
            return
        advertiser = Advertiser(
            name=self.name,
            device_id=self.identity.fingerprint.device_id,
            port=self.server.port,
            pairing_port=self._pairing_port(),
            interfaces=self.settings.interfaces,
        )
        try:
            await advertiser.start()
        except PeerError as error:
            # Whoever knows the address still finds us.
            _log.warning("not announced by mDNS: %s", error)
            return
        self._advertiser = advertiser
        self._stack.push_async_callback(advertiser.close)
        self._stack.push_async_callback(self._finish_announcing)

    # -- what happens while it runs -------------------------------------------------------------

    @property
    def name(self) -> str:
        """What people call this device."""
        return self.settings.name or "device"

    async def open_first_window(self, *, pair: bool) -> None:
        """At the start: `--pair` asks for a window, and a board that never had an owner opens
        one. One that has lost its owner opens none for another by itself.

        Paired clients are served also if it cannot be opened, as with a pairing port that is taken.
        """
        try:
            if not self.access.store.had_owner:
                await self.pairing.open(seconds=self.limits.first_boot_window_seconds)
            elif pair:
                await self.pairing.open()
        except (PeerError, IamError) as error:
            self.pairing.report_trouble(error)

    def _end_changed(self, old: State, new: State) -> None:
        """Rights have changed: the sessions that were made under the old ones end."""
        self._end_keys(changed_keys(old, new))

    def _end_expired(self, keys: frozenset[str]) -> None:
        self._end_keys(keys)
        self.pairing.review()

    def _end_roles(self, roles: frozenset[str]) -> None:
        """Roles have other rights: the sessions of those who have such a role end."""
        self.pairing.review()
        ended = self.server.end_sessions(
            lambda fingerprint: self.access.authority.subject(fingerprint.hex).role in roles
        )
        _log.info("the rights of %s have changed: ended %d sessions", ", ".join(roles), ended)

    def _end_keys(self, keys: frozenset[str]) -> None:
        """End all sessions of some keys in the next turn of the loop: who has changed his own
        rights still gets the answer."""
        if keys:
            asyncio.get_running_loop().call_soon(self._end_now, keys)

    def _end_now(self, keys: frozenset[str]) -> None:
        ended = self.server.end_sessions(lambda fingerprint: fingerprint.hex in keys)
        ended += self.pairing.port.end_sessions(lambda fingerprint: fingerprint.hex in keys)
        if ended:
            _log.info("rights have changed: ended %d sessions", ended)

    def _begin_anew(self, keep_identity: bool) -> None:
        """After a factory reset: a new identity means new sockets, so all is built again."""
        if not keep_identity:
            self.paths.key.unlink(missing_ok=True)
        self.begins_anew = True
        asyncio.get_running_loop().call_soon(self.stopped.set)

    def _announce_window(self, news: PairingEvent) -> None:
        if (
            news.kind not in {PairingEventKind.OPENED, PairingEventKind.CLOSED}
            or self._advertiser is None
        ):
            return
        before = self._announcing
        self._announcing = asyncio.create_task(self._announce(before), name="announce the window")

    async def _announce(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await before
        if self._advertiser is None:
            return
        try:
            await self._advertiser.set_pairing(
                open=self.pairing.is_open, pairing_port=self._pairing_port()
            )
        except Exception as error:  # whatever a network does: the window is open all the same
            _log.warning("the window could not be announced: %r", error)

    def _pairing_port(self) -> int:
        """The bound port, or the one that the next window will have; 0 if nobody knows."""
        return self.pairing.port.number or self.settings.pairing_port

    async def _finish_announcing(self) -> None:
        announcing, self._advertiser = self._announcing, None
        if announcing is not None:
            await announcing

    # -- describing itself ----------------------------------------------------------------------

    def _addresses(self) -> tuple[str, ...]:
        """Where others may find this device, for invites to tell."""
        bound = [(one.host, one.port) for one in self.server.addresses]
        return reachable(bound, self.settings.public)

    def status(self) -> dict[str, Any]:
        """The answer of `status --json`, without its schema."""
        service, server = self.pairing, self.server
        pending = service.ceremonies.pending()
        return {
            "running": True,
            "pid": os.getpid(),
            "version": package_version(),
            **identity_view(self.name, self.identity.fingerprint),
            "uptime_seconds": round(asyncio.get_running_loop().time() - self._started, 1),
            "port": server.port,
            "pairing_port": service.port.number or None,
            "addresses": [str(address) for address in server.addresses],
            "local": {
                "mode": self.settings.local.value,
                "allow_loopback": self.settings.allow_loopback,
            },
            "window": window_view(service),
            "pending": [ceremony_view(service, pending)] if pending else [],
            "failures": service.budget.failures,
            "board": asdict(service.methods.hardware),
            "label": {"made": service.methods.label.is_made, "dead": service.methods.is_code_dead},
            "users": self._users(),
            "sessions": self._sessions(),
            "counters": {
                "regular": counters_view(server),
                "pairing": counters_view(service.port.server),
            },
            "policy": self.policies.view(),
            "clock": clock_view(self.access.clock),
            "store": store_view(self.access),
        }

    def _users(self) -> list[dict[str, Any]]:
        users = self.access.store.state.users.values()
        return [
            {"name": user.name, "role": user.role, "keys": len(user.keys)}
            for user in sorted(users, key=lambda user: user.name)
        ]

    def _sessions(self) -> list[dict[str, Any]]:
        found = []
        for name, sessions in (
            ("regular", self.server.sessions()),
            ("pairing", self.pairing.port.sessions()),
        ):
            for session in sessions:
                user = self.access.store.state.user_of(session.fingerprint.hex)
                found.append(session_view(session, user.name if user else None, port=name))
        return found


def _readings(seconds: float) -> list[tuple[tuple[str, ...], board.Observed]]:
    return list(board.board_resources(seconds=seconds).items())


def _make_private(paths: Paths) -> None:
    """The state folder, 0700 from birth."""
    try:
        paths.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise AppError(
            f"the folder {paths.state} cannot be made: {error.strerror}",
            advice="Make it, or choose another with --home.",
        ) from error
