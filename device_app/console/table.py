"""The verbs of whoever stands at the board: the same on the running daemon and on the files alone.

Each takes the arguments of its command, as JSON has them, and raises `IamError`, `Malformed` or
`AppError`. No rank is above the board's.
"""

from collections.abc import Callable, Mapping
from typing import Any

from device_app.access.access_control import AccessControl
from device_app.access.explaining import policy_verbs
from device_app.access.invitations import Invitations, invite_verbs
from device_app.console.status import clock_view
from device_app.console.store_recovery import restore_verbs
from device_app.console.users import user_verbs

ConsoleVerb = Callable[[Mapping[str, Any]], dict[str, Any]]


def console_verbs(
    control: AccessControl, invitations: Callable[[], Invitations]
) -> dict[str, ConsoleVerb]:
    """All of them, by name."""

    def clock(args: Mapping[str, Any]) -> dict[str, Any]:
        if args.get("trust_system"):
            control.registry.trust_system_clock()
        return {**clock_view(control.clock), "system": int(control.clock.wall())}

    return {
        **user_verbs(control),
        **invite_verbs(invitations),
        **policy_verbs(control.authority),
        **restore_verbs(control),
        "clock": clock,
    }
