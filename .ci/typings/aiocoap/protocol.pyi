import abc
import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from logging import Logger
from typing import Self

from aiocoap.interfaces import Resource
from aiocoap.message import Message
from aiocoap.pipe import Pipe
from aiocoap.tokenmanager import TokenManager

class Context(metaclass=abc.ABCMeta):
    log: Logger
    loop: asyncio.AbstractEventLoop
    request_interfaces: list[TokenManager]
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop | None = ...,
        serversite: Resource | None = ...,
        loggername: str = ...,
        client_credentials: None = ...,
        server_credentials: None = ...,
    ) -> None: ...
    @classmethod
    async def create_client_context(
        cls,
        *,
        loggername: str = ...,
        loop: asyncio.AbstractEventLoop | None = ...,
        transports: Sequence[str] | None = ...,
    ) -> Self: ...
    @classmethod
    async def create_server_context(
        cls,
        site: Resource | None,
        bind: tuple[str, int] | None = ...,
        *,
        loggername: str = ...,
        loop: asyncio.AbstractEventLoop | None = ...,
        _ssl_context: None = ...,
        multicast: Sequence[object] = ...,
        server_credentials: None = ...,
        transports: Sequence[str] | None = ...,
    ) -> Self: ...
    def request(
        self, request_message: Message, handle_blockwise: bool = ...
    ) -> BlockwiseRequest: ...
    def _render_to_pipe(self, pipe: Pipe) -> Awaitable[None]: ...
    async def shutdown(self) -> None: ...

class BlockwiseRequest(metaclass=abc.ABCMeta):
    observation: ClientObservation | None  # present if the request has the Observe option
    response: asyncio.Future[Message]
    def __init__(self, protocol: Context, app_request: Message) -> None: ...
    @classmethod
    async def _complete_by_requesting_block2(
        cls, protocol: Context, request_to_repeat: Message, initial_response: Message, log: Logger
    ) -> Message: ...

class ClientObservation:
    cancelled: bool
    def __aiter__(self) -> AsyncIterator[Message]: ...
    def cancel(self) -> None: ...
