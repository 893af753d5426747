"""Resources of applications: how a module of your own adds CoAP resources to the device.

A module that the configuration names (`[resources] modules = ["my_board.lamp"]`), or an entry point
of the group `handfast.resources`, has one function:

    from device_app.resource_spec import Board, ResourceSpec

    def resources(board: Board):
        yield ResourceSpec(
            "/lamp",
            Lamp(),  # any aiocoap.resource.Resource
            actions={"GET": "Lamp:Read", "PUT": "Lamp:Set"},
            least_role={"Lamp:Set": "user"},
            attributes=lambda request: {"Lamp:Room": "hall"},
        )

docs/howto/resources.md explains it, and `device_app.modules` loads it.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import aiocoap
from aiocoap import interfaces

from iam.model import Subject

#: First path segments of the device's own resources.
RESERVED_SEGMENTS = frozenset(
    {"iam", "pair", "hello", "board", ".well-known", "events", "remote", "tunnels"}
)


@dataclass(frozen=True, slots=True)
class Board:
    """The device, for an application's module.

    Attributes:
        name: what people call the device.
        device_id: its short ID.
        subject: returns the user (and key) that sent a request.
    """

    name: str
    device_id: str
    subject: Callable[[aiocoap.Message], Subject]


@dataclass(frozen=True, slots=True)
class ResourceSpec:
    """One resource of an application, at one path.

    Attributes:
        path: where it is served, such as `/lamp`.
        resource: answers the requests; with Observe if it is an `ObservableResource`.
        actions: method → the action that it needs. A method without one is answered with 4.05.
        least_role: action → the lowest role that may perform it. The default is `guest` for the
            action of GET, and `user` for every other.
        attributes: returns what the conditions of policies can compare, from the path, the query
            and the sender of a request. It is called for every request and notification of a user,
            before the body is read. Attributes of handfast's own modules (`Connection`, `IAM`,
            `Clock`) are left out.
        options: the critical options that the resource handles itself: the numbers of If-Match (1)
            and If-None-Match (5), or of the application's own. A request with a critical option
            that is not handled is answered with 4.02 (RFC 7252 §5.4.1). If the resource has a GET,
            handfast handles If-Match and If-None-Match unless they are named here.
        same_for_all: whether the answer to GET depends on the path, the query and Accept only, and
            not on who asks, until `updated_state` is called. A notification is then rendered once
            for all its observers; each is still authorized by itself.
    """

    path: str
    resource: interfaces.Resource
    actions: Mapping[str, str]
    least_role: Mapping[str, str] = field(default_factory=dict)
    attributes: Callable[[aiocoap.Message], Mapping[str, str]] | None = None
    options: Collection[int] = ()
    same_for_all: bool = False

    @property
    def segments(self) -> tuple[str, ...]:
        """The path in CoAP's form."""
        return tuple(part for part in self.path.split("/") if part)

    def roles(self) -> dict[str, str]:
        """Return the lowest role of every action."""
        reading = {action for method, action in self.actions.items() if method == "GET"}
        return {
            action: self.least_role.get(action, "guest" if action in reading else "user")
            for action in self.actions.values()
        }
