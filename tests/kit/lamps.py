"""A resource with its own attributes, on a device with a policy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiocoap
from aiocoap.resource import ObservableResource

if TYPE_CHECKING:
    from tests.kit.device import Caller, Device, Kit


def policy(role: str, *statements: str, rank: int = 18) -> str:
    """A role with one policy of statements `effect action, action if operator name value`."""
    lines = ["[[policy]]", f'id = "of-{role}"']
    for statement in statements:
        head, _, condition = statement.partition(" if ")
        effect, _, actions = head.partition(" ")
        lines += ["[[policy.statement]]", f'effect = "{effect}"']
        lines.append(f"actions = [{', '.join(f'{a!r}' for a in actions.split(', '))}]")
        if condition:
            operator, name, *values = condition.split(" ")
            listed = ", ".join(f'"{value}"' for value in values)
            lines.append(f'conditions = [{{ {operator} = {{ "{name}" = [{listed}] }} }}]')
    lines += ["[[role]]", f'id = "{role}"', f"rank = {rank}", f'policies = ["of-{role}"]']
    return "\n".join(lines).replace("'", '"')


# --------------------------------------------------------------------------------- the resource


class Lamp(ObservableResource):
    """A lamp with the attributes in `values`; it counts requests for attributes and renderings."""

    def __init__(self) -> None:
        super().__init__()
        self.values: Any = {"Lamp:Room": "hall"}
        self.asked = 0
        self.rendered = 0
        self.paths: list[tuple[str, ...]] = []

    async def render_get(self, _request: aiocoap.Message) -> aiocoap.Message:
        self.rendered += 1
        return aiocoap.Message(payload=b"%d" % self.rendered, content_format=0)

    def attributes(self, request: aiocoap.Message) -> Any:
        self.asked += 1
        self.paths.append(tuple(request.opt.uri_path))
        if isinstance(self.values, Exception):
            raise self.values
        return self.values


MODULE = """
from device_app.resource_spec import ResourceSpec
from tests.kit import lamps

def resources(board):
    lamp = lamps.MADE[-1]
    yield ResourceSpec("/lamp", lamp, actions={"GET": "Lamp:Read"}, attributes=lamp.attributes)
"""
MADE: list[Lamp] = []


async def start_lamp_device(
    kit: Kit, *statements: str, loopback: bool = True
) -> tuple[Device, Lamp, Caller]:
    """A device with a lamp, and a caller whose role has these statements."""
    MADE.append(Lamp())
    folder = kit.home / "modules"
    folder.mkdir(parents=True)
    (folder / "my_telling_lamp.py").write_text(MODULE, encoding="utf-8")
    kit.policy(policy("neighbour", *statements))
    device = await kit.device(modules=("my_telling_lamp",), allow_loopback=loopback)
    return device, MADE[-1], kit.known(device, "nora", "neighbour")


HALL = "Allow Lamp:Read if StringEquals Lamp:Room hall"
