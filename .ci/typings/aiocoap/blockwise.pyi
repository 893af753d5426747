from collections.abc import MutableMapping
from typing import TypeAlias

from aiocoap.error import ConstructionRenderableError
from aiocoap.message import Message

_BlockKey: TypeAlias = tuple[object, ...]

class IncompleteException(ConstructionRenderableError): ...

class Block1Spool:
    _assemblies: MutableMapping[_BlockKey, Message]
    def __init__(self) -> None: ...
    def feed_and_take(self, req: Message) -> Message: ...
