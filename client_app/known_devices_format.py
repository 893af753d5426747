"""The content of the file of paired devices: JSON, strictly parsed."""

from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any, Final

from client_app.aliases import check_alias
from client_app.known_device import KnownDevice
from client_app.limits import ALIAS_CHARACTERS_QUOTED, DEVICES_FILE_BYTES
from peer import json_text as strict_json
from peer.errors import Malformed, UsageError
from peer.files import decode_text
from peer.fingerprint import Fingerprint
from peer.terminal.text import json_text

SCHEMA: Final = 1

_KINDS: Final = MappingProxyType(
    {key: type(value) for key, value in KnownDevice("x", Fingerprint(bytes(32))).record().items()}
)
"""The fields of an entry and their types."""

_ABSENT: Final = MappingProxyType(
    {**KnownDevice("x", Fingerprint(bytes(32)), method="").record(), "alias": None}
)
"""The values of the fields that a file to import leaves out."""
_WORDS: Final = MappingProxyType({str: "text", int: "a whole number", list: "a list"})
_EXAMPLE: Final = (
    'A device in a file to import is, for example, {"alias": "kitchen", "fingerprint": "1a2b…", '
    '"addresses": ["192.168.1.20"]}; the fingerprint is required.'
)

Book = Mapping[str, KnownDevice]
"""Paired devices by alias."""


def book_bytes(book: Book) -> bytes:
    """The content of the file, one line for each device."""
    lines = ",\n ".join(json_text(book[alias].record()) for alias in sorted(book))
    return f'{{"schema": {SCHEMA}, "devices": [\n {lines}\n]}}\n'.encode()


def book_untrusted(data: bytes) -> dict[str, KnownDevice]:
    """Parse the content of the file. Raises only `Malformed`."""
    whole = _decoded_untrusted(data)
    if not isinstance(whole, dict) or not isinstance(whole.get("schema"), int):
        raise Malformed("it is not a file of known devices")
    if whole.keys() != {"schema", "devices"} or not isinstance(whole["devices"], list):
        raise Malformed("it is not a file of known devices")
    return _book_untrusted(whole["devices"], is_complete=True)


def imported_untrusted(data: bytes) -> dict[str, KnownDevice]:
    """Parse a file to import, which may be written by hand: a fingerprint is enough of a device.

    It is the content of a file of devices, or only the list of them. Raises only `Malformed`.
    """
    whole = _decoded_untrusted(data)
    devices = whole.get("devices") if isinstance(whole, dict) else whole
    if not isinstance(devices, list):
        raise Malformed("it has no list of devices", advice=_EXAMPLE)
    return _book_untrusted(devices, is_complete=False)


def _decoded_untrusted(data: bytes) -> object:
    if len(data) <= DEVICES_FILE_BYTES:
        decode_text(data)  # its error names an encoding other than UTF-8
    whole = strict_json.decode_untrusted(data, size=DEVICES_FILE_BYTES)
    schema = whole.get("schema") if isinstance(whole, dict) else None
    if isinstance(schema, int) and schema > SCHEMA:
        raise Malformed(
            f"it was written by a newer version of handfast (schema {schema})",
            advice="The file was not changed. Update handfast.",
        )
    return whole


def _book_untrusted(devices: list[object], *, is_complete: bool) -> dict[str, KnownDevice]:
    book: dict[str, KnownDevice] = {}
    keys: set[Fingerprint] = set()
    for number, record in enumerate(devices, 1):
        where = f"device {number}"
        if isinstance(record, dict) and isinstance(record.get("alias"), str):
            where += f" ({record['alias'][:ALIAS_CHARACTERS_QUOTED]!r})"
        _check_fields(record, where, is_complete=is_complete)
        device = _device_untrusted({**_ABSENT, **_named(record)}, where)
        if device.alias in book or device.fingerprint in keys:
            raise Malformed(f"{where} has the alias or the fingerprint of an earlier one")
        book[device.alias] = device
        keys.add(device.fingerprint)
    return book


def _check_fields(record: object, where: str, *, is_complete: bool) -> None:
    if not isinstance(record, dict):
        raise Malformed(f"{where} is not an object with fields", advice=_EXAMPLE)
    required = _KINDS.keys() if is_complete else {"fingerprint"}
    if missing := sorted(required - record.keys()):
        raise Malformed(f"{where} has no {', '.join(missing)}", advice=_EXAMPLE)
    if unknown := sorted(record.keys() - _KINDS.keys()):
        said = ", ".join(repr(name[:ALIAS_CHARACTERS_QUOTED]) for name in unknown[:3])
        raise Malformed(
            f"{where} has fields that are not known: {said}",
            advice=f"Fields: {', '.join(_KINDS)}.",
        )


def _named(record: object) -> dict[str, object]:
    """The record with an alias: the name of the device, or its ID."""
    assert isinstance(record, dict)
    if "alias" in record:
        return record
    name, text = record.get("name"), record["fingerprint"]
    with suppress(Malformed):
        if isinstance(text, str):
            return {**record, "alias": name or Fingerprint.parse(text).device_id}
    return {**record, "alias": "device"}  # the error of the fingerprint follows


def _device_untrusted(record: dict[str, object], where: str) -> KnownDevice:
    for key, kind in _KINDS.items():
        if type(record[key]) is not kind:
            raise Malformed(f"{where}: {key} is not {_WORDS[kind]}")
    addresses, port = record["addresses"], record["port"]
    assert isinstance(addresses, list)
    assert isinstance(port, int)
    if not all(isinstance(each, str) for each in addresses):
        raise Malformed(f"{where}: an address is not text")
    if not 0 < port <= 65535:
        raise Malformed(f"{where}: the port is not in 1 to 65535")
    try:
        values: dict[str, Any] = {
            **record,
            "alias": check_alias(str(record["alias"])),
            "fingerprint": Fingerprint.parse(str(record["fingerprint"])),
            "addresses": tuple(addresses),
        }
    except (UsageError, Malformed) as error:
        raise Malformed(f"{where}: {error}", advice=error.advice) from error
    return KnownDevice(**values)
