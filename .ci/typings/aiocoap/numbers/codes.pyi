from typing import Final

from aiocoap.util import ExtensibleIntEnum

class Code(ExtensibleIntEnum):
    EMPTY = 0
    GET = 1
    POST = 2
    PUT = 3
    DELETE = 4
    FETCH = 5
    PATCH = 6
    iPATCH = 7
    CREATED = 65
    DELETED = 66
    VALID = 67
    CHANGED = 68
    CONTENT = 69
    CONTINUE = 95
    BAD_REQUEST = 128
    UNAUTHORIZED = 129
    BAD_OPTION = 130
    FORBIDDEN = 131
    NOT_FOUND = 132
    METHOD_NOT_ALLOWED = 133
    NOT_ACCEPTABLE = 134
    REQUEST_ENTITY_INCOMPLETE = 136
    CONFLICT = 137
    PRECONDITION_FAILED = 140
    REQUEST_ENTITY_TOO_LARGE = 141
    UNSUPPORTED_CONTENT_FORMAT = 143
    UNPROCESSABLE_ENTITY = 150
    TOO_MANY_REQUESTS = 157
    INTERNAL_SERVER_ERROR = 160
    NOT_IMPLEMENTED = 161
    SERVICE_UNAVAILABLE = 163
    PROXYING_NOT_SUPPORTED = 165
    def is_request(self) -> bool: ...
    def is_response(self) -> bool: ...
    def is_successful(self) -> bool: ...
    @property
    def class_(self) -> int: ...
    @property
    def dotted(self) -> str: ...

GET: Final = Code.GET
POST: Final = Code.POST
PUT: Final = Code.PUT
DELETE: Final = Code.DELETE
CHANGED: Final = Code.CHANGED
CONTENT: Final = Code.CONTENT
