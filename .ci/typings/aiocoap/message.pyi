from collections.abc import Sequence
from enum import Enum
from typing import Any, Self

from aiocoap.numbers.codes import Code
from aiocoap.numbers.constants import TransportTuning
from aiocoap.numbers.types import Type
from aiocoap.options import Options

class Direction(Enum):
    INCOMING = ...
    OUTGOING = ...

class Message:
    code: Code  # None until the handler of a request returns
    mid: int  # None until the message is sent
    mtype: Type  # likewise
    opt: Options
    payload: bytes
    token: bytes
    remote: Any  # the transport's own class: here peer.net.remote.CoapsRemote
    direction: Direction
    request: Message | None
    transport_tuning: TransportTuning
    def __init__(
        self,
        *,
        mtype: Type | None = ...,
        mid: int | None = ...,
        code: int | None = ...,
        payload: bytes = ...,
        token: bytes = ...,
        uri: str | None = ...,
        transport_tuning: TransportTuning | type[TransportTuning] | None = ...,
        _mid: int | None = ...,
        _mtype: int | None = ...,
        _token: bytes = ...,
        # the options that handfast passes here
        accept: int = ...,
        content_format: int = ...,
        location_path: Sequence[str] = ...,
        max_age: int | None = ...,
        proxy_scheme: str = ...,
        observe: int = ...,
        uri_path: Sequence[str] = ...,
        uri_query: Sequence[str] = ...,
        size1: int = ...,
        block1: tuple[int, bool, int] = ...,
        block2: tuple[int, bool, int] = ...,
        etag: bytes = ...,
    ) -> None: ...
    def get_cache_key(self, ignore_options: Sequence[int] = ...) -> tuple[object, ...]: ...
    def copy(
        self,
        *,
        code: int | None = ...,
        mid: int | None = ...,
        mtype: int = ...,
        payload: bytes = ...,
        token: bytes = ...,
        observe: int | None = ...,
        uri_path: Sequence[str] = ...,
        uri_query: Sequence[str] = ...,
        content_format: int | None = ...,
        max_age: int | None = ...,
        block2: tuple[int, bool, int] | None = ...,
        etags: Sequence[bytes] = ...,
        size2: int | None = ...,
    ) -> Self: ...
    @classmethod
    def decode(cls, rawdata: bytes, remote: object = ...) -> Self: ...
    def encode(self) -> bytes: ...
