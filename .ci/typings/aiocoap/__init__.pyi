# Types of the part of aiocoap 0.4 that handfast uses: aiocoap has no py.typed marker.
# tests/peer/net/test_aiocoap_stubs.py compares every name here with the installed aiocoap.

from aiocoap.message import Message as Message
from aiocoap.numbers.codes import (
    CHANGED as CHANGED,
)
from aiocoap.numbers.codes import (
    CONTENT as CONTENT,
)
from aiocoap.numbers.codes import (
    DELETE as DELETE,
)
from aiocoap.numbers.codes import (
    GET as GET,
)
from aiocoap.numbers.codes import (
    POST as POST,
)
from aiocoap.numbers.codes import (
    PUT as PUT,
)
from aiocoap.numbers.codes import Code as Code
from aiocoap.numbers.constants import Reliable as Reliable
from aiocoap.numbers.types import CON as CON
from aiocoap.numbers.types import NON as NON
from aiocoap.numbers.types import RST as RST
from aiocoap.protocol import Context as Context
