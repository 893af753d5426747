"""Resources of the measurements: bodies of several lengths, `/bytes/N`, and a value that changes.

A device loads this module from the folder `modules` beside its `device.toml`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import aiocoap
from aiocoap.numbers.codes import Code
from aiocoap.resource import ObservableResource

from device_app.resource_spec import Board, ResourceSpec
from device_app.resources.plain_resource import PlainResource
from peer.net import plain

if TYPE_CHECKING:
    from collections.abc import Iterator

#: A resource whose changes are rendered once; an older checkout of this project has none.
SHARED = partial(ResourceSpec, same_for_all=True)
ACTIONS = {
    "GET": "Bench:Get",
    "PUT": "Bench:Put",
    "POST": "Bench:Post",
    "DELETE": "Bench:Delete",
}
LENGTHS = (16, 256, 1024, 4096, 16_384, 65_536, 1_048_576)


class Bytes(PlainResource):
    """GET returns the same bytes each time."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self._body = bytes(number % 251 for number in range(length))

    def answer(self, _query: tuple[str, ...], _sender: object, /) -> plain.Answer:
        """Answer with the bytes."""
        return plain.Answer(self._body, 42)


class Value(PlainResource, ObservableResource):
    """GET returns what the last PUT or POST has set; observers are notified of each."""

    def __init__(self) -> None:
        super().__init__()
        self._value = b"off"

    def answer(self, _query: tuple[str, ...], _sender: object, /) -> plain.Answer:
        """Answer with the value."""
        return plain.Answer(self._value, 0)

    def _set(self, value: bytes) -> None:
        self._value = value
        self.updated_state()

    def answer_put(self, write: plain.Write, _sender: object, /) -> plain.Done:
        """Set the value."""
        self._set(write.payload)
        return plain.Done.CHANGED

    def answer_post(self, write: plain.Write, _sender: object, /) -> plain.Done:
        """Set the value."""
        return self.answer_put(write, _sender)

    def answer_delete(self, _write: plain.Write, _sender: object, /) -> plain.Done:
        """Set the value that it had at first."""
        self._set(b"off")
        return plain.Done.DELETED


async def put(self: Value, request: aiocoap.Message) -> aiocoap.Message:
    """Set the value, in a checkout in which only GET has a plain handler."""
    self._set(bytes(request.payload))
    return aiocoap.Message(code=Code.CHANGED)


if not hasattr(plain, "Done"):
    for method in ("put", "post", "delete"):
        setattr(Value, f"render_{method}", put)


def resources(_board: Board) -> Iterator[ResourceSpec]:
    """The resources; every user may use them."""
    for length in LENGTHS:
        path = f"/bytes/{length}"
        yield ResourceSpec(path, Bytes(length), actions={"GET": "Bench:Get"})
    shared = SHARED if "same_for_all" in ResourceSpec.__slots__ else ResourceSpec
    yield shared("/value", Value(), actions=ACTIONS)
