"""Messages to several peers that differ in their header and token only."""

import struct
from typing import Self

import aiocoap

_VERSION = 1


class SharedMessage(aiocoap.Message):
    """A message whose options and payload are encoded once for all peers; nothing changes them."""

    encoded: bytes
    content_format: int | None
    number: int

    @classmethod
    def of(cls, message: aiocoap.Message, number: int) -> Self:
        """Return a message with the options and the payload of another one, and nothing else.

        `number` is the place of its Observe option in the order of all of them.
        """
        made = cls(code=message.code, payload=message.payload)
        made.opt, made.number = message.opt, number
        found = message.opt.content_format
        made.content_format = None if found is None else int(found)
        marker = b"\xff" if message.payload else b""
        made.encoded = message.opt.encode() + marker + message.payload
        return made

    def another(self) -> Self:
        """Return this message for another peer. It shares the options, which must not be set."""
        made = type(self).__new__(type(self))
        made.__dict__.update(self.__dict__)
        return made

    def encode(self) -> bytes:
        """Return the binary form (RFC 7252 §3)."""
        assert self.mtype is not None
        assert self.mid is not None
        first = _VERSION << 6 | self.mtype << 4 | len(self.token)
        return struct.pack("!BBH", first, self.code, self.mid) + self.token + self.encoded
