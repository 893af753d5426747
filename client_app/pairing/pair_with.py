"""A pairing from its target to the stored device."""

from client_app.aliases import same_alias
from client_app.connector import Connector
from client_app.deadline import waiting_for
from client_app.known_devices import DeviceBook
from client_app.models import Paired
from client_app.pairing.arguments import AskName
from client_app.pairing.attempt import PairingAttempt
from client_app.pairing.ceremony import OnDevice, OnNote, OnWait
from client_app.pairing.method_choice import MethodInputs
from client_app.pairing.pairing_port import connect_pairing_port
from client_app.pairing.targets import resolve_target
from peer.identity import Fingerprint
from peer.limits import Limits


async def pair_with(
    target: str,
    *,
    connector: Connector,
    book: DeviceBook,
    own: Fingerprint,
    limits: Limits,
    expect: Fingerprint | None,
    name: AskName | None,
    role: str,
    alias: str,
    inputs: MethodInputs,
    on_wait: OnWait,
    on_note: OnNote,
    on_device: OnDevice,
) -> Paired:
    """Find the device of a target, and pair with it; see `client_app.client.Client.pair`."""
    paired = {} if alias else {one.alias: one for one in book.all()}
    known = paired.get(same_alias(target, paired) or "")
    with waiting_for("searching for the device"):
        found = await resolve_target(target, paired=known, expect=expect, finder=connector.finder)
        device = await connect_pairing_port(connector, found, own=own, limits=limits)
    attempt = PairingAttempt(
        device,
        found,
        own=own,
        book=book,
        limits=limits,
        connector=connector,
        on_note=on_note,
        on_device=on_device,
    )
    async with attempt:
        return await attempt.run(name=name, role=role, alias=alias, inputs=inputs, on_wait=on_wait)
