"""The key in a backup: taken out with its passphrase, and put into a board that replaces another.

Two boards must never run with one key, and users must never meet a board with a key that is not
theirs. So a key is put only where it is already, or where there are no users.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from device_app.console.backup import note_of
from device_app.console.sealed_key import unsealed_untrusted
from device_app.errors import AppError
from device_app.settings.paths import Paths
from iam import files, openfile
from iam.store import Store
from peer.errors import IdentityError
from peer.files import atomic_write
from peer.identity import Identity


def taken_from(file: Path, passphrase: Callable[[], str]) -> Identity:
    """Return the key in a backup. `passphrase` is called if there is one.

    Raises:
        AppError: there is no key in the file.
        WrongCode, Malformed: it cannot be opened.
    """
    note = note_of(file)
    if note is None or note.key is None:
        raise AppError(
            f"there is no key in {file}",
            advice="`handfast-device backup --with-key FILE` makes a backup with the key.",
        )
    return unsealed_untrusted(note.key, passphrase(), note.fingerprint)


def check_place(paths: Paths, identity: Identity) -> None:
    """Check that a board may get this key, and create its store if there is none.

    Raises:
        AppError: the board has another key, and users.
        IamError: the store cannot be opened.
    """
    files.create_folder(paths.state, 0o700)
    with files.acting_as_owner_of(paths.state):
        before = None
        with suppress(IdentityError):
            before = Identity.load(paths.key).fingerprint
        if openfile.has_traces(paths.store) and before != identity.fingerprint:
            store = Store.open(paths.store)
            has_users = bool(store.state.users)
            store.close()
            if has_users:
                raise AppError(
                    "this board has users, and another key than the backup",
                    advice="Restore without --with-key, or first run `handfast-device reset`.",
                )
        elif not openfile.has_traces(paths.store):
            Store.open(paths.store).close()


def put(paths: Paths, identity: Identity) -> None:
    """Make a key the board's. Raises `AppError`."""
    try:
        with files.acting_as_owner_of(paths.state):
            atomic_write(paths.key, identity.key_pem(), is_secret=True)
    except OSError as error:
        raise AppError(
            f"the key cannot be written to {paths.key}: {error.strerror}",
            advice="The users were restored. Mend the disk, and run the command again.",
        ) from error
