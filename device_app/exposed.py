"""Deprecated name of `device_app.resource_spec`, kept for one release.

`Exposed` is `ResourceSpec` and `Board` is `Board`; importing either from here raises a
`DeprecationWarning`.
"""

import warnings

from device_app import resource_spec

_NEW_NAMES = {"Exposed": "ResourceSpec", "Board": "Board"}


def __getattr__(name: str) -> object:
    new = _NEW_NAMES.get(name)
    if new is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(
        f"device_app.exposed.{name} is device_app.resource_spec.{new} now",
        DeprecationWarning,
        stacklevel=2,
    )
    return getattr(resource_spec, new)
