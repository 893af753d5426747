"""Backups as handfast wrote them before they were sealed as a whole.

Such a file is a copy of the store with a note; the note may have the device's key, sealed.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from device_app.console.backup_note import BackupNote
from device_app.console.passphrases import Stretching, normalized
from device_app.console.sealed_key import CIPHER, associated
from iam import backup
from peer.identity import Identity

if TYPE_CHECKING:
    from pathlib import Path


def sealed_key(identity: Identity, passphrase: str) -> dict[str, Any]:
    """The key in a note."""
    stretching, nonce = Stretching.create(bytes(range(16))), bytes(range(12))
    sealed = AESGCM(stretching.key(normalized(passphrase))).encrypt(
        nonce, identity.key_pem(), associated(stretching, identity.fingerprint)
    )
    return {
        "kdf": "scrypt",
        "n": stretching.n,
        "r": stretching.r,
        "p": stretching.p,
        "salt": base64.b64encode(stretching.salt).decode(),
        "cipher": CIPHER,
        "nonce": base64.b64encode(nonce).decode(),
        "sealed": base64.b64encode(sealed).decode(),
    }


def write(home: Path, file: Path, *, name: str = "kitchen", passphrase: str = "") -> None:
    """Write a backup of the device in a folder; with a passphrase, its key is in it."""
    identity = Identity.load(home / "device-key.pem")
    note = json.loads(BackupNote(name, identity.fingerprint, 1_700_000_000).text("0.1"))
    if passphrase:
        note["key"] = sealed_key(identity, passphrase)
    content, _ = backup.copy_of(home / "device.db", json.dumps(note))
    file.write_bytes(content)
