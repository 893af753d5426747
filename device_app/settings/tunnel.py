"""The settings below `[tunnel]`: the TCP services that clients reach through the device."""

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from device_app.limits import TUNNEL_SERVICES_MAX
from device_app.settings.checks import InvalidSetting
from peer.host_names import is_host_and_port

_PACKAGE: Final = "aioquic"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")  # a client writes NAME:PORT


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelOptions:
    """The values of `[tunnel]`.

    Attributes:
        services: the address of each service, HOST:PORT, by the name that clients use. Without
            one, the device has no tunnels.
    """

    services: Mapping[str, str] = field(default_factory=dict)

    @property
    def trouble(self) -> str:
        """Why the services cannot be reached, with advice; empty if they can. Imports nothing."""
        if not self.services or importlib.util.find_spec(_PACKAGE) is not None:
            return ""
        return (
            f"the services of [tunnel.services] cannot be reached: {_PACKAGE} is not installed. "
            "Install the extra `tunnel` where handfast is installed: "
            "pip install 'handfast[tunnel]'."
        )


def services(value: object) -> Mapping[str, str]:
    """Return services by name, each with its address."""
    if not isinstance(value, dict) or len(value) > TUNNEL_SERVICES_MAX:
        raise InvalidSetting(
            'has to be a table such as { ssh = "127.0.0.1:22" }, of at most '
            f"{TUNNEL_SERVICES_MAX} services"
        )
    for name, target in value.items():
        if not _NAME.fullmatch(name):
            raise InvalidSetting(
                f"has a name that is not valid: {name!r}. Use letters, digits, '-', '_' and '.'"
            )
        if not isinstance(target, str) or not is_host_and_port(target):
            raise InvalidSetting(
                f'has an address that is not valid: {name} = {target!r}. Write "HOST:PORT", for '
                'example "127.0.0.1:22" or "[::1]:8080"'
            )
    return MappingProxyType(dict(value))
