"""The checks of `handfast doctor`, in the order in which they depend on each other.

Each check has a result and, if it is not good, advice. After a failed check, the checks that depend
on it are not run. A *note* is information and does not stop the diagnosis.
"""

from __future__ import annotations  # zeroconf is imported when it is needed, not for its types

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING

from client_app.client import Client
from client_app.exchange import ask_me
from client_app.failures import Failure, most_significant, no_settings, other_key_here
from client_app.host_port import HostPort
from client_app.key_copies import other_place
from client_app.limits import COPY_PLACES, DIAGNOSIS_SECONDS, DISCOVERY_SECONDS
from client_app.models import Check, CheckResult, KnownDevice
from client_app.pairing.targets import announced_host_ports, listed
from client_app.remote_checks import path_checks
from client_app.routes import ADDRESS_ROUTES, PATH_ROUTES, in_order
from peer.errors import PeerError, PinMismatch
from peer.net.address import Address, is_own, resolve
from peer.net.connection import CoapsConnection
from peer.net.interfaces import kernel_table
from peer.terminal.exit_codes import exit_code_of
from peer.terminal.text import on_one_line

if TYPE_CHECKING:
    from peer.net.discovery import Advert


def _failed(name: str, error: PeerError) -> Check:
    return Check(name, CheckResult.FAILED, str(error), error.advice, exit_code_of(error))


def _note(name: str, said: str, advice: str = "") -> Check:
    return Check(name, CheckResult.NOTE, said, advice)


def _ok(name: str, said: str) -> Check:
    return Check(name, CheckResult.OK, said)


async def diagnose(client: Client, alias: str) -> AsyncIterator[Check]:
    """Check this client, its network, and the device `alias` unless it is empty."""
    for check in (_identity(client), _devices(client)):
        yield check
        if check.verdict is CheckResult.FAILED:
            return
    yield _network()
    known: KnownDevice | None = None
    try:
        known = client.book.find(alias) if alias else None
    except PeerError as error:
        yield _failed("device", error)
        return
    adverts, check = await _discovery(client)
    yield check
    if known is not None:
        async for check in _device(client, known, adverts):
            yield check


def _identity(client: Client) -> Check:
    path = client.home.identity
    if not path.exists():
        return _note("key", f"{path} does not exist yet; it is created at the first pairing")
    try:
        return _ok("key", f"{client.identity.fingerprint.grouped}")
    except PeerError as error:
        return _failed("key", error)


def _devices(client: Client) -> Check:
    try:
        known = client.devices
    except PeerError as error:
        return _failed("devices", error)
    names = ", ".join(one.alias for one in known) or "no devices are paired yet"
    return _ok("devices", f"{names} (in {client.book.path})")


def _network() -> Check:
    links = [
        link.name
        for link in kernel_table().by_index.values()
        if link.is_up and not link.is_loopback
    ]
    if not links:
        return _note(
            "network",
            "this machine has no network interface that is up",
            "Connect this machine to a network.",
        )
    return _ok("network", f"up: {', '.join(links)}")


async def _discovery(client: Client) -> tuple[list[Advert], Check]:
    try:
        adverts = await client.finder.all(DISCOVERY_SECONDS)
    except PeerError as error:
        return [], _note("discovery", str(error), error.advice)
    if not adverts:
        advice = "To reach a device on another network, add its address with `handfast address`."
        return [], _note("discovery", "no device was found on this network", advice)
    return adverts, _ok("discovery", listed(adverts))


async def _device(
    client: Client, known: KnownDevice, adverts: list[Advert]
) -> AsyncIterator[Check]:
    address: Address | None = None
    if client.connector.via & ADDRESS_ROUTES:
        search = _AddressSearch(client, known, adverts)
        async for check in search.checks():
            yield check
        address = search.found
    elif not client.connector.has_path(known):
        yield _failed("settings", no_settings(known.alias, in_order(client.connector.via)))
    async for check in path_checks(client, known, policy=_policy if address is None else None):
        yield check


class _AddressSearch:
    """Checks the addresses of one device. `found` is the one at which it answers."""

    def __init__(self, client: Client, known: KnownDevice, adverts: list[Advert]) -> None:
        self.found: Address | None = None
        self._client = client
        self._known = known
        device_id = known.fingerprint.device_id
        self._adverts = [one for one in adverts if one.device_id == device_id]

    async def checks(self) -> AsyncIterator[Check]:
        """Try the addresses until one leads to the device; then check what it permits."""
        client, known, adverts = self._client, self._known, self._adverts
        if adverts:
            yield _ok("announced", f"{known.alias} is announced on this network, so it is on")
        stored = client.connector.host_ports(known)
        announced = announced_host_ports(adverts, most=client.limits.announced_addresses)
        addresses, failures = await _addresses([*announced, *stored], stored)
        for failure in failures:
            yield _note("address", str(failure.error), failure.error.advice)
        connection: CoapsConnection | None = None
        for address, is_hint in addresses.items():
            try:
                connection = await client.connect_at(
                    address, pinned=known.fingerprint, timeout=DIAGNOSIS_SECONDS
                )
            except PeerError as failed:
                is_other = isinstance(failed, PinMismatch)
                error = other_key_here(address) if is_other and is_own(address) else failed
                failures.append(Failure(error, is_hint=is_hint, address=address))
                # Whether a wrong key is an alarm depends on the other addresses.
                yield _note(f"address {address}", str(error), "" if is_other else error.advice)
            else:
                yield _ok(f"address {address}", "the device answers and has the pinned key")
                self.found = address
                break
        if connection is None:
            for check in self._not_reached(failures):
                yield check
            return
        try:
            yield await _policy(connection)
        finally:
            await connection.close()
        yield _window(adverts)
        untried = list(addresses)[list(addresses).index(address) + 1 :]
        async for check in _copies(client, known, address, untried[:COPY_PLACES]):
            yield check

    def _not_reached(self, failures: Sequence[Failure]) -> Iterator[Check]:
        if not self._adverts:
            yield _note(
                "announced",
                f"{self._known.alias} is not announced on this network",
                "It is off, or on another network, or multicast DNS is blocked in between.",
            )
        error = most_significant(failures, is_announced=bool(self._adverts))
        connector, alias = self._client.connector, self._known.alias
        if connector.has_path(self._known) and not isinstance(error, PinMismatch):
            yield _note("reach", f"no address leads to it: {error}", error.advice)
            return
        if connector.via & PATH_ROUTES and not connector.has_path(self._known):
            missing = no_settings(alias, in_order(PATH_ROUTES))
            yield _note("settings", str(missing), missing.advice)
        yield _failed("reach", error)


async def _copies(
    client: Client, known: KnownDevice, found: Address, others: Sequence[Address]
) -> AsyncIterator[Check]:
    """Report if another device has the same key; it proves the key as well."""

    async def connect(address: Address) -> CoapsConnection:
        pinned = known.fingerprint
        return await client.connect_at(address, pinned=pinned, timeout=DIAGNOSIS_SECONDS)

    if (other := await other_place(connect, found, others)) is not None:
        yield _note(
            "copies",
            f"two devices have the key of {known.alias}: at {found} and at {other}",
            "The SD card of one was probably copied. Give one of both a new key, by running "
            "`handfast-device new-identity` on it, then pair with it again.",
        )


async def _addresses(
    host_ports: Sequence[HostPort], stored: Sequence[HostPort]
) -> tuple[dict[Address, bool], list[Failure]]:
    """Return each address with whether it is only announced, and the hosts that have none.

    A link-local address without an interface is left out if it is there with one.
    """
    found: dict[Address, bool] = {}
    failures: list[Failure] = []
    for host_port in dict.fromkeys(host_ports):
        is_hint = host_port not in stored
        try:
            for address in await resolve(host_port.host, host_port.port):
                found[address] = found.get(address, True) and is_hint
        except PeerError as error:
            failures.append(Failure(error, is_hint=is_hint))
    scoped = {address.host for address in found if address.scope}
    usable = [one for one in found if not (one.needs_scope and one.host in scoped)]
    return {address: found[address] for address in usable}, failures


async def _policy(connection: CoapsConnection) -> Check:
    try:
        me = (await ask_me(connection, timeout=DIAGNOSIS_SECONDS)).whoami
    except PeerError as error:
        return _failed("policy", error)
    who = f"user {on_one_line(me.user)}, role {on_one_line(me.role)}, path {on_one_line(me.path)}"
    return _ok("policy", f"{who}; {len(me.actions)} actions allowed (see `handfast whoami`)")


def _window(adverts: list[Advert]) -> Check:
    if not adverts:
        return _note(
            "window",
            "the device is not announced on this network; pairing requires its own network",
        )
    states = {advert.pairing_open for advert in adverts}
    if len(states) > 1:
        return _note(
            "window",
            "announced both as open and as closed; another host may be sending announcements",
        )
    return _ok(
        "window",
        "open for pairing" if True in states else "closed (normal when no pairing is in progress)",
    )
