"""Deprecated name of `device_app.resource_spec`, kept for one release.

`Exposed` is `ResourceSpec` and `Board` is `Board`; importing either from here raises a
`DeprecationWarning`.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from device_app.resource_spec import Board
    from device_app.resource_spec import ResourceSpec as Exposed
else:  # hidden from type checkers, for which any name would exist
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


__all__ = ["Board", "Exposed"]
