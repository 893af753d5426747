import abc
from collections.abc import Callable

from aiocoap.message import Message
from aiocoap.messagemanager import MessageManager
from aiocoap.pipe import Pipe
from aiocoap.protocol import Context

class TokenManager(metaclass=abc.ABCMeta):
    outgoing_requests: dict[tuple[bytes, object], Pipe]  # both are None after `shutdown`
    incoming_requests: dict[tuple[bytes, object], tuple[Pipe, Callable[[], None]]]
    _token: int
    token_interface: MessageManager
    def __init__(self, context: Context) -> None: ...
    def request(self, request: Pipe) -> None: ...
    def process_request(self, request: Message) -> None: ...
    def dispatch_error(self, exception: Exception, remote: object) -> None: ...
