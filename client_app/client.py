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
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from client_app.clock import wall_clock
from client_app.connection_attempts import Attempt as TryAt
from client_app.connection_attempts import Candidate, Race
from client_app.device import Device
from client_app.errors import BookError
from client_app.finder import LOOK_SECONDS, Finder, Look, candidates
from client_app.home import Home
from client_app.host_port import Place
from client_app.known_devices import DeviceBook, check_alias
from client_app.models import KnownDevice, Paired
from client_app.pairing import targets
from client_app.pairing.attempt import Attempt
from client_app.pairing.ceremony import Comparison, Confirm, OnWait
from client_app.pairing.method_choice import AskCode, Means, is_invite, scanned
from client_app.pairing.redemption import Given, OnNote, Redemption
from client_app.pairing.targets import Target
from peer.errors import (
    Malformed,
    PinMismatch,
    Unreachable,
    UsageError,
)
from peer.identity import Fingerprint, Identity
from peer.limits import DEFAULT_LIMITS, Limits
from peer.net.address import Address, resolve
from peer.net.client import CoapsClient
from peer.net.connection import CoapsConnection
from peer.net.datagram import Net
from peer.net.udp import UdpSocket
from peer.pairing.names import check_name

if TYPE_CHECKING:
    from peer.net.discovery import Advert

__all__ = ["Client", "Comparison", "Paired"]

LOOK_DELAY_SECONDS: Final = 0.3
"""Delay of the search on the LAN, so that a device at its last address needs none."""

CONNECT_SECONDS: Final = 15.0
"""Time limit for a connection to one address, including the handshakes started in parallel."""

INTERFACES: Final = "HANDFAST_INTERFACES"

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
    """

    def __init__(
        self,
        *,
        home: Path | str | None = None,
        interfaces: Sequence[str] | None = None,
        limits: Limits = DEFAULT_LIMITS,
        look: Look | None = None,
        net: Net = UdpSocket,
    ) -> None:
        self.home = Home.at(home)
        self.book = DeviceBook(self.home.devices)
        self._limits = limits
        self._net = net
        named = interfaces or [n for n in os.environ.get(INTERFACES, "").split(",") if n]
        self.finder = Finder(look or (lambda: _lan(named)))
        self._identity: Identity | None = None
        self._coaps: CoapsClient | None = None
        self._devices: dict[Fingerprint, Device] = {}
        self._turns: defaultdict[Fingerprint, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End all sessions. Safe to repeat."""
        self._devices.clear()
        coaps, self._coaps = self._coaps, None
        if coaps is not None:
            await coaps.close()

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

    # -- finding ----------------------------------------------------------------------------------

    async def discover(self, *, timeout: float = LOOK_SECONDS) -> list[Advert]:
        """Search the LAN for `timeout` seconds; return the devices found, sorted by name.

        The result is what devices announce about themselves; none of it is authenticated.

        Raises:
            PeerError: this machine has no network, or multicast DNS does not work.
        """
        return await self.finder.latest(timeout)

    def watch(self) -> AsyncIterator[Advert]:
        """Yield each device on the LAN, and again when it changes or leaves. Does not end.

        `is_present` is False for a device that leaves.

        Raises:
            PeerError: this machine has no network, or multicast DNS does not work.
        """
        return self.finder.watch()

    async def connect(self, alias: str) -> Device:
        """Connect to a paired device, or return its open session.

        The last address, the stored addresses and the addresses announced on the LAN are tried in
        parallel; the first session with the pinned key is used. The address is stored.

        Args:
            alias: alias, device ID or fingerprint of a paired device.

        Raises:
            NotKnown: no paired device has that alias.
            Unreachable: no address accepted a session.
            TimedOut: no address answered in time.
            PinMismatch: a stored address answered with another key.
        """
        known = self.book.find(alias)
        async with self._turns[known.fingerprint]:
            device = self._devices.get(known.fingerprint)
            if device is None:
                connection = await self._reach(known)
                device = Device(known, connection, reconnect=lambda: self._reach(known))
                self._devices[known.fingerprint] = device
            return device

    async def connect_at(
        self, address: Address, *, pinned: Fingerprint, timeout: float = CONNECT_SECONDS
    ) -> CoapsConnection:
        """Open a session at one address, with the pinned key only; for diagnosis.

        `timeout` is in seconds. Raises `Unreachable`, `HandshakeFailed`, `PinMismatch` or
        `TimedOut`.
        """
        return await self._transport().connect(address, pinned=pinned, timeout=timeout)

    def places(self, known: KnownDevice) -> list[Place]:
        """The stored addresses of a device: the last one, then those of `handfast address`."""
        texts = dict.fromkeys(filter(None, (known.last_seen, *known.addresses)))
        found = [Place.parse(text) for text in texts]
        return [replace(place, port=place.port or known.port) for place in found]

    async def _reach(self, known: KnownDevice) -> CoapsConnection:
        latest = self.book.by_fingerprint(known.fingerprint) or known
        sources = [_resolved(place) for place in self.places(latest)]
        delay = LOOK_DELAY_SECONDS if sources else 0.0
        sources.append(self.finder.regular(latest.fingerprint.device_id, delay=delay))
        race = self._race(lambda address: self.connect_at(address, pinned=latest.fingerprint))
        try:
            connection = await race.run(sources)
        except PinMismatch as error:
            error.advice += f" To remove the device, run `handfast forget {known.alias}`."
            raise
        except Unreachable as error:
            raise type(error)(
                f"cannot reach {known.alias}: {error}",
                advice=error.advice or f"Run `handfast doctor {known.alias}` to find the cause.",
                refused=error.refused,
            ) from error
        await self._remember(latest, connection.peer.address)
        return connection

    def _race(self, attempt: TryAt) -> Race:
        return Race(attempt, limits=self._limits)

    async def _remember(self, known: KnownDevice, address: Address) -> None:
        """Store the address at which a device answered. A failure is only logged."""
        where = str(Place.of(address))
        if where == known.last_seen:
            return
        try:
            await asyncio.to_thread(
                self.book.update, known.fingerprint, lambda one: replace(one, last_seen=where)
            )
        except BookError as error:
            _log.warning("cannot store the address at which %s answered: %s", known.alias, error)

    async def _reach_invited(self, given: Given) -> CoapsConnection:
        """Connect to the device of an invite, with the key that the invite names."""
        key = given.token.device
        known = self.book.by_fingerprint(key)
        places = [*(self.places(known) if known else []), *given.places]
        sources = [_resolved(place) for place in dict.fromkeys(places)]
        race = self._race(lambda address: self.connect_at(address, pinned=key))
        try:
            return await race.run([*sources, self.finder.regular(key.device_id)])
        except PinMismatch as error:
            raise self._mismatch(error) from None

    def _transport(self) -> CoapsClient:
        if self._coaps is None:
            self._coaps = CoapsClient(self.identity, limits=self._limits, net=self._net)
        return self._coaps

    # -- pairing ----------------------------------------------------------------------------------

    async def pair(
        self,
        target: str = "",
        *,
        name: str = "",
        role: str = "",
        alias: str = "",
        expect: Fingerprint | str | None = None,
        method: str = "",
        confirm: Confirm | None = None,
        code: AskCode | str = "",
        at: str = "",
        on_wait: OnWait = lambda _seconds: None,
        on_note: OnNote | None = None,
    ) -> Paired:
        """Pair with a device whose pairing window is open, and store it; or redeem an invite.

        The strongest method is used that the device offers and for which this side has what it
        needs (`code`, `confirm`, `expect`, or a label as `target`). If an error is raised, nothing
        is stored.

        Args:
            target: name, device ID or address of the pairing port; the text of a label; or an
                invite, which is passed to `redeem`. Empty: the only device on the LAN that is open
                for pairing.
            name: the user name to request; defaults to a name derived from this client's key.
            role: the role to request; defaults to that of the pairing window.
            alias: alias of the device on this client; defaults to one derived from its name.
            expect: fingerprint that the device must have; replaces a comparison by the user.
            method: the only method to use: label, code, sas, compare or button.
            confirm: asks this side's user whether the device shows the same number or fingerprints.
            code: the code of the device, or a coroutine function that asks for it.
            at: address of the device, if `target` is a label.
            on_wait: called with the seconds left while only the user at the device is waited for.
            on_note: called with warnings, which are logged by default.

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
        pinned = Fingerprint.parse(expect) if isinstance(expect, str) else expect
        if is_invite(target):
            if name or role:
                raise UsageError(
                    "an invite already contains the user name and the role",
                    advice="Leave out the name and the role.",
                )
            return await self.redeem(target, alias=alias, expect=pinned)
        label = scanned(target)
        if label is not None:
            if pinned not in {None, label.device}:
                assert pinned is not None
                raise PinMismatch(pinned.hex, label.device.hex, is_known=False)
            pinned, target = label.device, at
        targets.check_target(target)
        means = Means(
            method=method,
            confirm=confirm if pinned is None else None,
            ask_code=_asker(code),
            label=label,
            is_vouched=pinned is not None,
        )
        _check_words(name, alias)
        await asyncio.to_thread(self.book.check_writable)
        found = await self._target(target, alias=alias, expect=pinned)
        attempt = Attempt(
            await self._knock(found),
            found,
            own=self.identity.fingerprint,
            book=self.book,
            limits=self._limits,
            connect_at=self.connect_at,
            find_port=lambda key: self.finder.port_of(key.device_id),
            on_note=on_note or _log.warning,
        )
        try:
            return await attempt.run(
                name=name,
                role=role,
                alias=alias,
                means=means,
                on_wait=on_wait,
            )
        finally:
            await attempt.close()

    async def redeem(
        self,
        invite: str,
        *,
        alias: str = "",
        expect: Fingerprint | None = None,
        on_note: OnNote | None = None,
    ) -> Paired:
        """Redeem an invite (`HANDFAST:I*…`): become the user that it names, and store the device.

        The fingerprint in the invite is pinned, so the invite is sent to no other device. Safe to
        repeat. If an error is raised, nothing is stored.

        Args:
            invite: the text of the invite.
            alias: alias of the device on this client; defaults to one derived from its name.
            expect: fingerprint that the invite must contain.
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
        given = Given.parse(invite)
        device = given.token.device
        if expect not in {None, device}:
            assert expect is not None
            raise PinMismatch(expect.hex, device.hex, is_known=False)
        _check_words("", alias)
        given.check_holder(self.identity.fingerprint)
        given.note_age(wall_clock(), on_note or _log.warning)
        await asyncio.to_thread(self.book.check_writable)
        redemption = Redemption(
            given,
            book=self.book,
            limits=self._limits,
            reach=lambda: self._reach_invited(given),
            on_note=on_note,
        )
        return await redemption.run(alias=alias)

    async def _target(self, text: str, *, alias: str, expect: Fingerprint | None) -> Target:
        """Resolve `target`. If the key is known, the LAN is searched later, for that key."""
        if (found := targets.address_target(text)) is not None:
            return replace(found, pinned=expect)
        known = None if alias else {one.alias: one for one in self.devices}.get(text)
        if known is not None:
            return targets.known_target(known)
        if expect is not None:
            return Target(pinned=expect, is_sought=True, host=text)
        adverts = await self.finder.all(LOOK_SECONDS)
        if not text:
            return targets.the_open_one(adverts)
        return targets.named_target(text, adverts) or targets.host_target(text, adverts)

    def _mismatch(self, error: PinMismatch) -> PinMismatch:
        """The same error; its text says \"has changed\" only if the key was pinned at pairing."""
        is_known = any(one.fingerprint.hex == error.expected for one in self.devices)
        return PinMismatch(error.expected, error.actual, is_known=is_known)

    async def _knock(self, target: Target) -> CoapsConnection:
        """Connect to the pairing port."""
        heard: dict[Advert, None] = {}
        sources = [_resolved(place) for place in target.places]
        sources += [_named(advert) for advert in target.adverts]
        if target.is_sought and target.pinned is not None:
            sources.append(self.finder.pairing(target.pinned.device_id, heard))
        race = self._race(lambda address: self._knock_at(address, target))
        try:
            return await race.run(sources)
        except PinMismatch as error:
            raise self._mismatch(error) from None
        except Unreachable as error:
            if race.tried or not (heard or target.host):
                raise (targets.no_window(error) if error.refused else error) from None
        return await self._knock(targets.sought_elsewhere(target, list(heard)))

    async def _knock_at(self, address: Address, target: Target) -> CoapsConnection:
        """Connect, and check the key or device ID of the target."""
        connection = await self._transport().connect(
            address, pinned=target.pinned, timeout=CONNECT_SECONDS
        )
        proved = connection.peer.fingerprint
        if target.device_id and proved.device_id != target.device_id:
            await connection.close()
            raise PinMismatch(target.device_id, proved.hex, is_known=False)
        return connection


def _asker(code: AskCode | str) -> AskCode | None:
    if not isinstance(code, str):
        return code

    async def given() -> str:
        return code

    return given if code else None


def _lan(interfaces: Sequence[str]) -> AsyncIterator[Advert]:
    from peer.net import discovery  # noqa: PLC0415 - zeroconf is slow to import and seldom needed

    return discovery.watch(interfaces=interfaces or None)


async def _resolved(place: Place) -> AsyncIterator[Candidate]:
    for address in await resolve(place.host, place.port):
        yield Candidate(address, place)


async def _named(advert: Advert) -> AsyncIterator[Candidate]:
    for candidate in await candidates(advert, advert.pairing_port):
        yield candidate


def _check_words(name: str, alias: str) -> None:
    """Raise `UsageError` for an invalid name or alias, before connecting."""
    if alias:
        check_alias(alias)
    if name:
        try:
            check_name(name)
        except Malformed as error:
            raise UsageError(str(error), advice=error.advice) from error
