"""The device's side of every method, as the window drives it: bodies in, bodies out (protocol §5).

What a method proves, and how, stands in its own module. Here is only which field of which message
goes where, and where a ceremony of the method begins.
"""

from peer.errors import Malformed
from peer.pairing.ceremony import Fields, Method, Misuse, Stage, Terms
from peer.pairing.compare import NAME as COMPARE
from peer.pairing.compare import CompareDevice

BUTTON = "button"


def bytes_field(message: Fields, name: str) -> bytes:
    """A byte string of a message. Raises `Malformed`."""
    value = message.get(name)
    if not isinstance(value, bytes):
        raise Malformed(f"{name} is missing or is no byte string", advice=f"Send {name} as bytes.")
    return value


class Tags:
    """`compare` and `button`: one tag each way, and nothing before."""

    def __init__(self, terms: Terms, *, method: str) -> None:
        self._half = CompareDevice(terms.channel, terms.role, method=method)

    def begin_untrusted(self, message: Fields) -> Fields:
        """Nothing to say."""
        return {}

    def exchange_untrusted(self, message: Fields) -> Fields:
        """There is no exchange. Raises `Misuse`."""
        raise Misuse("this method has no exchange", advice="Confirm at once.")

    def number(self) -> str:
        """People compare fingerprints, or nothing."""
        return ""

    def check_untrusted(self, message: Fields) -> None:
        """{confirm: the client's tag}."""
        self._half.check_untrusted(bytes_field(message, "confirm"))

    def device_tag(self) -> bytes:
        """Ours."""
        return self._half.device_tag()


def compare() -> Method:
    """Both users compare fingerprints."""
    return Method(COMPARE, lambda terms: Tags(terms, method=COMPARE))


def button() -> Method:
    """Nobody compares anything: whoever is first after the press."""
    return Method(
        BUTTON,
        lambda terms: Tags(terms, method=BUTTON),
        first=Stage.WAITING,
        verified=False,
    )
