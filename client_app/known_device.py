"""A paired device, as this client stores it.

It is apart from the other values of the client, of which most commands need few: a dataclass takes
a millisecond to create.
"""

from dataclasses import dataclass

from peer.fingerprint import Fingerprint

IMPORTED = "imported"
"""The method of an entry that was imported from another client."""


@dataclass(frozen=True, slots=True)
class KnownDevice:
    """A paired device, as stored by this client.

    Attributes:
        alias: the name of the device on this client.
        fingerprint: the key that the device must prove.
        name: the name that the device gives itself.
        user, role: the user and role of this client on the device, as of the pairing.
        method: the pairing method; `imported` if only another client was paired.
        port: the regular UDP port.
        last_seen: the address at which it last answered, `HOST:PORT` or empty.
        addresses: further addresses, `HOST[:PORT]` each.
    """

    alias: str
    fingerprint: Fingerprint
    name: str = ""
    user: str = ""
    role: str = ""
    method: str = "compare"
    port: int = 5684
    last_seen: str = ""
    addresses: tuple[str, ...] = ()

    @property
    def is_imported(self) -> bool:
        """Whether the entry comes from another client, and this client is not paired yet."""
        return self.method == IMPORTED

    def record(self) -> dict[str, object]:
        """The entry as in the file and in `--json`."""
        return {
            "alias": self.alias,
            "fingerprint": self.fingerprint.hex,
            "name": self.name,
            "user": self.user,
            "role": self.role,
            "method": self.method,
            "port": self.port,
            "last_seen": self.last_seen,
            "addresses": list(self.addresses),
        }
