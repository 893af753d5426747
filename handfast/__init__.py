"""handfast for Python scripts: pair with devices, and use their resources.

    from handfast import Client, NotPaired

    async with Client() as client:
        kitchen = await client.connect("kitchen")
        print((await kitchen.get("/hello")).text)

`handfast.sync` has the same interface for code without `async`. All errors are subclasses of
`PeerError`. Names are imported on first use, so that `import handfast` is fast.
"""

from handfast.packages import check_packages

check_packages()

TYPE_CHECKING = False  # as in `typing`, whose import would take most of the time
if TYPE_CHECKING:
    from client_app.administration import UNCHANGED, Administration
    from client_app.administration_requests import Unchanged
    from client_app.client import Client
    from client_app.content import Format, Gap, Reply
    from client_app.device import Device
    from client_app.errors import BookError, ClientClosed, Declined, NotKnown
    from client_app.models import (
        Condition,
        Event,
        Events,
        Invitation,
        Invite,
        KnownDevice,
        Paired,
        Permission,
        Policy,
        Role,
        Statement,
        User,
        UserKey,
        Whoami,
        Window,
    )
    from client_app.observation import Observation
    from client_app.pairing.ceremony import Comparison, FoundDevice
    from handfast import sync
    from peer.errors import (
        Cause,
        Denied,
        DeviceFailed,
        HandshakeFailed,
        IdentityError,
        InvalidValue,
        Malformed,
        MessageNotSent,
        NotLocal,
        NotPaired,
        ObservationEnded,
        OtherPort,
        PeerError,
        PinMismatch,
        RefusedByUser,
        RequestFailed,
        SessionFailed,
        TimedOut,
        Unreachable,
        UnsupportedKey,
        UsageError,
        WindowClosed,
        WrongCode,
    )
    from peer.fingerprint import Fingerprint
    from peer.net.adverts import Advert
    from peer.remote.errors import BrokerError, CarrierError, ServerFailure
else:  # hidden from type checkers, for which any name would exist
    import importlib
    import sys

    _MODULES = {
        "client_app.administration": "UNCHANGED Administration",
        "client_app.administration_requests": "Unchanged",
        "client_app.client": "Client",
        "client_app.content": "Format Gap Reply",
        "client_app.device": "Device",
        "client_app.errors": "BookError ClientClosed Declined NotKnown",
        "client_app.models": (
            "Condition Event Events Invitation Invite KnownDevice Paired Permission Policy "
            "Role Statement User UserKey Whoami Window"
        ),
        "client_app.observation": "Observation",
        "client_app.pairing.ceremony": "Comparison FoundDevice",
        "peer.errors": (
            "Cause Denied DeviceFailed HandshakeFailed IdentityError InvalidValue Malformed "
            "MessageNotSent NotLocal NotPaired ObservationEnded OtherPort PeerError "
            "PinMismatch RefusedByUser RequestFailed SessionFailed TimedOut Unreachable "
            "UnsupportedKey UsageError WindowClosed WrongCode"
        ),
        "peer.fingerprint": "Fingerprint",
        "peer.net.adverts": "Advert",
        "peer.remote.errors": "BrokerError CarrierError ServerFailure",
    }
    _HOMES = {name: module for module, names in _MODULES.items() for name in names.split()}

    def __getattr__(name: str) -> object:
        """Import a name on first use."""
        if name == "sync":
            return importlib.import_module("handfast.sync")
        if name not in _HOMES:
            raise AttributeError(
                f"module {__name__!r} has no attribute {name!r}",
                name=name,
                obj=sys.modules[__name__],
            )
        value = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
        return value

    def __dir__() -> list[str]:
        """All public names, also those that are not imported yet."""
        return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})


__all__ = [
    "UNCHANGED",
    "Administration",
    "Advert",
    "BookError",
    "BrokerError",
    "CarrierError",
    "Cause",
    "Client",
    "ClientClosed",
    "Comparison",
    "Condition",
    "Declined",
    "Denied",
    "Device",
    "DeviceFailed",
    "Event",
    "Events",
    "Fingerprint",
    "Format",
    "FoundDevice",
    "Gap",
    "HandshakeFailed",
    "IdentityError",
    "InvalidValue",
    "Invitation",
    "Invite",
    "KnownDevice",
    "Malformed",
    "MessageNotSent",
    "NotKnown",
    "NotLocal",
    "NotPaired",
    "Observation",
    "ObservationEnded",
    "OtherPort",
    "Paired",
    "PeerError",
    "Permission",
    "PinMismatch",
    "Policy",
    "RefusedByUser",
    "Reply",
    "RequestFailed",
    "Role",
    "ServerFailure",
    "SessionFailed",
    "Statement",
    "TimedOut",
    "Unchanged",
    "Unreachable",
    "UnsupportedKey",
    "UsageError",
    "User",
    "UserKey",
    "Whoami",
    "Window",
    "WindowClosed",
    "WrongCode",
    "sync",
]
