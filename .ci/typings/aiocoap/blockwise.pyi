from collections.abc import Awaitable, Callable, MutableMapping
from typing import TypeAlias

from aiocoap.error import ConstructionRenderableError
from aiocoap.message import Message

_BlockKey: TypeAlias = tuple[object, ...]

def _extract_block_key(message: Message) -> _BlockKey: ...

class IncompleteException(ConstructionRenderableError): ...

class Block1Spool:
    _assemblies: MutableMapping[_BlockKey, Message]
    def __init__(self) -> None: ...
    def feed_and_take(self, req: Message) -> Message: ...

class Block2Cache:
    _completes: MutableMapping[_BlockKey, Message]
    def __init__(self) -> None: ...
    async def extract_or_insert(
        self, req: Message, response_builder: Callable[[], Awaitable[Message]]
    ) -> Message: ...
