"""`remote rotate`: the next generation of the remote master key, for a daemon and without one."""

import os
from pathlib import Path

from device_app.access.access_control import AccessControl
from device_app.access.audit_log import CONSOLE
from device_app.access.event_kind import EventKind
from device_app.remote import master_key
from device_app.remote.master_key import MasterKey


def rotate(key_file: Path, access: AccessControl) -> MasterKey:
    """Put the next generation into force, and write the event.

    Raises:
        RemoteTrouble: there is no key, or the file cannot be read or written.
    """
    key = master_key.rotate(key_file, os.urandom(master_key.KEY_BYTES))
    event = access.audit.event(
        EventKind.REMOTE_ROTATED, actor=CONSOLE, detail=f"generation {key.generation}"
    )
    access.audit.append(event)
    return key
