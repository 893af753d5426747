"""The file of settings for reaching devices from other networks: JSON with mode 0600.

A device gives each client its settings over a session: brokers, relays, and a secret that belongs
to the pair of the client's key and the device's key. The file is apart from that of the paired
devices, which is printed, exported and synchronized. It names the client's key: with another key,
the secrets in it are of no use, and they are left out.

A file that does not parse, that other users can read or write, or that a newer version wrote is
rejected and never overwritten. Nothing in it decides which device is the right one: a device has to
prove its pinned key whatever the settings say.
"""

from __future__ import annotations  # settings are decoded when a route needs them

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final, Self

from client_app.errors import BookError
from client_app.known_devices import StoredFile
from client_app.limits import (
    REMOTE_FILE_BYTES,
    REMOTE_NOTED_SECONDS,
    REMOTE_NUMBER,
    REMOTE_RETRY_SECONDS,
    REMOTE_SETTINGS_BYTES,
)
from peer import json_text as strict_json
from peer.errors import Malformed
from peer.fingerprint import Fingerprint
from peer.terminal.text import json_text

if TYPE_CHECKING:
    from peer.remote.settings import RemoteSettings

SCHEMA: Final = 1

_FIELDS: Final = MappingProxyType(
    {
        "fingerprint": str,
        "settings": str,
        "revision": int,
        "stated": int,
        "fetched": int,
        "asked": int,
        "route": str,
    }
)
"""The fields of an entry and their types."""
_ROUTES: Final = frozenset({"", "direct", "relay"})
_ADVICE: Final = "The file was not changed. Remove it; handfast fetches the settings again."


@dataclass(frozen=True, slots=True)
class RemoteEntry:
    """The settings of one device, and when they were fetched. Times are seconds since 1970.

    Attributes:
        fingerprint: the device's key.
        encoded: the settings as the device sent them, empty if it has none for this client.
        revision: the revision of these settings.
        stated: the revision that the device has stated last, over a broker.
        fetched: when the settings were received.
        asked: when the device was last asked for them, with success or without.
        route: the carrier of the last session: direct, relay; empty if it was at an address.
    """

    fingerprint: Fingerprint
    encoded: bytes = field(default=b"", repr=False)
    revision: int = 0
    stated: int = 0
    fetched: int = 0
    asked: int = 0
    route: str = ""

    @property
    def won_remotely(self) -> bool:
        """Whether the last session needed a broker, so that the next one probably does, too."""
        return bool(self.route)

    @property
    def is_outdated(self) -> bool:
        """Whether the device has stated another revision than that of the settings."""
        return self.stated not in {0, self.revision}

    def is_due(self, now: float) -> bool:
        """Whether to ask the device for its settings in a session at one of its addresses.

        Settings that seem current are due in each: the device may have replaced the secret, and
        with the former one, nothing is learnt of that over a broker. A device that has answered
        without settings, or not at all, is asked again after `REMOTE_RETRY_SECONDS`.
        """
        if self.encoded and not self.is_outdated and self.asked <= self.fetched:
            return True
        return not 0 <= now - self.asked < REMOTE_RETRY_SECONDS

    def holds(self, encoded: bytes, now: float) -> bool:
        """Whether these settings were stored not long ago, so that nothing is to be written."""
        is_answer = encoded == self.encoded and self.asked == self.fetched and not self.is_outdated
        return bool(encoded) and is_answer and 0 <= now - self.fetched < REMOTE_NOTED_SECONDS

    def settings(self, alias: str) -> RemoteSettings:
        """Decode the settings of the device `alias`. Raises `Malformed`, also if there are none."""
        try:
            return settings_untrusted(self.encoded)
        except Malformed as error:
            raise Malformed(
                f"the stored settings for reaching {alias} are not valid: {error}",
                advice=f"Run `handfast remote {alias} --forget`. They are fetched again when the "
                "device is reached at an address.",
            ) from None

    def with_settings(self, settings: RemoteSettings | None, encoded: bytes, now: float) -> Self:
        """Return the entry after the device was asked; None means that it has no settings."""
        if settings is None:
            return replace(self, encoded=b"", revision=0, stated=0, fetched=0, asked=int(now))
        return replace(
            self,
            encoded=encoded,
            revision=settings.revision,
            stated=0,
            fetched=int(now),
            asked=int(now),
        )

    def with_stated(self, revision: int) -> Self:
        """Return the entry after the device has stated the revision of its settings."""
        if revision == (self.stated or self.revision):
            return self
        return replace(self, stated=revision, asked=0)

    def record(self) -> dict[str, object]:
        """The entry as in the file. It contains the secret."""
        return {
            "fingerprint": self.fingerprint.hex,
            "settings": self.encoded.hex(),
            "revision": self.revision,
            "stated": self.stated,
            "fetched": self.fetched,
            "asked": self.asked,
            "route": self.route,
        }


Entries = dict[Fingerprint, RemoteEntry]


class RemoteBook(StoredFile):
    """The file. Each call reads it again, because another process may have changed it.

    All methods raise `BookError` if the file cannot be read, trusted or written.
    """

    is_secret: ClassVar[bool] = True
    content: ClassVar[str] = "settings"

    def find(self, device: Fingerprint, *, own: Fingerprint) -> RemoteEntry | None:
        """Find the entry of a device; None if there is none for the client with the key `own`."""
        client, entries = self._entries()
        return entries.get(device) if client == own else None

    def update(
        self,
        device: Fingerprint,
        edit: Callable[[RemoteEntry], RemoteEntry],
        *,
        own: Fingerprint,
    ) -> RemoteEntry:
        """Replace the entry of a device, or an empty one, by `edit(entry)`; return it.

        The entries of another client's key are dropped.
        """
        with self.locked():
            client, entries = self._entries()
            entries = entries if client == own else {}
            before = entries.get(device, RemoteEntry(device))
            after = edit(before)
            if after != before:
                self.write(entries_bytes(own, {**entries, device: after}))
        return after

    def forget(self, device: Fingerprint) -> bool:
        """Remove the entry of a device; return whether there was one."""
        if not self.path.exists():
            return False
        with self.locked():
            client, entries = self._entries()
            if client is None or entries.pop(device, None) is None:
                return False
            self.write(entries_bytes(client, entries))
        return True

    def _entries(self) -> tuple[Fingerprint | None, Entries]:
        data = self.read()
        if data is None:
            return None, {}
        try:
            return entries_untrusted(data)
        except Malformed as error:
            raise BookError(
                f"{self.path} cannot be used: {error}", advice=error.advice or _ADVICE
            ) from None  # its cause may quote a secret


def entries_bytes(client: Fingerprint, entries: Entries) -> bytes:
    """The content of the file, one line for each device."""
    lines = ",\n ".join(json_text(one.record()) for one in entries.values())
    head = f'{{"schema": {SCHEMA}, "client": "{client.hex}"'
    return f'{head}, "devices": [\n {lines}\n]}}\n'.encode()


def entries_untrusted(data: bytes) -> tuple[Fingerprint, Entries]:
    """Parse the content of the file. Raises only `Malformed`, which quotes nothing of it."""
    whole = strict_json.decode_untrusted(data, size=REMOTE_FILE_BYTES)
    schema = whole.get("schema") if isinstance(whole, dict) else None
    if type(schema) is int and schema > SCHEMA:
        raise Malformed(
            f"it was written by a newer version of handfast (schema {schema})",
            advice="The file was not changed. Update handfast.",
        )
    if not isinstance(whole, dict) or whole.keys() != {"schema", "client", "devices"}:
        raise Malformed("it is not a file of settings for reaching devices")
    client, devices = whole["client"], whole["devices"]
    if type(schema) is not int or not isinstance(client, str) or not isinstance(devices, list):
        raise Malformed("it is not a file of settings for reaching devices")
    entries: Entries = {}
    for number, record in enumerate(devices, 1):
        entry = _entry_untrusted(record, f"device {number}")
        if entry.fingerprint in entries:
            raise Malformed(f"device {number} has the fingerprint of an earlier one")
        entries[entry.fingerprint] = entry
    return _fingerprint_untrusted(client, "the client"), entries


def settings_untrusted(encoded: bytes) -> RemoteSettings:
    """Decode the settings that a device has sent. Raises only `Malformed`."""
    from peer.remote.settings import RemoteSettings  # noqa: PLC0415 - few commands need them

    if len(encoded) > REMOTE_SETTINGS_BYTES:
        raise Malformed(f"the settings are longer than {REMOTE_SETTINGS_BYTES} bytes")
    return RemoteSettings.decode_untrusted(encoded)


def _entry_untrusted(record: object, where: str) -> RemoteEntry:
    if not isinstance(record, dict) or record.keys() != _FIELDS.keys():
        raise Malformed(f"{where} does not have exactly the fields {', '.join(_FIELDS)}")
    for name, kind in _FIELDS.items():
        if type(record[name]) is not kind:
            raise Malformed(f"{where}: {name} has the wrong type")
        if kind is int and not 0 <= record[name] <= REMOTE_NUMBER:
            raise Malformed(f"{where}: {name} is out of range")
    if record["route"] not in _ROUTES:
        raise Malformed(f"{where}: route is not known")
    try:
        encoded = bytes.fromhex(record["settings"])
    except ValueError:
        raise Malformed(f"{where}: settings are not hexadecimal") from None
    if len(encoded) > REMOTE_SETTINGS_BYTES:
        raise Malformed(f"{where}: settings are longer than {REMOTE_SETTINGS_BYTES} bytes")
    return RemoteEntry(
        fingerprint=_fingerprint_untrusted(record["fingerprint"], where),
        encoded=encoded,
        revision=record["revision"],
        stated=record["stated"],
        fetched=record["fetched"],
        asked=record["asked"],
        route=record["route"],
    )


def _fingerprint_untrusted(text: str, where: str) -> Fingerprint:
    try:
        return Fingerprint.parse(text)
    except Malformed:
        raise Malformed(f"{where}: the fingerprint is not valid") from None
