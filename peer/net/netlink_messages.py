"""The classes of pyroute2 that parse the kernel's messages about interfaces, addresses and routes.

`import pyroute2.netlink` first runs `pyroute2/__init__.py`, which imports the whole library: 200
modules and 10 MB, of which these messages need 20 and 2 MB. So they are imported below an empty
package that has only the path of the real one. Afterwards the modules are taken out of
`sys.modules`: an application that imports pyroute2 itself gets all of it, as its authors intend.

Its configuration names classes of `multiprocessing`, for sockets in other processes. The messages
need none, so an empty module replaces that package, which has 0.5 MB.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import ModuleType
from typing import Final

_PACKAGE: Final = "pyroute2"
_UNUSED: Final = "multiprocessing"


@contextmanager
def _without_its_init() -> Iterator[None]:
    """Import modules of the package without the package itself; if it is loaded, use it."""
    if _PACKAGE in sys.modules or (spec := find_spec(_PACKAGE)) is None:
        yield
        return
    package = sys.modules[_PACKAGE] = ModuleType(_PACKAGE)
    package.__path__ = list(spec.submodule_search_locations or ())
    stand_in = ModuleType(_UNUSED)
    stand_in.__getattr__ = lambda _name: None  # type: ignore[method-assign]  # PEP 562
    sys.modules.setdefault(_UNUSED, stand_in)
    try:
        yield
    finally:
        for name in [one for one in sys.modules if one.partition(".")[0] == _PACKAGE]:
            del sys.modules[name]
        if sys.modules[_UNUSED] is stand_in:
            del sys.modules[_UNUSED]


with _without_its_init():
    from pyroute2.netlink import (
        NETLINK_GET_STRICT_CHK,
        NLM_F_DUMP,
        NLM_F_DUMP_INTR,
        NLM_F_REQUEST,
        NLMSG_DONE,
        SOL_NETLINK,
        nlmsg,
    )
    from pyroute2.netlink.marshal import Marshal
    from pyroute2.netlink.rtnl import (
        RTM_GETADDR,
        RTM_GETLINK,
        RTM_GETROUTE,
        RTM_NEWADDR,
        RTM_NEWLINK,
        RTM_NEWROUTE,
        RTMGRP_IPV4_IFADDR,
        RTMGRP_IPV6_IFADDR,
        RTMGRP_LINK,
        rt_proto,
        rt_type,
    )
    from pyroute2.netlink.rtnl.ifaddrmsg import (
        IFA_F_DADFAILED,
        IFA_F_DEPRECATED,
        IFA_F_OPTIMISTIC,
        IFA_F_TEMPORARY,
        IFA_F_TENTATIVE,
        ifaddrmsg,
    )
    from pyroute2.netlink.rtnl.ifinfmsg import (
        IFF_LOOPBACK,
        IFF_NOARP,
        IFF_POINTOPOINT,
        IFF_UP,
        ifinfmsg,
    )
    from pyroute2.netlink.rtnl.rtmsg import rtmsg

__all__ = [
    "IFA_F_DADFAILED",
    "IFA_F_DEPRECATED",
    "IFA_F_OPTIMISTIC",
    "IFA_F_TEMPORARY",
    "IFA_F_TENTATIVE",
    "IFF_LOOPBACK",
    "IFF_NOARP",
    "IFF_POINTOPOINT",
    "IFF_UP",
    "NETLINK_GET_STRICT_CHK",
    "NLMSG_DONE",
    "NLM_F_DUMP",
    "NLM_F_DUMP_INTR",
    "NLM_F_REQUEST",
    "RTMGRP_IPV4_IFADDR",
    "RTMGRP_IPV6_IFADDR",
    "RTMGRP_LINK",
    "RTM_GETADDR",
    "RTM_GETLINK",
    "RTM_GETROUTE",
    "SOL_NETLINK",
    "TableParser",
    "nlmsg",
    "rt_proto",
    "rt_type",
]


class TableParser(Marshal):  # type: ignore[misc]  # pyroute2 ships no types
    """Parses the answers to requests for interfaces, addresses and routes."""

    msg_map: dict[int, type[nlmsg]] = {  # noqa: RUF012 - the name and type are those of the base
        RTM_NEWLINK: ifinfmsg,
        RTM_NEWADDR: ifaddrmsg,
        RTM_NEWROUTE: rtmsg,
    }
