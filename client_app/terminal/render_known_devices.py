"""Output of paired devices. Importing this module registers the type with `render`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from client_app.known_device import KnownDevice
from client_app.terminal.render import as_json, as_text, lists
from peer.terminal.layout import table

if TYPE_CHECKING:
    from collections.abc import Sequence


@as_json.register
def _(value: KnownDevice) -> dict[str, object]:
    return value.record()


@as_text.register
def _(value: KnownDevice) -> str:
    return _known_devices([value])


def _known_devices(devices: Sequence[KnownDevice]) -> str:
    rows = [
        (
            one.alias,
            one.fingerprint.device_id,
            f"{one.user} ({one.role})" if one.role else one.user or "-",
            ", ".join(dict.fromkeys(filter(None, (one.last_seen, *one.addresses)))) or "-",
            _how(one),
        )
        for one in devices
    ]
    # With one leading space, a fingerprint just fits into 80 columns.
    below = [f" {one.fingerprint.grouped}" for one in devices]
    headers = ("ALIAS", "ID", "YOU", "ADDRESS", "PAIRED")
    return "\n".join(table(rows, headers=headers, below=below))


def _how(device: KnownDevice) -> str:
    """How this client was paired with a device; nothing else authenticates an imported one."""
    if device.is_imported:
        return f"not yet: handfast pair {device.alias}"
    from peer.pairing.methods import Method  # noqa: PLC0415 - an empty list needs no methods

    method = Method.named(device.method)
    is_unverified = method is not None and not method.spec.verifies_key
    return f"by {device.method}" + (", *unverified*" if is_unverified else "")


lists[KnownDevice] = _known_devices
