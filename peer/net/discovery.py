"""DNS-SD (RFC 6763) over multicast DNS: a device says where it is, a client looks who is there.

A device is a ``_coaps._udp`` service for everybody (``avahi-browse`` shows it) and has the subtype
``_handfast`` for our clients. What it says is a hint and never identity: a stranger on the link can
say anything, so everything received is bounded, parsed strictly, and dropped when it does not fit.

The TXT record: ``v`` protocol version, ``id`` device id, ``name`` the user's name for the device,
``pm`` 1 while the pairing window is open, ``pp`` the pairing port.

python-zeroconf has no subtypes of its own. It does announce any PTR name we give a ServiceInfo, but
keeps one ServiceInfo per instance name; so the subtype is a second one, under a key of its own.
An instance name holds the device id, which comes from the key: it is unique by construction, and
probing for conflicts would only give a stranger a way to rename us (RFC 6762 §8.1 asks for probes
where uniqueness is not known).
"""

import asyncio
import ipaddress
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final, Self

from zeroconf import (
    DNSQuestionType,
    Error,
    IPVersion,
    RecordUpdate,
    RecordUpdateListener,
    ServiceInfo,
    ServiceStateChange,
    Zeroconf,
)
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from peer.errors import Malformed, PeerError, Unreachable
from peer.net.interfaces import Interface, InterfaceTable, InterfaceWatch, IpAddress, kernel_table

SERVICE: Final = "_coaps._udp.local."
SUBTYPE: Final = f"_handfast._sub.{SERVICE}"
VERSION: Final = 1

MAX_ADVERTS: Final = 256
"""Devices a search keeps; what comes after them is dropped."""
MAX_ADDRESSES: Final = 16
MAX_TXT: Final = 1024
"""Bytes of a TXT record that are looked at; a longer one is not ours."""
MAX_TXT_KEYS: Final = 32
MAX_NAME: Final = 64
"""Characters of a device's name."""
RESOLVE_SECONDS: Final = 3.0
"""How long an announced device may take to say where it is."""
RESOLVING: Final = 16
"""Devices asked at the same time: a flood of names must not make us a flood of questions."""
SETTLE_SECONDS: Final = 1.0
"""Address changes come in swarms; this long after the first one they are looked at together."""
REPEAT_SECONDS: Final = 1.2
"""An announcement is repeated this long after it."""

_LABEL_BYTES: Final = 63
_TXT: Final = 16  # the type and the class of a DNS record (RFC 1035 §3.2)
_IN: Final = 1
_DEVICE_ID: Final = re.compile(r"[0-9A-HJKMNP-TV-Z]{8}")
_DIGITS: Final = re.compile(r"[0-9]{1,5}")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Advert:
    """What a device says of itself, or a stranger in its place. Text is unescaped.

    ``addresses`` are IP addresses, link-local ones with ``%`` and the interface's index.
    ``pairing_port`` means something while ``pairing_open``. ``is_present`` is false in the last
    advert of a device that has said goodbye or was not heard of for too long.
    """

    device_id: str
    name: str
    addresses: tuple[str, ...]
    port: int
    pairing_port: int
    pairing_open: bool
    version: int
    host: str
    is_present: bool = True


# ------------------------------------------------------------------------------------- the device


class Advertiser:
    """Announces one device until close(), also when addresses come and go.

    ``interfaces`` are names of interfaces or own IP addresses; None means every link that is up,
    without the loopback and point-to-point ones. Without a network it waits for one.
    """

    def __init__(
        self,
        *,
        name: str,
        device_id: str,
        port: int,
        pairing_port: int,
        interfaces: Sequence[str] | None,
    ) -> None:
        self._name = name
        self._device_id = device_id
        self._port = port
        self._pairing_port = pairing_port
        self._pairing_open = False
        self._interfaces = interfaces
        self._addresses: tuple[str, ...] = ()
        self._zeroconf: AsyncZeroconf | None = None
        self._is_registered = False
        self._changed = asyncio.Event()
        self._watch: InterfaceWatch | None = None
        self._follower: asyncio.Task[None] | None = None
        self._broadcasts: set[asyncio.Future[None]] = set()

    async def start(self) -> None:
        """Announce the device. Raises PeerError if multicast DNS cannot be had at all."""
        try:
            self._watch = InterfaceWatch(self._changed.set)
            await self._reconcile()
        except (OSError, RuntimeError, Error) as error:
            await self.close()
            raise _no_multicast(error) from error
        self._follower = asyncio.create_task(self._follow(), name="advertised addresses")

    async def set_pairing(self, *, open: bool, pairing_port: int) -> None:  # noqa: A002 - as in the design
        """Tell everybody, at once, that the pairing window has opened or closed."""
        self._pairing_open = open
        self._pairing_port = pairing_port
        await self._republish()

    async def close(self) -> None:
        """Say goodbye and stop; a second call does nothing."""
        if self._watch is not None:
            self._watch.close()
        tasks: list[asyncio.Future[None]] = [*self._broadcasts]
        if self._follower is not None:
            tasks.append(self._follower)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._follower = None
        zeroconf, self._zeroconf = self._zeroconf, None
        self._is_registered = False
        if zeroconf is not None:
            await zeroconf.async_close()

    async def _follow(self) -> None:
        while True:
            await self._changed.wait()
            await asyncio.sleep(SETTLE_SECONDS)
            self._changed.clear()
            try:
                await self._reconcile()
            except (OSError, RuntimeError, Error) as error:
                # An interface that went away under our hands. The next change brings us back.
                _log.warning("the advertised addresses could not be brought up to date: %s", error)

    async def _reconcile(self) -> None:
        """Make sockets and records fit the addresses of this moment."""
        where, addresses = _places(kernel_table(), self._interfaces)
        if not where:
            return
        is_new, self._addresses = addresses != self._addresses, addresses
        if self._zeroconf is None:
            self._zeroconf = AsyncZeroconf(interfaces=where)
            await self._zeroconf.zeroconf.async_wait_for_start()
        else:
            await self._zeroconf.async_update_interfaces(where)
        if not self._is_registered:
            await self._register(self._zeroconf)
        elif is_new:
            await self._republish()

    async def _register(self, zeroconf: AsyncZeroconf) -> None:
        for info in self._infos():
            self._remember(await zeroconf.async_register_service(info, cooperating_responders=True))
        self._is_registered = True
        await self._republish()  # the window may have opened meanwhile

    async def _republish(self) -> None:
        if self._zeroconf is None or not self._is_registered:
            return
        for broadcast in self._broadcasts:  # it would repeat what is no longer true
            broadcast.cancel()
        infos = self._infos()
        for info in infos:
            self._remember(await self._zeroconf.async_update_service(info))
        self._remember(asyncio.create_task(self._repeat(self._zeroconf.zeroconf, infos)))

    async def _repeat(self, zeroconf: Zeroconf, infos: list[ServiceInfo]) -> None:
        """Say it again after a second (RFC 6762 §8.3).

        python-zeroconf says everything three times within half a second, and drops packets that
        it has heard in the last second: a window opened, closed and opened would stay closed.
        """
        await asyncio.sleep(REPEAT_SECONDS)
        for info in infos:
            zeroconf.async_send(zeroconf.generate_service_broadcast(info, None))

    def _remember(self, broadcast: object) -> None:
        """Tasks are held weakly by the loop: keep the repeats of an announcement until done."""
        if isinstance(broadcast, asyncio.Future):
            self._broadcasts.add(broadcast)
            broadcast.add_done_callback(self._broadcasts.discard)

    def _infos(self) -> list[ServiceInfo]:
        instance = f"{instance_label(self._name, self._device_id)}.{SERVICE}"
        infos = [
            ServiceInfo(
                kind,
                instance,
                port=self._port,
                properties=self._text(),
                server=f"handfast-{self._device_id.lower()}.local.",
                parsed_addresses=list(self._addresses),
            )
            for kind in (SERVICE, SUBTYPE)
        ]
        infos[1].key = f"{SUBTYPE}{infos[1].key}"
        return infos

    def _text(self) -> dict[str, str]:
        return {
            "v": str(VERSION),
            "id": self._device_id,
            "pm": "1" if self._pairing_open else "0",
            "pp": str(self._pairing_port),
            "name": _shortened(self._name, 250),  # a TXT entry has 255 bytes, "name=" included
        }


def instance_label(name: str, device_id: str) -> str:
    """The label people see in a browser of services: the name and the device id, 63 bytes.

    Dots and control characters become blanks: zeroconf does not escape them.
    """
    plain = "".join(c if c.isprintable() and c != "." else " " for c in name)
    room = _LABEL_BYTES - len(device_id) - 1
    return f"{_shortened(plain, room).strip()} {device_id}".strip()


def _shortened(text: str, size: int) -> str:
    """At most ``size`` bytes of UTF-8, whole characters."""
    return text.encode()[:size].decode(errors="ignore")


def _places(
    table: InterfaceTable, wanted: Sequence[str] | None
) -> tuple[list[str | int], tuple[str, ...]]:
    """Where to speak (IPv4 by address, IPv6 by interface index) and which addresses to tell."""
    where: dict[str | int, None] = {}
    own: list[IpAddress] = []
    for interface in table.by_index.values():
        for address in _wanted_addresses(interface, wanted):
            own.append(address)
            where[str(address) if address.version == 4 else interface.index] = None
    own.sort(key=lambda address: (address.is_link_local, address.version))
    return list(where), tuple(dict.fromkeys(str(address) for address in own))[:MAX_ADDRESSES]


def _wanted_addresses(interface: Interface, wanted: Sequence[str] | None) -> Iterable[IpAddress]:
    own = [address.own for address in interface.addresses]
    if not interface.is_up:
        return []
    if wanted is None:
        return [] if interface.is_loopback or interface.is_point_to_point else own
    return own if interface.name in wanted else [a for a in own if str(a) in wanted]


# ------------------------------------------------------------------------------------- the client


async def discover(*, timeout: float, interfaces: Sequence[str] | None = None) -> list[Advert]:
    """The devices that answer within ``timeout`` seconds, by name.

    Raises Unreachable if this machine has no network to look in, PeerError if multicast DNS
    cannot be had.
    """
    async with _searching(interfaces) as search:
        await asyncio.sleep(timeout)
        return sorted(search.found.values(), key=lambda advert: (advert.name, advert.device_id))


async def watch(*, interfaces: Sequence[str] | None = None) -> AsyncGenerator[Advert, None]:
    """Every device that is there, comes, changes, or goes (``is_present`` false). Does not end.

    Raises what discover() raises. Close the iterator (``contextlib.aclosing``) to stop.
    """
    async with _searching(interfaces) as search:
        while True:
            yield await search.changes.get()


@asynccontextmanager
async def _searching(interfaces: Sequence[str] | None) -> "AsyncIterator[_Search]":
    try:
        where, own = _places(kernel_table(), interfaces)
        if not where:
            raise Unreachable(
                "this machine has no network to look for devices in",
                advice="connect it, or name the device's address",
            )
        search = await _Search.start(where, with_loopback=_any_loopback(own))
    except (OSError, RuntimeError, Error) as error:
        raise _no_multicast(error) from error
    try:
        yield search
    finally:
        await search.close()


class _Search(RecordUpdateListener):
    """A running search: names come from the network, each is resolved and parsed, or dropped.

    What changes is taken from the records themselves: python-zeroconf's browser does not report a
    TXT record that goes back to what it was (window open, closed, open again), and its cache then
    still has the other one as the last.
    """

    def __init__(self, zeroconf: AsyncZeroconf, *, with_loopback: bool) -> None:
        self.found: dict[str, Advert] = {}
        self.changes: asyncio.Queue[Advert] = asyncio.Queue(maxsize=4 * MAX_ADVERTS)
        self._zeroconf = zeroconf
        self._with_loopback = with_loopback
        self._names: dict[str, str] = {}  # lower case -> as announced
        self._touched: set[str] = set()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()
        self._places = asyncio.Semaphore(RESOLVING)
        zeroconf.zeroconf.async_add_listener(self, None)
        # Questions by multicast: where two programs of one machine share port 5353, a unicast
        # answer reaches only one of them.
        self._browser = AsyncServiceBrowser(
            zeroconf.zeroconf,
            SUBTYPE,
            handlers=[self._heard_untrusted],
            question_type=DNSQuestionType.QM,
        )

    @classmethod
    async def start(cls, where: list[str | int], *, with_loopback: bool) -> Self:
        zeroconf = AsyncZeroconf(interfaces=where)
        await zeroconf.zeroconf.async_wait_for_start()
        return cls(zeroconf, with_loopback=with_loopback)

    async def close(self) -> None:
        await self._browser.async_cancel()
        self._zeroconf.zeroconf.async_remove_listener(self)
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._zeroconf.async_close()

    def async_update_records(self, zc: Zeroconf, now: float, records: list[RecordUpdate]) -> None:
        """Of zeroconf: records have come, the cache does not have them yet."""
        hosts = {advert.host.lower(): key for key, advert in self.found.items()}
        for update in records:
            key = update.new.key
            self._touched.add(key if key in self._names else hosts.get(key, ""))

    def async_update_records_complete(self) -> None:
        """Of zeroconf: now it has."""
        touched, self._touched = self._touched, set()
        for key in touched & self._names.keys():
            self._resolve(key)

    def _heard_untrusted(
        self,
        zeroconf: Zeroconf,
        service_type: str,
        name: str,
        state_change: ServiceStateChange,
    ) -> None:
        key = name.lower()
        if state_change is ServiceStateChange.Removed:
            self._forget(key)
            advert = self.found.pop(key, None)
            if advert is not None:
                self._tell(replace(advert, is_present=False))
        elif key in self._names or self._has_room():
            self._names[key] = name
            self._resolve(key)

    def _has_room(self) -> bool:
        """Room for one more name, if need be that of the oldest that has not shown to be good."""
        if len(self._names) >= MAX_ADVERTS:
            empty = next((key for key in self._names if key not in self.found), None)
            if empty is not None:
                self._forget(empty)
        return len(self._names) < MAX_ADVERTS

    def _forget(self, key: str) -> None:
        self._names.pop(key, None)
        self._again.discard(key)
        task = self._tasks.pop(key, None)
        if task is not None:
            task.cancel()

    def _resolve(self, key: str) -> None:
        if key in self._tasks:
            self._again.add(key)
        else:
            self._tasks[key] = asyncio.create_task(self._resolve_untrusted(key))

    async def _resolve_untrusted(self, key: str) -> None:
        while True:
            self._again.discard(key)
            with suppress(Malformed, Error, ValueError):  # not a device of ours, or broken
                await self._look_at_untrusted(key)
            if key not in self._again:
                del self._tasks[key]
                return

    async def _look_at_untrusted(self, key: str) -> None:
        info = AsyncServiceInfo(SERVICE, self._names[key])
        zeroconf = self._zeroconf.zeroconf
        if not info.load_from_cache(zeroconf):  # mostly all came with the name
            async with self._places:
                if not await info.async_request(
                    zeroconf, RESOLVE_SECONDS * 1000, question_type=DNSQuestionType.QM
                ):
                    return
        advert = advert_untrusted(
            host=info.server or "",
            port=info.port or 0,
            addresses=info.parsed_scoped_addresses(IPVersion.All),
            text=_newest_text(zeroconf, info),
            with_loopback=self._with_loopback,
        )
        if self.found.get(key) != advert:
            self.found[key] = advert
            self._tell(advert)

    def _tell(self, advert: Advert) -> None:
        with suppress(asyncio.QueueFull):  # nobody listens, or somebody floods: bounded
            self.changes.put_nowait(advert)


def _newest_text(zeroconf: Zeroconf, info: ServiceInfo) -> bytes:
    """The TXT record that came last; one that is on its way out has a lifetime of a second."""
    records = zeroconf.cache.async_all_by_details(info.name, _TXT, _IN)
    newest = max(records, key=lambda record: (record.created, record.ttl), default=None)
    text: bytes = getattr(newest, "text", b"")
    return text


def advert_untrusted(
    *, host: str, port: int, addresses: Iterable[str], text: bytes, with_loopback: bool
) -> Advert:
    """The records of one service as an Advert. Raises Malformed, and nothing else.

    ``with_loopback`` keeps loopback addresses; from the network they would lead to ourselves.
    """
    entries = txt_untrusted(text)
    version, pairing_port = _number(entries, "v"), _number(entries, "pp", default=b"0")
    device_id = _text(entries, "id").upper()
    name, window = _text(entries, "name"), entries.get("pm", b"0")
    usable = tuple(_usable_addresses(addresses, with_loopback=with_loopback))
    checks = (
        (_DEVICE_ID.fullmatch(device_id), "the device id"),
        (1 <= len(name) <= MAX_NAME, "the name"),
        (window in {b"0", b"1"}, "the window"),
        (0 < port <= 65535, "the port"),
        (pairing_port <= 65535 and (pairing_port or window == b"0"), "the pairing port"),
        (version > 0, "the version"),
        (usable, "the addresses"),
    )
    for holds, what in checks:
        if not holds:
            raise Malformed(f"an announced device does not fit: {what}")
    return Advert(device_id, name, usable, port, pairing_port, window == b"1", version, host[:255])


def txt_untrusted(text: bytes) -> dict[str, bytes]:
    """The entries of a TXT record (RFC 6763 §6): keys lower case, of a repeated one the first.

    Raises Malformed, and nothing else.
    """
    if len(text) > MAX_TXT:
        raise Malformed(f"a TXT record of {len(text)} bytes")
    entries: dict[str, bytes] = {}
    position = 0
    while position < len(text):
        end = position + 1 + text[position]
        if end > len(text):
            raise Malformed("a TXT record that is cut off")
        key, separator, value = text[position + 1 : end].partition(b"=")
        position = end
        if not key or not key.isascii():  # to be ignored, says §6.4
            continue
        if separator:
            entries.setdefault(key.decode().lower(), value)
        if len(entries) > MAX_TXT_KEYS:
            raise Malformed("a TXT record of too many keys")
    return entries


def _text(entries: dict[str, bytes], key: str) -> str:
    try:
        return entries.get(key, b"").decode()
    except UnicodeDecodeError:
        raise Malformed(f"the TXT entry {key} is not UTF-8") from None


def _number(entries: dict[str, bytes], key: str, *, default: bytes = b"") -> int:
    digits = entries.get(key, default).decode(errors="replace")
    if not _DIGITS.fullmatch(digits):
        raise Malformed(f"the TXT entry {key} is not a number")
    return int(digits)


def _usable_addresses(addresses: Iterable[str], *, with_loopback: bool) -> Iterable[str]:
    """The first addresses that can be a device's: IPv4, then IPv6, then link-local ones."""
    usable: set[tuple[bool, int, str]] = set()
    for text in islice(addresses, 4 * MAX_ADDRESSES):
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            continue
        if address.is_multicast or address.is_unspecified:
            continue
        if address.is_loopback and not with_loopback:
            continue
        usable.add((address.is_link_local, address.version, text))
    return [text for *_, text in sorted(usable)[:MAX_ADDRESSES]]


def _any_loopback(addresses: Iterable[str]) -> bool:
    return any(ipaddress.ip_address(address).is_loopback for address in addresses)


def _no_multicast(error: Exception) -> PeerError:
    return PeerError(
        f"multicast DNS does not work here: {error}",
        advice="another program may hold UDP port 5353 for itself; naming an address still works",
    )
