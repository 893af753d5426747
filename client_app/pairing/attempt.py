"""One pairing over one connection: choose a method, ask, confirm, then store the device."""

import asyncio
from dataclasses import replace
from typing import Self, assert_never

from client_app.aliases import (
    alias_for,
    alias_taken,
    check_new_alias,
    same_alias,
    unmistakable_alias,
)
from client_app.connector import Connector
from client_app.deadline import waiting_for
from client_app.exchange import ask_me
from client_app.host_port import REGULAR_PORT, HostPort
from client_app.known_devices import DeviceBook
from client_app.limits import PAIRING_RECONNECTS
from client_app.models import KnownDevice, Paired
from client_app.pairing.arguments import AskName, FixedText
from client_app.pairing.ceremony import (
    AnswerLost,
    Ceremony,
    Comparison,
    FoundDevice,
    OnDevice,
    OnNote,
    OnWait,
    confirmed,
)
from client_app.pairing.messages import Offer, Registration
from client_app.pairing.method_choice import MethodInputs, SideMaker
from client_app.pairing.pairing_port import OpenDevice
from client_app.pairing.targets import Target, no_window
from peer.errors import (
    Denied,
    HandshakeFailed,
    NotPaired,
    PeerError,
    TimedOut,
    Unreachable,
    UsageError,
    WrongCode,
)
from peer.identity import Fingerprint
from peer.limits import Limits
from peer.net.connection import CoapsConnection
from peer.pairing.errors import Mismatch
from peer.pairing.methods import Method
from peer.pairing.names import default_name
from peer.pairing.sides import ClientSide


class PairingAttempt:
    """One attempt, from an open connection to a stored device. One-shot; use it in `async with`."""

    def __init__(
        self,
        device: OpenDevice,
        target: Target,
        *,
        own: Fingerprint,
        book: DeviceBook,
        limits: Limits,
        connector: Connector,
        on_note: OnNote,
        on_device: OnDevice,
    ) -> None:
        self._offer = device.offer
        self._address = device.connection.peer.address
        self._regular = self._address  # with the regular port, once the offer is known
        self._target = target
        self._own = own
        self._book = book
        self._limits = limits
        self._connector = connector
        self._on_note = on_note
        self._on_device = on_device
        self._ceremony = Ceremony(device.connection, own=own, limits=limits)
        self._key = self._ceremony.device

    async def run(
        self, *, name: AskName | None, role: str, alias: str, inputs: MethodInputs, on_wait: OnWait
    ) -> Paired:
        """Pair by the best method. No one has to compare a fingerprint that was expected."""
        offer = self._offer
        self._on_device(FoundDevice(offer.name or self._target.name, self._key, str(self._address)))
        method = inputs.method_for(offer)
        if note := inputs.passed_over(offer, method):
            self._on_note(note)
        self._regular = replace(self._address, port=await self._regular_port(offer))
        known = self._book.by_fingerprint(self._key)
        alias = self._alias(alias, offer, known)
        with waiting_for("waiting for your answer"):
            user = await self._user(name, known)
            make_side = await inputs.side_maker(method)
        sources = (name, inputs.ask_code if method.spec.needs_code else None)
        was_asked = not all(one is None or isinstance(one, FixedText) for one in sources)
        side = await self._side_in_open_session(make_side, was_asked=was_asked)
        begun = await self._ceremony.start(side, name=user, role=role)
        confirm = inputs.confirm
        if inputs.is_key_expected or confirm is None:
            confirm = _confirm_expected_key
        if isinstance(begun, Registration):
            # No ceremony authenticates the device here, so its key must be known already.
            if method.spec.needs_code:
                self._on_note("the device already knows this client; the code was not checked")
            if known is None and _needs_comparison(method):
                await self._compare(offer, inputs)
            held = method if known is None or known.is_imported else known.method
            device = await self._store(offer, begun, alias, known, held)
            return Paired(device, is_new=known is None, method=method)
        if method.spec.users_compare:
            question = self._question(offer, side.number)
            await self._ceremony.both_agree(begun, question, confirm=confirm, on_wait=on_wait)
        try:
            registration = await self._ceremony.finish(side, begun)
        except AnswerLost as lost:
            registration = await self._recovered(lost, side, Registration(user, begun.role))
        device = await self._store(offer, registration, alias, known, method)
        return Paired(device, is_new=True, method=method)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._ceremony.close()

    async def _side_in_open_session(self, make_side: SideMaker, *, was_asked: bool) -> ClientSide:
        """Return the client's side of the method, in a session that is open.

        While this side's user types, other clients can push the session out of the device's few
        places; a lost session is then replaced, since no attempt has been counted yet. If the user
        was asked, the device is asked for its offer once more, because the message that ends a
        session can get lost as well.

        Raises `WindowClosed` if nothing listens any more, `PinMismatch`, or `Unreachable`.
        """
        for left in reversed(range(PAIRING_RECONNECTS + 1)):
            side = make_side(self._ceremony.session)
            if await self._is_alive(was_asked=was_asked):
                return side
            if left:
                self._on_note("the connection was lost before the pairing started; reconnecting")
                await self._reconnect()
        raise Unreachable(
            "the device repeatedly closed the connection before the pairing started",
            advice="Others may be using all its pairing connections. Check which other hosts "
            "are on its network, then start again.",
        )

    async def _user(self, name: AskName | None, known: KnownDevice | None) -> str:
        """The user name to request: the one given, else the one of before, else a default."""
        if name is not None and (user := await name()):
            return user
        return (known.user if known else "") or default_name(self._own)

    async def _reconnect(self) -> None:
        await self._ceremony.close()
        connection = await self._connect_to_busy_device()
        self._ceremony = Ceremony(connection, own=self._own, limits=self._limits)

    async def _connect_to_busy_device(self) -> CoapsConnection:
        """Connect again later if the device has too many sessions: it evicts the older ones."""
        for _ in range(PAIRING_RECONNECTS - 1):
            try:
                return await self._connect_again()
            except HandshakeFailed:
                await asyncio.sleep(self._limits.unpaired_kept_seconds)
        return await self._connect_again()

    async def _connect_again(self) -> CoapsConnection:
        try:
            return await self._connector.connect_at(self._address, pinned=self._key)
        except Unreachable as error:
            if not error.refused:
                raise
            raise no_window(error) from error

    async def _is_alive(self, *, was_asked: bool) -> bool:
        if not self._ceremony.is_open or not was_asked:
            return self._ceremony.is_open
        try:
            await self._ceremony.offer(timeout=self._limits.handshake_again_seconds)
        except (Unreachable, TimedOut):
            return False
        return True

    async def _compare(self, offer: Offer, inputs: MethodInputs) -> None:
        if inputs.is_key_expected:
            return
        if inputs.confirm is None:
            raise UsageError(
                "the device says that it already knows this client, but its key was not verified",
                advice=f"If the device shows this fingerprint, give it with --expect-fingerprint: "
                f"{self._key.grouped}",
            )
        await confirmed(inputs.confirm, self._question(offer))

    def _alias(self, wanted: str, offer: Offer, known: KnownDevice | None) -> str:
        """The alias to store. Raises `UsageError` if another device has it."""
        paired = self._book.all()
        if wanted:
            alias = check_new_alias(wanted, self._key, paired)
        elif known is not None:
            alias = known.alias
        else:
            alias = alias_for(offer.name or self._target.name, self._key.device_id)
            alias = unmistakable_alias(alias, self._key, paired)
        holders = {one.alias: one for one in paired}
        holder = same_alias(alias, holders)
        if holder is not None and holders[holder].fingerprint != self._key:
            raise alias_taken(holder)
        return alias

    def _question(self, offer: Offer, number: str = "") -> Comparison:
        return Comparison(
            device=self._key,
            own=self._own,
            name=offer.name or self._target.name,
            address=str(self._address),
            seconds=self._limits.person_seconds,
            number=number,
        )

    async def _recovered(
        self, lost: AnswerLost, side: ClientSide, requested: Registration
    ) -> Registration:
        """Ask on the regular port, with the device's key pinned, how the pairing ended.

        In most methods that key was authenticated before the last message, by this side's user or
        by the label. In `code` only the device's tag authenticates it, so the device has to return
        a receipt of that tag (protocol §5.8).

        `requested` is the result if the role does not allow to ask who this client is.

        Raises `WrongCode` if the receipt is missing or wrong, `Unreachable` if the device has not
        stored this client, `AnswerLost` if it cannot be asked.
        """
        try:
            stored, receipt = await self._registration()
        except Denied:
            stored, receipt = requested, None
        except NotPaired as error:
            raise Unreachable(
                f"{lost}; the device has not stored this client", advice="Start again."
            ) from error
        except PeerError as error:
            raise AnswerLost(
                f"{lost}; whether it stored this client is unknown, because it cannot be reached",
                advice="Start again. If it has, compare the fingerprints that both sides show.",
            ) from error
        try:
            side.verify_receipt_untrusted(receipt)
        except Mismatch as error:
            raise WrongCode(
                f"{lost}; when asked again, the device did not prove that it took part in this "
                "pairing, so nothing was stored",
                advice="This may be a man-in-the-middle attack. Start again close to the device.",
            ) from error
        return stored

    async def _registration(self) -> tuple[Registration, object]:
        """Ask who this client is on the device, and for the receipt of the pairing."""
        connection = await self._connector.connect_at(self._regular, pinned=self._key)
        try:
            me = await ask_me(connection, timeout=self._limits.step_seconds)
        finally:
            await connection.close()
        return Registration(me.whoami.user, me.whoami.role), me.receipt

    async def _regular_port(self, offer: Offer) -> int:
        announced = self._connector.finder.port_of
        return (
            offer.port or self._target.port or await announced(self._key.device_id) or REGULAR_PORT
        )

    async def _store(
        self,
        offer: Offer,
        registration: Registration,
        alias: str,
        known: KnownDevice | None,
        method: str,
    ) -> KnownDevice:
        device = KnownDevice(
            alias=alias,
            fingerprint=self._key,
            name=offer.name or self._target.name,
            user=registration.user,
            role=registration.role,
            port=self._regular.port,
            last_seen=str(HostPort.from_address(self._regular)),
            addresses=known.addresses if known else (),
            method=method,
        )
        await asyncio.to_thread(self._book.put, device)
        return device


def _needs_comparison(method: Method) -> bool:
    """Whether the users must compare keys if the device says that it already knows this client."""
    match method:
        case Method.LABEL:  # it names the device's key
            return False
        case Method.BUTTON:  # its user does not expect a proof
            return False
        case Method.CODE | Method.SAS | Method.COMPARE:
            return True
        case _:
            assert_never(method)


async def _confirm_expected_key(_question: Comparison) -> bool:
    return True
