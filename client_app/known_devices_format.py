"""The content of the file of paired devices: JSON, strictly parsed."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from client_app.aliases import check_alias
from client_app.limits import DEVICES_FILE_BYTES
from client_app.models import KnownDevice
from peer import json_text as strict_json
from peer.errors import Malformed, UsageError
from peer.files import decode_text
from peer.identity import Fingerprint
from peer.terminal.text import json_text

SCHEMA: Final = 1

_KINDS: Final = MappingProxyType(
    {key: type(value) for key, value in KnownDevice("x", Fingerprint(bytes(32))).record().items()}
)
"""The fields of an entry and their types."""

Book = Mapping[str, KnownDevice]
"""Paired devices by alias."""


def book_bytes(book: Book) -> bytes:
    """The content of the file, one line for each device."""
    lines = ",\n ".join(json_text(book[alias].record()) for alias in sorted(book))
    return f'{{"schema": {SCHEMA}, "devices": [\n {lines}\n]}}\n'.encode()


def book_untrusted(data: bytes) -> dict[str, KnownDevice]:
    """Parse the content of the file. Raises only `Malformed`."""
    if len(data) <= DEVICES_FILE_BYTES:
        decode_text(data)  # its error names an encoding other than UTF-8
    whole = strict_json.decode_untrusted(data, size=DEVICES_FILE_BYTES)
    if not isinstance(whole, dict) or not isinstance(whole.get("schema"), int):
        raise Malformed("it is not a file of known devices")
    if whole["schema"] > SCHEMA:
        raise Malformed(
            f"it was written by a newer version of handfast (schema {whole['schema']})",
            advice="The file was not changed. Update handfast.",
        )
    devices = whole.get("devices")
    if whole.keys() != {"schema", "devices"} or not isinstance(devices, list):
        raise Malformed("it is not a file of known devices")
    book: dict[str, KnownDevice] = {}
    keys: set[Fingerprint] = set()
    for number, record in enumerate(devices, 1):
        device = _device_untrusted(record, number)
        if device.alias in book or device.fingerprint in keys:
            raise Malformed(f"device {number} has the alias or the fingerprint of an earlier one")
        book[device.alias] = device
        keys.add(device.fingerprint)
    return book


def _device_untrusted(record: object, number: int) -> KnownDevice:
    where = f"device {number}"
    if not isinstance(record, dict) or record.keys() != _KINDS.keys():
        raise Malformed(f"{where} has missing or unknown fields")
    for key, kind in _KINDS.items():
        if type(record[key]) is not kind:
            raise Malformed(f"{where}: {key} has the wrong type")
    if not all(isinstance(each, str) for each in record["addresses"]):
        raise Malformed(f"{where}: an address is not text")
    if not 0 < record["port"] <= 65535:
        raise Malformed(f"{where}: the port is not in 1 to 65535")
    try:
        values = {
            **record,
            "alias": check_alias(record["alias"]),
            "fingerprint": Fingerprint.parse(record["fingerprint"]),
            "addresses": tuple(record["addresses"]),
        }
    except (UsageError, Malformed) as error:
        raise Malformed(f"{where}: {error}") from error
    return KnownDevice(**values)
