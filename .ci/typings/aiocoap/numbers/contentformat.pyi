from aiocoap.util import ExtensibleIntEnum

class ContentFormat(ExtensibleIntEnum):
    TEXT = 0
    LINKFORMAT = 40
    OCTETSTREAM = 42
    JSON = 50
    CBOR = 60
