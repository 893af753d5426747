from collections.abc import Callable
from logging import Logger
from typing import NamedTuple

from aiocoap.message import Message

class Pipe:
    class Event(NamedTuple):
        message: Message | None
        exception: Exception | None
        is_last: bool

    request: Message
    def __init__(self, request: Message, log: Logger) -> None: ...
    def on_event(
        self, callback: Callable[[Event], bool], is_interest: bool = ...
    ) -> Callable[[], None]: ...
    def add_response(self, response: Message, is_last: bool = ...) -> None: ...
    def add_exception(self, exception: Exception) -> None: ...
    def on_interest_end(self, callback: Callable[[], object]) -> None: ...
