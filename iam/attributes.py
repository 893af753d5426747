"""The circumstances of a request that a condition may ask for: `Module:Name`, each a text.

Three modules are ours and nobody else can set or name anything in them:

- `Connection`: who asks (filled in by `iam.access` from the subject) and by which way (by the
  device: IsLocal is true or false, Address an IP address without port and zone, Interface).
- `IAM`: whom an action of /iam is about. RoleId is the role that is given, or else the target's.
- `Clock`: Now, in seconds since 1970; absent while the device does not know the time.

Every other module is an application's. A module that differs from ours in case only is no
application's either: what looks like ours has to be ours.
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
OWN_MODULES: Final = frozenset({"Connection", "IAM", "Clock"})
_FOLDED: Final = frozenset(module.lower() for module in OWN_MODULES)

IS_LOCAL: Final = "Connection:IsLocal"
CLOCK: Final = "Clock:Now"
OF_SUBJECT: Final = frozenset(
    "Connection:" + name
    for name in ("Username", "RoleId", "Fingerprint", "KeyName", "Method", "Verified")
)
OF_DEVICE: Final = frozenset({IS_LOCAL, "Connection:Address", "Connection:Interface", CLOCK})
OF_TARGET: Final = frozenset({"IAM:Username", "IAM:RoleId", "IAM:Fingerprint"})
OWN: Final = OF_SUBJECT | OF_DEVICE | OF_TARGET


def is_own(name: str) -> bool:
    """Is this name in a module of ours, however its case?"""
    return name.partition(":")[0].lower() in _FOLDED


def merged(own: Attributes, application: Attributes) -> Attributes:
    """All attributes of a request. What an application says in a module of ours is left out,
    also where `own` does not say anything: absent is an answer too."""
    return {name: text for name, text in application.items() if not is_own(name)} | dict(own)


def excess(attributes: Attributes) -> str:
    """Why these are more than a decision looks at, or nothing.

    Cutting them would let whoever chooses a text step out of the reach of a Deny.
    """
    if len(attributes) > ATTRIBUTES_MAX:
        return f"there are more than {ATTRIBUTES_MAX} attributes"
    for name, text in attributes.items():
        if len(text) > ATTRIBUTE_CHARACTERS_MAX:
            return f"the attribute {name[:80]} is longer than {ATTRIBUTE_CHARACTERS_MAX} characters"
    return ""
