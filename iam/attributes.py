"""The attributes that a condition can compare: `Module:Name`, each with a text.

Four modules are reserved, and no application can set or name anything in them:

- `Connection`: the subject (set by `iam.access`) and the connection (set by the device: IsLocal is
  true or false, Address is an IP address without port and zone, Interface is a name, Path is lan,
  address, direct or relay).
- `IAM`: the target of an action of /iam. RoleId is the role to be given, or else the target's.
- `Tunnel`: the target of Tunnel:Connect. Service is the name of a TCP service of the device.
- `Clock`: Now, in seconds since 1970; absent while the device does not know the time.

Every other module belongs to the application. A name that differs from a reserved module only in
case is reserved, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from iam.limits import ATTRIBUTE_CHARACTERS_MAX, ATTRIBUTES_MAX

Attributes = Mapping[str, str]

NO_ATTRIBUTES: Final[Attributes] = MappingProxyType({})
NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9]{0,63}:[A-Za-z][A-Za-z0-9]{0,63}")
OWN_MODULES: Final = frozenset({"Connection", "IAM", "Tunnel", "Clock"})
_FOLDED: Final = frozenset(module.lower() for module in OWN_MODULES)

IS_LOCAL: Final = "Connection:IsLocal"
PATH: Final = "Connection:Path"
CLOCK: Final = "Clock:Now"
TUNNEL_SERVICE: Final = "Tunnel:Service"
OF_SUBJECT: Final = frozenset(
    "Connection:" + name
    for name in ("Username", "RoleId", "Fingerprint", "KeyName", "Method", "Verified")
)
OF_DEVICE: Final = frozenset({IS_LOCAL, "Connection:Address", "Connection:Interface", PATH, CLOCK})
OF_TARGET: Final = frozenset({"IAM:Username", "IAM:RoleId", "IAM:Fingerprint", TUNNEL_SERVICE})
OWN: Final = OF_SUBJECT | OF_DEVICE | OF_TARGET


def is_own(name: str) -> bool:
    """True if the name is in a reserved module, whatever its case."""
    return name.partition(":")[0].lower() in _FOLDED


def merged(own: Attributes, application: Attributes) -> Attributes:
    """Return all attributes of a request, without those of the application in reserved modules.

    They are dropped even where `own` has no value: being absent is a value, too.
    """
    if not application:
        return own
    return {name: text for name, text in application.items() if not is_own(name)} | dict(own)


def excess(attributes: Attributes) -> str:
    """Return why these are more than a decision accepts, or an empty text.

    A long text is not truncated: a client could avoid a Deny by sending one.
    """
    if len(attributes) > ATTRIBUTES_MAX:
        return f"there are more than {ATTRIBUTES_MAX} attributes"
    if len("".join(attributes.values())) <= ATTRIBUTE_CHARACTERS_MAX:  # then none is longer
        return ""
    for name, text in attributes.items():
        if len(text) > ATTRIBUTE_CHARACTERS_MAX:
            return f"the attribute {name[:80]} is longer than {ATTRIBUTE_CHARACTERS_MAX} characters"
    return ""
