from enum import IntEnum
from typing import Final

class Type(IntEnum):
    CON = 0
    NON = 1
    ACK = 2
    RST = 3

CON: Final = Type.CON
NON: Final = Type.NON
ACK: Final = Type.ACK
RST: Final = Type.RST
