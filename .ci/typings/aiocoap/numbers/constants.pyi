class TransportTuning:
    ACK_TIMEOUT: float
    ACK_RANDOM_FACTOR: float
    MAX_RETRANSMIT: int
    reliability: bool | None

class Reliable(TransportTuning): ...
