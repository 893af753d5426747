"""The asynchronous client: paired devices, sessions with them, and pairing with new devices.

    async with Client() as client:
        kitchen = await client.connect("kitchen")
        print((await kitchen.get("/hello")).text)

All errors are subclasses of `PeerError` (see `peer.errors`). A session requires the key that was
pinned at pairing: another key raises `PinMismatch` during the handshake, before any byte of a
request is sent.
"""

from __future__ import annotations  # zeroconf is imported when it is needed, not for its types

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from client_app.clock import wall_clock
from client_app.connector import Connector
from client_app.deadline import Deadline, waiting_for
from client_app.device import Device
from client_app.finder import Finder, Look, look_at_lan
from client_app.home import Home
from client_app.known_device import KnownDevice
from client_app.known_devices import DeviceBook
from client_app.limits import CONNECT_SECONDS, DISCOVERY_SECONDS
from client_app.remote_reach import OpenSession, RemoteReach
from client_app.remote_refresh import RemoteRefresh
from client_app.remote_settings import RemoteBook
from client_app.routes import parse_routes
from client_app.session import DeviceSession
from client_app.shared_ids import shared_id_notice
from peer.errors import UsageError
from peer.identity import Fingerprint, Identity
from peer.limits import DEFAULT_LIMITS, Limits
from peer.net.address import Address
from peer.net.connection import CoapsConnection
from peer.net.datagram import Net
from peer.net.udp import UdpSocket

if TYPE_CHECKING:
    from client_app.models import Paired
    from client_app.pairing.arguments import AskCode, AskName
    from client_app.pairing.ceremony import Confirm, OnDevice, OnNote, OnWait
    from peer.net.discovery import Advert

__all__ = ["Client"]

_log = logging.getLogger(__name__)


class Client:
    """A client identity and its paired devices. Use it in `async with`.

    Args:
        home: folder of the key and the list of devices; defaults to the environment variable
            `HANDFAST_HOME`, else the user's data folder.
        interfaces: interfaces, by name or own address, to which discovery is limited; defaults to
            the environment variable `HANDFAST_INTERFACES` (separated by commas), else all.
        limits: bounds and timeouts.
        look: source of announcements, in place of mDNS on the LAN.
        net: socket factory.
        via: the routes on which a paired device is reached, as a text such as "lan,address" or as a
            list; None for all: `lan`, `address`, `direct` and `relay` (see `client_app.routes`).
        open_path: opens sessions over paths, in place of a broker and ICE.

    Raises `UsageError` if `via` names no route, or one that does not exist.
    """

    def __init__(
        self,
        *,
        home: Path | str | None = None,
        interfaces: Sequence[str] | None = None,
        limits: Limits = DEFAULT_LIMITS,
        look: Look | None = None,
        net: Net = UdpSocket,
        via: str | Iterable[str] | None = None,
        open_path: OpenSession | None = None,
    ) -> None:
        self.home = Home.at(home)
        self.book = DeviceBook(self.home.devices)
        self.limits = limits
        self.finder = Finder(
            look or (lambda: look_at_lan(interfaces)), on_shared=self._warn_of_shared_id
        )
        self.remote = RemoteReach(
            RemoteBook(self.home.remote),
            lambda: self.identity.fingerprint,
            open_session=open_path,
        )
        self.connector = Connector(
            lambda: self.identity,
            self.book,
            self.finder,
            limits=limits,
            net=net,
            remote=self.remote,
            via=parse_routes(via),
        )
        self._refresh = RemoteRefresh(self.remote, self.connector.connect_where_seen)
        self._identity: Identity | None = None
        self._devices: dict[Fingerprint, Device] = {}
        self._turns: defaultdict[Fingerprint, asyncio.Lock] = defaultdict(asyncio.Lock)

    def __repr__(self) -> str:
        return f"<Client of {self.home.folder}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End all sessions, and what other tasks do with them. Safe to repeat."""
        try:
            await self._refresh.close()  # it uses their sessions
        finally:  # also if the caller does not want to wait for it
            for device in self._devices.values():
                await device.close()
            self._devices.clear()
            await self.connector.close()

    @property
    def identity(self) -> Identity:
        """This client's key pair; created on first use. Raises `IdentityError`."""
        if self._identity is None:
            self._identity = Identity.load_or_create(self.home.identity)
        return self._identity

    @property
    def devices(self) -> list[KnownDevice]:
        """The paired devices, sorted by alias. Raises `BookError`."""
        return self.book.all()

    def _warn_of_shared_id(self, device_id: str, addresses: tuple[str, ...]) -> None:
        known = (one.alias for one in self.devices if one.fingerprint.device_id == device_id)
        name = next(known, device_id)
        _log.warning("%s", shared_id_notice(name, addresses))

    # -- devices ----------------------------------------------------------------------------------

    async def discover(self, *, timeout: float = DISCOVERY_SECONDS) -> list[Advert]:
        """Search the LAN for `timeout` seconds; return the devices found, sorted by name.

        The result is what devices announce about themselves; none of it is authenticated.

        Raises:
            PeerError: this machine has no network, or multicast DNS does not work.
        """
        with waiting_for("searching for devices", seconds=timeout):
            return await self.finder.latest(timeout)

    def watch(self) -> AsyncIterator[Advert]:
        """Yield each device on the LAN, and again when it changes or leaves. Does not end.

        `is_present` is False for a device that leaves. Raises what `discover` raises.
        """
        return self.finder.watch()

    async def connect(self, alias: str, *, timeout: float | None = CONNECT_SECONDS) -> Device:
        """Connect to a paired device, or return its open session.

        The last address, the stored addresses and the addresses announced on the LAN are tried in
        parallel, and a little later a path that a broker sets up, if the device has given this
        client the settings for it. The first session with the pinned key is used.

        Args:
            alias: alias, device ID or fingerprint of a paired device.
            timeout: seconds for the whole call; None for no limit beyond those of the addresses.

        Raises:
            NotKnown: no paired device has that alias.
            Unreachable: no route led to a session.
            TimedOut: no address, or no device behind the broker, answered in time.
            Denied: the device does not permit this client a path.
            PinMismatch: a stored address or a path led to another key.
            ClientClosed: another task has closed this client meanwhile.
        """
        known = self.book.find(alias)
        connect = self.connector.opener(known)
        async with Deadline(timeout), self._turns[known.fingerprint]:
            device = self._devices.get(known.fingerprint)
            if device is None:
                session = DeviceSession(
                    known.alias,
                    await connect(),
                    connect,
                    limits=self.limits,
                    on_connection=lambda one: self._refresh.consider(one, known.fingerprint),
                )
                device = self._devices[known.fingerprint] = Device(known, session)
            return device

    async def connect_at(
        self, address: Address, *, pinned: Fingerprint, timeout: float | None = None
    ) -> CoapsConnection:
        """Open a session at one address, with the pinned key only; for diagnosis.

        `timeout` is in seconds and defaults to `Limits.connect_seconds`. Raises `Unreachable`,
        `HandshakeFailed`, `PinMismatch` or `TimedOut`.
        """
        return await self.connector.connect_at(address, pinned=pinned, timeout=timeout)

    # -- pairing ----------------------------------------------------------------------------------

    async def pair(
        self,
        target: str = "",
        *,
        name: AskName | str = "",
        role: str = "",
        alias: str = "",
        expect: Fingerprint | str | None = None,
        method: str = "",
        confirm: Confirm | None = None,
        code: AskCode | str = "",
        at: str = "",
        timeout: float | None = None,
        on_wait: OnWait = lambda _seconds: None,
        on_note: OnNote | None = None,
        on_device: OnDevice = lambda _device: None,
    ) -> Paired:
        """Pair with a device whose pairing window is open, and store it; or redeem an invite.

        The strongest method is used that the device offers and for which this side has what it
        needs (`code`, `confirm`, `expect`, or a label as `target`). If an error is raised, nothing
        is stored.

        Args:
            target: name, device ID or address of the pairing port; the text of a label; or an
                invite, which is passed to `redeem`. Empty: the only device on the LAN that is open
                for pairing.
            name: the user name to request, or a coroutine function that asks for it, which is
                called once the device was found; defaults to a name derived from this client's key.
            role: the role to request; defaults to that of the pairing window.
            alias: alias of the device on this client; defaults to one derived from its name.
            expect: fingerprint that the device must have; replaces a comparison by the user.
            method: the only method to use: label, code, sas, compare or button.
            confirm: asks this side's user whether the device shows the same number or fingerprints.
            code: the code of the device, or a coroutine function that asks for it.
            at: address of the device, if `target` is a label.
            timeout: seconds for the whole call, with the answers of both users; None for no limit
                beyond those of the steps.
            on_wait: called with the seconds left while only the user at the device is waited for.
            on_note: called with warnings, which are logged by default.
            on_device: called with the device that was found, before anything is asked.

        Raises:
            UsageError: an argument is not valid, or no method can be used.
            WindowClosed: the pairing window is closed.
            Declined: this side's user answered no.
            RefusedByUser: the user at the device declined.
            NotLocal: the device requires a client on the same link.
            WrongCode: the code or a confirmation is wrong, or the device is locked.
            PinMismatch: the device has another key than `expect` or the label.
            TimedOut, Unreachable: the device cannot be reached, or does not answer in time.
            BookError, IdentityError: the files of this client cannot be used.
        """
        # Only here: a client is paired once, and makes requests ever after.
        from client_app.pairing import arguments  # noqa: PLC0415
        from client_app.pairing.method_choice import MethodInputs  # noqa: PLC0415
        from client_app.pairing.pair_with import pair_with  # noqa: PLC0415
        from client_app.pairing.targets import check_target  # noqa: PLC0415

        pinned = Fingerprint.parse(expect) if isinstance(expect, str) else expect
        if arguments.is_invite(target):
            if isinstance(name, str) and (name or role):
                raise UsageError(
                    "an invite already contains the user name and the role",
                    advice="Leave out the name and the role.",
                )
            return await self.redeem(target, alias=alias, expect=pinned, timeout=timeout)
        label = arguments.parse_label(target)
        if label is not None:
            pinned, target = arguments.expected_key(label.device, pinned), at
        check_target(target)
        inputs = MethodInputs(
            method=method,
            confirm=confirm if pinned is None else None,
            ask_code=arguments.code_source(code),
            label=label,
            is_key_expected=pinned is not None,
        )
        arguments.check_names(name if isinstance(name, str) else "", alias)
        await asyncio.to_thread(self.book.check_writable)
        async with Deadline(timeout):
            paired = await pair_with(
                target,
                connector=self.connector,
                book=self.book,
                own=self.identity.fingerprint,
                limits=self.limits,
                expect=pinned,
                name=arguments.name_source(name),
                role=role,
                alias=alias,
                inputs=inputs,
                on_wait=on_wait,
                on_note=on_note or _log.warning,
                on_device=on_device,
            )
        self._refresh.begin(paired.device)
        return paired

    async def redeem(
        self,
        invite: str,
        *,
        alias: str = "",
        expect: Fingerprint | None = None,
        timeout: float | None = None,
        on_note: OnNote | None = None,
    ) -> Paired:
        """Redeem an invite (`HANDFAST:I:…`): become the user that it names, and store the device.

        The fingerprint in the invite is pinned, so the invite is sent to no other device. Safe to
        repeat. If an error is raised, nothing is stored.

        Args:
            invite: the text of the invite.
            alias: alias of the device on this client; defaults to one derived from its name.
            expect: fingerprint that the invite must contain.
            timeout: seconds for the whole call; None for no limit beyond those of the steps.
            on_note: called with warnings, which are logged by default.

        Raises:
            UsageError: the text is not an invite, or it is bound to another client's key.
            PinMismatch: another device answered (the invite was not sent), or the invite does not
                contain `expect`.
            WrongCode: the invite is expired, used up or withdrawn.
            Denied: the device's policy denies it.
            TimedOut, Unreachable: the device cannot be reached, or does not answer in time.
            BookError, IdentityError: the files of this client cannot be used.
        """
        from client_app.pairing import arguments  # noqa: PLC0415 - as in `pair`
        from client_app.pairing.redemption import ReceivedInvite, Redemption  # noqa: PLC0415

        received = ReceivedInvite.parse(invite)
        device = arguments.expected_key(received.token.device, expect)
        arguments.check_names("", alias)
        received.check_holder(self.identity.fingerprint)
        received.note_age(wall_clock(), on_note or _log.warning)
        await asyncio.to_thread(self.book.check_writable)
        redemption = Redemption(
            received,
            book=self.book,
            limits=self.limits,
            connect=lambda: self.connector.connect_invited(device, received.host_ports),
            on_note=on_note,
        )
        async with Deadline(timeout):
            with waiting_for("waiting for the device that the invite names"):
                paired = await redemption.run(alias=alias)
        self._refresh.begin(paired.device)
        return paired
