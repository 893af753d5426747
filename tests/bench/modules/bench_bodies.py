"""Resources of the measurements: bodies of several lengths, `/bytes/N`, and a value that changes.

A device loads this module from the folder `modules` beside its `device.toml`.
"""

from collections.abc import Iterator
from functools import partial

import aiocoap
from aiocoap.numbers.codes import Code
from aiocoap.resource import ObservableResource, Resource

from device_app.resource_spec import Board, ResourceSpec

#: A resource whose changes are rendered once; an older checkout of this project has none.
SHARED = partial(ResourceSpec, same_for_all=True)
LENGTHS = (16, 256, 1024, 4096, 16_384, 65_536, 1_048_576)


class Bytes(Resource):
    """GET returns the same bytes each time."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self._body = bytes(number % 251 for number in range(length))

    async def render_get(self, _request: aiocoap.Message) -> aiocoap.Message:
        """Answer with the bytes."""
        return aiocoap.Message(payload=self._body, content_format=42)


class Value(ObservableResource):
    """GET returns what the last PUT has set; observers are notified of each."""

    def __init__(self) -> None:
        super().__init__()
        self._value = b"off"

    async def render_get(self, _request: aiocoap.Message) -> aiocoap.Message:
        """Answer with the value."""
        return aiocoap.Message(payload=self._value, content_format=0)

    async def render_put(self, request: aiocoap.Message) -> aiocoap.Message:
        """Set the value."""
        self._value = bytes(request.payload)
        self.updated_state()
        return aiocoap.Message(code=Code.CHANGED)


def resources(_board: Board) -> Iterator[ResourceSpec]:
    """The resources; every user may use them."""
    for length in LENGTHS:
        path = f"/bytes/{length}"
        yield ResourceSpec(path, Bytes(length), actions={"GET": "Bench:Get"})
    shared = SHARED if "same_for_all" in ResourceSpec.__slots__ else ResourceSpec
    yield shared("/value", Value(), actions={"GET": "Bench:Get", "PUT": "Bench:Put"})
