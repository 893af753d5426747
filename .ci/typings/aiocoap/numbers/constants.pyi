class TransportTuning:
    ACK_TIMEOUT: float
    MAX_RETRANSMIT: int
    reliability: bool | None

class Reliable(TransportTuning): ...
