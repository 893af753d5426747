"""The users of this machine who may use the control socket.

They are root and the daemon's own user, and if the daemon runs as a service, the members of the
group `handfast`: the run folder belongs to this group then, and the group may enter it. The file
has mode 0660 in such a folder, else 0600. That is not relied on: the kernel names the user and the
groups of each client (SO_PEERCRED, SO_PEERGROUPS, unix(7)), so a changed mode grants nothing.

The members of the group are those of the moment at which a client's session began, as for every
file. The number of the group is looked up for each client: if it has changed since the start, the
old number may be that of other users, and admits no one.
"""

import asyncio
import grp
import logging
import os
import pwd
import socket
import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from device_app.access.operators import Operator
from device_app.errors import AppError
from device_app.limits import PEER_GROUPS_BYTES
from device_app.settings.paths import SERVICE_GROUP
from peer.terminal.exit_codes import ExitCode

_log = logging.getLogger("handfast.control")
_CREDENTIALS: Final = struct.Struct("@iII")  # pid, uid, gid
_GROUP: Final = struct.Struct("@I")
_SO_PEERGROUPS: Final = 59  # asm-generic/socket.h; Python has no name for it


class Refused(AppError):
    """A user of this machine may not use the control socket."""

    def __init__(self, message: str, *, advice: str) -> None:
        super().__init__(message, advice=advice, code=ExitCode.DENIED)


@dataclass(frozen=True, slots=True)
class Credentials:
    """User and group of the process that has connected, as the kernel reports them."""

    uid: int
    gid: int

    @classmethod
    def of(cls, sock: socket.socket) -> Self:
        """Return those of the process at the other end."""
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _pid, uid, gid = _CREDENTIALS.unpack(raw)
        return cls(uid, gid)


@dataclass(frozen=True, slots=True)
class ConsoleUsers:
    """Decides who may use a control socket; `gid` is the group of the service, or None."""

    gid: int | None

    @classmethod
    def of_folder(cls, folder: Path) -> Self:
        """Return the users for a socket in this folder. Raises `OSError`."""
        found = folder.stat()
        is_shared = bool(found.st_mode & stat.S_IXGRP) and found.st_gid == service_gid()
        return cls(found.st_gid if is_shared else None)

    @property
    def umask(self) -> int:
        """The umask that gives the socket its mode: 0660 for a group, else 0600."""
        return 0o177 if self.gid is None else 0o117

    def take_over(self, path: Path) -> None:
        """Give a new socket file to the group."""
        if self.gid is None or path.lstat().st_gid == self.gid:
            return
        try:
            os.chown(path, -1, self.gid, follow_symlinks=False)
        except PermissionError:
            _log.warning(
                "the group %s cannot use the control socket: the daemon is not a member of it",
                SERVICE_GROUP,
            )

    async def admit(self, sock: socket.socket) -> Operator | None:
        """Return the operator at the other end; None for root and the daemon's own user.

        Raises:
            Refused: this user may not use the socket.
        """
        peer = Credentials.of(sock)
        if peer.uid in {0, os.getuid()}:
            return None
        if self.gid is None:
            raise Refused(
                f"uid {peer.uid} may not use this device's console",
                advice="Run this as the user of the daemon or as root.",
            )
        # A look-up of an account can take long, if it is not in a file of this machine.
        gid = await asyncio.to_thread(service_gid)
        if gid != self.gid:
            raise Refused(
                f"the group {SERVICE_GROUP} has changed since the daemon was started",
                advice="Restart the daemon: systemctl restart handfast-device.",
            )
        if peer.gid != gid and gid not in _groups_of(sock, peer):
            raise Refused(
                f"uid {peer.uid} is not a member of the group {SERVICE_GROUP}",
                advice=f"Run `sudo usermod -aG {SERVICE_GROUP} NAME`, and log in again.",
            )
        return Operator(peer.uid, await asyncio.to_thread(account_name, peer.uid))


def _groups_of(sock: socket.socket, peer: Credentials) -> frozenset[int]:
    """Return the supplementary groups of a client. Raises `Refused` if they cannot be read."""
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, PEER_GROUPS_BYTES)
    except OSError as error:  # ERANGE: there are more
        most = PEER_GROUPS_BYTES // _GROUP.size
        raise Refused(
            f"the groups of uid {peer.uid} cannot be read: {error.strerror}",
            advice=f"A user of the console has at most {most} groups. "
            f"Make {SERVICE_GROUP} the primary one with `newgrp {SERVICE_GROUP}`, or use sudo.",
        ) from error
    return frozenset(gid for (gid,) in _GROUP.iter_unpack(raw))


def service_gid() -> int | None:
    """Return the number of the group of the service, or None if this machine has no such group."""
    try:
        return grp.getgrnam(SERVICE_GROUP).gr_gid
    except KeyError:
        return None


def account_name(uid: int) -> str:
    """Return the name of a user's account, or an empty text without one."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""
