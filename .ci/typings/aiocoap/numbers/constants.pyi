class TransportTuning:
    EMPTY_ACK_DELAY: float
    ACK_TIMEOUT: float
    ACK_RANDOM_FACTOR: float
    MAX_RETRANSMIT: int
    reliability: bool | None

class Reliable(TransportTuning): ...
