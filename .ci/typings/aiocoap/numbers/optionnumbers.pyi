from typing import Any

from aiocoap.optiontypes import OptionType
from aiocoap.util import ExtensibleIntEnum

class OptionNumber(ExtensibleIntEnum):
    IF_MATCH = 1
    URI_HOST = 3
    ETAG = 4
    IF_NONE_MATCH = 5
    OBSERVE = 6
    URI_PORT = 7
    LOCATION_PATH = 8
    URI_PATH = 11
    CONTENT_FORMAT = 12
    MAX_AGE = 14
    URI_QUERY = 15
    HOP_LIMIT = 16
    ACCEPT = 17
    LOCATION_QUERY = 20
    BLOCK2 = 23
    BLOCK1 = 27
    SIZE2 = 28
    PROXY_URI = 35
    PROXY_SCHEME = 39
    SIZE1 = 60
    ECHO = 252
    NO_RESPONSE = 258
    REQUEST_TAG = 292
    @property
    def format(self) -> type[OptionType]: ...
    @format.setter
    def format(self, value: type[OptionType]) -> None: ...
    def is_critical(self) -> bool: ...
    def create_option(self, decode: bytes | None = ..., value: Any = ...) -> OptionType: ...
