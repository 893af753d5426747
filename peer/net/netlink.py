"""Netlink sockets, and the dumps of the kernel's tables.

pyroute2 parses the messages. The socket is opened here, since the blocking interface of pyroute2
runs an event loop of its own and cannot be used inside a running one. The kernel answers within a
millisecond, so that reading a table does not need a task.
"""

import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Final

from peer.limits import NETLINK_DUMPS, NETLINK_SECONDS
from peer.net.netlink_messages import (
    NETLINK_GET_STRICT_CHK,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLM_F_REQUEST,
    NLMSG_DONE,
    SOL_NETLINK,
    TableParser,
    nlmsg,
)

BUFFER_BYTES: Final = 1 << 16
"""More than the kernel puts into one part of a dump (32 KiB)."""

_HEADER: Final = struct.Struct("=IHHII")  # struct nlmsghdr
_EVERYTHING: Final = bytes(16)  # struct ifinfomsg: every family, every interface


def open_netlink(groups: int = 0) -> socket.socket:
    """Open a netlink socket that receives the notifications of some groups. Raises `OSError`."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    try:
        sock.bind((0, groups))
    except OSError:
        sock.close()
        raise
    return sock


def dump(
    what: int, body: bytes = _EVERYTHING, *, strict: bool = False, most: int | None = None
) -> list[nlmsg]:
    """Read one of the kernel's tables, whole and unchanged meanwhile.

    Args:
        what: the type of the request, for example `RTM_GETADDR`.
        body: the request, which selects entries.
        strict: make the kernel obey the whole request; kernels before 4.20 ignore parts of it.
        most: the number of entries that are read at most.

    Raises:
        OSError: the kernel refuses or does not answer, the table has too many entries, or it
            changes with every attempt.
    """
    for _ in range(NETLINK_DUMPS):
        messages = list(islice(_answers(what, body, strict=strict), most))
        if most is not None and len(messages) == most:
            raise OSError(f"a table of the kernel has {most} entries or more")
        if not any(message["header"]["flags"] & NLM_F_DUMP_INTR for message in messages):
            return messages
    raise InterruptedError("a table of the kernel changes while it is read")


def _answers(what: int, body: bytes, *, strict: bool) -> Iterator[nlmsg]:
    with open_netlink() as sock:
        sock.settimeout(NETLINK_SECONDS)
        if strict:
            with suppress(OSError):  # an old kernel: the caller filters the answer as well
                sock.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)
        size, flags = _HEADER.size + len(body), NLM_F_REQUEST | NLM_F_DUMP
        sock.send(_HEADER.pack(size, what, flags, 1, 0) + body)
        while True:
            data, (sender, _) = sock.recvfrom(BUFFER_BYTES)
            if sender:  # not the kernel
                continue
            for message in TableParser().parse(data):
                header = message["header"]
                if header.get("error") is not None:
                    raise OSError(f"the kernel refuses to show a table: {header['error']}")
                if header["type"] == NLMSG_DONE:
                    return
                yield message
