"""Nabto's IAM state (versions 1 and 2): the paired users.

    {"Version": 2, "Users": [{"Username", "DisplayName", "Role",
                              "Fingerprints": [{"Fingerprint", "Name"} …],
                              "Password", "ServerConnectToken", "Fcm": {…}, …} …],
     "LocalOpenPairing": true, "OpenPairingPassword": …, …}

Version 1 has one "Fingerprint" in the place of the list. A user is imported with name, role,
display name and keys. A user who cannot log in by a key there (one who was invited and has not
paired), or who may do nothing there (without a role, or with one that the configuration does not
define), is left out: handfast has invites for that. A note names the field of a secret, never its
value. An error shows no value at all, because in a damaged file a secret can be in the place of a
name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from iam.limits import NAME_CHARACTERS_MAX
from iam.model import Key, User
from iam.nabto.config import check_version, read_name
from iam.nabto.json_nodes import KINDS, JsonNode, read, shown
from iam.nabto.statements import Notes
from iam.values import FINGERPRINT

METHOD: Final = "imported"

_USERNAME: Final = re.compile(r"[a-z0-9_.-]{1,64}")
_NO_PUSH: Final = "handfast sends no push messages"
_OPEN: Final = "open a pairing window when a client is to pair"
_CONNECT: Final = "handfast has no server connect tokens"

_SETTINGS: Final[Mapping[str, tuple[type, str]]] = {
    "OpenPairingPassword": (str, _OPEN),
    "OpenPairingSct": (str, _CONNECT),
    "LocalOpenPairing": (bool, _OPEN),
    "PasswordOpenPairing": (bool, _OPEN),
    "PasswordInvitePairing": (bool, "make an invite for each new user"),
    "LocalInitialPairing": (bool, _OPEN),
    "OpenPairingRole": (str, "name the role when you open a window"),
    "InitialPairingUsername": (str, "a client that pairs proposes a name"),
    "FriendlyName": (str, "write it to device.toml as the device's name"),
}
_OF_USER: Final[Mapping[str, tuple[type, str]]] = {
    "ServerConnectToken": (str, _CONNECT),
    "Password": (str, "make an invite for a user who has no key yet"),
    "Fcm": (dict, _NO_PUSH),
    "NotificationCategories": (list, _NO_PUSH),
    "OauthSubject": (str, "a user of handfast is known by keys"),
}
_OFF: Final[tuple[object, ...]] = (False, "", [], {})  # values without information


@dataclass(frozen=True, slots=True)
class ImportedState:
    """Users to be added. Their keys have the method "imported" and are not verified."""

    users: tuple[User, ...]
    notes: tuple[str, ...]


def read_state(text: str, *, file: str, roles: Mapping[str, str]) -> ImportedState:
    """Read a state. Raises PolicyFileError with file, line and path.

    `roles` are those of its configuration, each with its name in handfast (`Imported.role_ids`).
    """
    root = read(text, file=file)
    notes = Notes()
    version = check_version(root, 1, 2)
    notes.unknown(root, "Version", "Users", *_SETTINGS)
    _note_left_out(root, _SETTINGS, notes)
    listed = root.get("Users")
    users = tuple(_users([] if listed is None else listed.items(), version, roles, notes))
    return ImportedState(users, tuple(notes.found))


def _users(
    listed: list[JsonNode], version: int, roles: Mapping[str, str], notes: Notes
) -> Iterator[User]:
    names: set[str] = set()
    taken: dict[str, JsonNode] = {}
    fingerprints = "Fingerprint" if version == 1 else "Fingerprints"
    for node in listed:
        notes.unknown(node, "Username", "DisplayName", "Role", fingerprints, *_OF_USER)
        name = _username(node.required("Username"))
        if name in names:
            raise node.error("another user above has this name", "Remove one of them.")
        names.add(name)
        _note_left_out(node, _OF_USER, notes)
        keys = tuple(_keys(node, version, notes, taken))
        role = node.get("Role")
        display = _label(node.get("DisplayName"), notes)
        if role is None:
            notes.add(node, f"the user {name} has no role and may do nothing; left out")
            continue
        if (role_name := roles.get(read_name(role))) is None:
            notes.add(
                role,
                f"the configuration has no role {shown(role.text())}; the user {name} may do "
                "nothing and is left out",
            )
            continue
        if role_name != role.text():
            notes.add(role, f"handfast has a role {role.text()}; the imported one is {role_name}")
        if not keys:
            notes.add(
                node,
                f"the user {name} has no key and is left out; make an invite for {name} "
                f"with the role {role_name}",
            )
            continue
        yield User(name, role_name, keys, display)


def _username(node: JsonNode) -> str:
    if not _USERNAME.fullmatch(node.text()):
        raise node.error(
            "this is not a user name of Nabto's",
            "It is made of a-z, 0-9, '.', '_' and '-', 64 at most.",
        )
    return node.text()


def _keys(node: JsonNode, version: int, notes: Notes, taken: dict[str, JsonNode]) -> Iterator[Key]:
    """The user's keys; `taken` has every key so far, and where it is."""
    for key_node, name in _fingerprints(node, version, notes):
        fingerprint = key_node.text()
        if not FINGERPRINT.fullmatch(fingerprint):
            if not FINGERPRINT.fullmatch(fingerprint.lower()):
                raise key_node.error("this is not 64 hex digits", "Give the whole fingerprint.")
            notes.add(
                key_node,
                "Nabto accepts no fingerprint in capitals; the key is left out; add it if its "
                "client is to have access",
            )
            continue
        if (before := taken.get(fingerprint)) is not None:
            raise key_node.error(
                f"this key occurs twice, first in line {before.line}", "Remove one of them."
            )
        taken[fingerprint] = key_node
        yield Key(fingerprint, _label(name, notes), METHOD, verified=False)


def _fingerprints(
    node: JsonNode, version: int, notes: Notes
) -> Iterator[tuple[JsonNode, JsonNode | None]]:
    """Each fingerprint with its name."""
    if version == 1:
        if (only := node.get("Fingerprint")) is not None:
            yield only, None
    elif (listed := node.get("Fingerprints")) is not None:
        for one in listed.items():
            notes.unknown(one, "Fingerprint", "Name")
            yield one.required("Fingerprint"), one.get("Name")


def _label(node: JsonNode | None, notes: Notes) -> str:
    """A name for display; one that is too long or not printable is left out."""
    if node is None:
        return ""
    if len(node.text()) > NAME_CHARACTERS_MAX or not node.text().isprintable():
        notes.add(
            node, f"this is not printable text of at most {NAME_CHARACTERS_MAX}; it is left out"
        )
        return ""
    return node.text()


def _note_left_out(node: JsonNode, fields: Mapping[str, tuple[type, str]], notes: Notes) -> None:
    """Add a note for each field that is set and not imported, without its value."""
    for field, (kind, instead) in fields.items():
        if (found := node.get(field)) is None:
            continue
        if type(found.value) is not kind:
            raise found.error(f"{found.kind} where {KINDS[kind]} is expected")
        if found.value not in _OFF:
            notes.add(found, f"not imported: {instead}")
