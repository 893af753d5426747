"""Both sides of every method, as window and client drive them: bodies in, bodies out (protocol §5).

What a method proves, and how, stands in its own module. Here is only which field of which message
goes where, where a ceremony of the method begins, and who is asked.

    method   start          answer    exchange       answer    confirm            answer
    compare                                                    confirm            confirm
    sas                     commit    nonce          nonce     confirm            confirm
    code     round_one      rounds                             round_two, confirm confirm
    label                                                      token, confirm     confirm
    button                                                     confirm            confirm
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from peer.errors import Malformed
from peer.identity import Fingerprint
from peer.pairing import code as codes
from peer.pairing import compare as tags
from peer.pairing import label as labels
from peer.pairing import sas as numbers
from peer.pairing.ceremony import Fields, Stage
from peer.pairing.errors import Mismatch, Misuse
from peer.pairing.sides import OfferedMethod, Terms
from peer.pairing.typed import TypedCode

COMPARE, SAS, CODE, LABEL, BUTTON = tags.NAME, numbers.NAME, codes.NAME, labels.NAME, "button"
NAMES = (LABEL, CODE, SAS, COMPARE, BUTTON)
"""Every method there is, the one that asks least of people for the most safety first."""

RandomBytes = Callable[[int], bytes]
"""So many random bytes."""


class Secret(Protocol):
    """The secret of a device's code as it is now."""

    def __call__(self, *, printed: bool) -> bytes:
        """Of the one on the label, or of the one on the screen. Where there is none: random bytes,
        so that asking for it looks like a wrong code."""


class OnTry(Protocol):
    """Counts a try at a code of the device."""

    def __call__(self, *, printed: bool) -> None:
        """At the one on the label, or at the one on the screen."""


def bytes_field(message: Fields, name: str) -> bytes:
    """A byte string of a message. Raises `Malformed`."""
    value = message.get(name)
    if not isinstance(value, bytes):
        raise Malformed(
            f"{name} is missing or is not a byte string", advice=f"Send {name} as bytes."
        )
    return value


# -- the device's side ----------------------------------------------------------------------------


class _Device:
    """What most methods have nothing to say to."""

    def begin_untrusted(self, message: Fields) -> Fields:
        """Nothing beside the terms."""
        return {}

    def exchange_untrusted(self, message: Fields) -> Fields:
        """There is no exchange. Raises `Misuse`."""
        raise Misuse("this method has no exchange", advice="Send the confirmation instead.")

    def number(self) -> str:
        """People compare fingerprints, or nothing."""
        return ""


class _CompareDevice(_Device):
    """`compare` and `button`: one tag each way."""

    def __init__(self, terms: Terms, *, method: str) -> None:
        self._half = tags.CompareDevice(terms.channel, terms.role, method=method)

    def check_untrusted(self, message: Fields) -> None:
        """{confirm}."""
        self._half.check_untrusted(bytes_field(message, "confirm"))

    def device_tag(self) -> bytes:
        """Ours."""
        return self._half.device_tag()


class _SasDevice(_Device):
    """`sas`: the commitment, both nonces, and then tags."""

    def __init__(self, terms: Terms, *, random_bytes: RandomBytes) -> None:
        self._half = numbers.SasDevice(
            terms.channel,
            terms.role,
            ceremony_id=terms.ceremony_id,
            user=terms.user,
            random_bytes=random_bytes,
        )

    def begin_untrusted(self, message: Fields) -> Fields:
        """The answer has {commit}."""
        return {"commit": self._half.commit()}

    def exchange_untrusted(self, message: Fields) -> Fields:
        """{nonce} for {nonce}."""
        return {"nonce": self._half.reveal_untrusted(bytes_field(message, "nonce"))}

    def number(self) -> str:
        """Six digits."""
        return self._half.number

    def check_untrusted(self, message: Fields) -> None:
        """{confirm}."""
        self._half.check_untrusted(bytes_field(message, "confirm"))

    def device_tag(self) -> bytes:
        """Ours."""
        return self._half.device_tag()


class _CodeDevice(_Device):
    """`code`: J-PAKE in two round trips."""

    def __init__(
        self, terms: Terms, *, secret: Secret, random_bytes: RandomBytes, on_try: OnTry
    ) -> None:
        self._terms = terms
        self._secret = secret
        self._on_try = on_try
        self._random_bytes = random_bytes
        self._half: codes.CodeDevice | None = None

    def begin_untrusted(self, message: Fields) -> Fields:
        """{round_one, printed?}; the answer has both our {rounds}."""
        round_one, printed = bytes_field(message, "round_one"), message.get("printed", False)
        if not isinstance(printed, bool):
            raise Malformed("printed is neither true nor false", advice="Send true, or omit it.")
        terms = self._terms
        self._half = codes.CodeDevice(
            terms.channel, terms.role, self._secret(printed=printed), entropy=self._random_bytes
        )
        rounds = self._half.answer_untrusted(round_one)
        self._on_try(printed=printed)
        return {"rounds": rounds}

    def check_untrusted(self, message: Fields) -> None:
        """{round_two, confirm}."""
        confirm = bytes_field(message, "confirm")
        _made(self._half).check_untrusted(bytes_field(message, "round_two"), confirm)

    def device_tag(self) -> bytes:
        """Ours."""
        return _made(self._half).device_tag()


class _LabelDevice(_Device):
    """`label`: the token, and tags with it."""

    def __init__(self, terms: Terms, *, verifier: bytes) -> None:
        self._half = labels.LabelDevice(terms.channel, terms.role, verifier=verifier)

    def check_untrusted(self, message: Fields) -> None:
        """{token, confirm}."""
        confirm = bytes_field(message, "confirm")
        self._half.check_token_untrusted(bytes_field(message, "token"))
        self._half.check_untrusted(confirm)

    def device_tag(self) -> bytes:
        """Ours."""
        return self._half.device_tag()


def compare() -> OfferedMethod:
    """Both users compare fingerprints."""
    return OfferedMethod(COMPARE, lambda terms: _CompareDevice(terms, method=COMPARE))


def sas(random_bytes: RandomBytes) -> OfferedMethod:
    """Both users compare six digits."""
    return OfferedMethod(
        SAS, lambda terms: _SasDevice(terms, random_bytes=random_bytes), first=Stage.EXCHANGE
    )


def _uncounted(*, printed: bool) -> None:
    """For devices that count no tries at a code."""


def code(secret: Secret, random_bytes: RandomBytes, on_try: OnTry = _uncounted) -> OfferedMethod:
    """The client's user types a code: the one that is shown, or the one that is printed.

    `on_try` is called once the proofs of the client's first round hold, before the answer: without
    them the client cannot go on to a guess.
    """
    return OfferedMethod(
        CODE,
        lambda terms: _CodeDevice(terms, secret=secret, random_bytes=random_bytes, on_try=on_try),
        first=Stage.WAITING,
        keeps_receipt=True,
    )


def label(verifier: Callable[[], bytes]) -> OfferedMethod:
    """The client's user scans the label. `verifier` is that of the label there is at each start."""
    return OfferedMethod(
        LABEL, lambda terms: _LabelDevice(terms, verifier=verifier()), first=Stage.WAITING
    )


def button() -> OfferedMethod:
    """Nobody compares anything: whoever is first after the press."""
    return OfferedMethod(
        BUTTON,
        lambda terms: _CompareDevice(terms, method=BUTTON),
        first=Stage.WAITING,
        verified=False,
    )


# -- the client's side ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Session:
    """What a client has before it starts: the session's exporter value and both keys."""

    ekm: bytes
    client: Fingerprint
    device: Fingerprint


class ClientSide(Protocol):
    """The client's half of a method: one object per ceremony, each step once and in this order.

    What comes from the device is `Malformed`, or a `Mismatch` that ends the ceremony here.
    """

    name: str
    asks: bool  # whether both users compare something

    def begin(self) -> Fields:
        """Fields of the start, beside method, name and role."""

    def started_untrusted(self, terms: Terms, answer: Fields) -> Fields | None:
        """The answer to the start; the fields of the exchange, if there is one."""

    def exchanged_untrusted(self, answer: Fields) -> None:
        """The answer to the exchange."""

    def number(self) -> str:
        """What both users compare, empty where that is not a number."""

    def confirm(self) -> Fields:
        """Our user has said yes: the fields of the confirmation."""

    def verify_untrusted(self, answer: Fields) -> None:
        """Raise `Mismatch` unless the device's tag is right: only then may it be stored."""

    def verify_receipt_untrusted(self, receipt: object) -> None:
        """The device's tag was lost: raise `Mismatch` unless this is the receipt of it. In methods
        that authenticate the device's key before the tag, or never, there is nothing to verify."""


class _Client:
    """What most methods have nothing to say to."""

    name = ""
    asks = False

    def begin(self) -> Fields:
        """Nothing beside method, name and role."""
        return {}

    def exchanged_untrusted(self, answer: Fields) -> None:
        """There is no exchange. Raises `Misuse`."""
        raise Misuse("this method has no exchange", advice="Start a new ceremony.")

    def number(self) -> str:
        """People compare fingerprints, or nothing."""
        return ""

    def verify_receipt_untrusted(self, receipt: object) -> None:
        """The key was authenticated before the tag, or never is: there is nothing to verify."""


class TagsClient(_Client):
    """`compare`, in which both users are asked, and `button`, in which nobody is."""

    def __init__(self, *, method: str) -> None:
        self.name = method
        self.asks = method == COMPARE
        self._half: tags.CompareClient | None = None

    def started_untrusted(self, terms: Terms, answer: Fields) -> Fields | None:
        """Nothing to exchange."""
        self._half = tags.CompareClient(terms.channel, terms.role, method=self.name)
        return None

    def confirm(self) -> Fields:
        """{confirm}."""
        return {"confirm": _made(self._half).accept()}

    def verify_untrusted(self, answer: Fields) -> None:
        """{confirm}."""
        _made(self._half).verify_untrusted(answer.get("confirm"))


class SasClient(_Client):
    """`sas`."""

    name = SAS
    asks = True

    def __init__(self, random_bytes: RandomBytes) -> None:
        self._random_bytes = random_bytes
        self._half: numbers.SasClient | None = None

    def started_untrusted(self, terms: Terms, answer: Fields) -> Fields | None:
        """{commit}; our {nonce} is next."""
        self._half = numbers.SasClient(
            terms.channel,
            terms.role,
            ceremony_id=terms.ceremony_id,
            user=terms.user,
            random_bytes=self._random_bytes,
        )
        return {"nonce": self._half.answer_untrusted(answer.get("commit"))}

    def exchanged_untrusted(self, answer: Fields) -> None:
        """{nonce}."""
        _made(self._half).open_untrusted(answer.get("nonce"))

    def number(self) -> str:
        """Six digits."""
        return _made(self._half).number

    def confirm(self) -> Fields:
        """{confirm}."""
        return {"confirm": _made(self._half).accept()}

    def verify_untrusted(self, answer: Fields) -> None:
        """{confirm}."""
        _made(self._half).verify_untrusted(answer.get("confirm"))


class CodeClient(_Client):
    """`code`, with what our user has typed."""

    name = CODE

    def __init__(self, session: Session, code: TypedCode, random_bytes: RandomBytes) -> None:
        self._is_printed = code.is_printed
        self._half = codes.CodeClient(
            session.ekm,
            session.client,
            session.device,
            code.secret(session.device),
            entropy=random_bytes,
        )

    def begin(self) -> Fields:
        """{round_one, printed?}."""
        kind = {"printed": True} if self._is_printed else {}
        return {"round_one": self._half.round_one(), **kind}

    def started_untrusted(self, terms: Terms, answer: Fields) -> Fields | None:
        """{rounds}; nothing to exchange."""
        self._half.read_device_untrusted(
            answer.get("rounds"), window_id=terms.channel.window_id, role=terms.role
        )
        return None

    def confirm(self) -> Fields:
        """{round_two, confirm}."""
        round_two, tag = self._half.finish()
        return {"round_two": round_two, "confirm": tag}

    def verify_untrusted(self, answer: Fields) -> None:
        """{confirm}."""
        self._half.verify_untrusted(answer.get("confirm"))

    def verify_receipt_untrusted(self, receipt: object) -> None:
        """Raise `Mismatch` unless this is the receipt of the device's tag."""
        self._half.verify_receipt_untrusted(receipt)


class LabelClient(_Client):
    """`label`. The session has to be with the device of the label, or there is no such object."""

    name = LABEL

    def __init__(self, session: Session, label: labels.Label) -> None:
        if session.device != label.device:
            raise Mismatch(
                "this is not the device of the label",
                advice="If it is the right device, do not continue: this may be a "
                "man-in-the-middle attack.",
            )
        self._label = label
        self._half: labels.LabelClient | None = None

    def started_untrusted(self, terms: Terms, answer: Fields) -> Fields | None:
        """Nothing to exchange."""
        self._half = labels.LabelClient(terms.channel, terms.role, self._label)
        return None

    def confirm(self) -> Fields:
        """{token, confirm}."""
        token, tag = _made(self._half).reveal()
        return {"token": token, "confirm": tag}

    def verify_untrusted(self, answer: Fields) -> None:
        """{confirm}."""
        _made(self._half).verify_untrusted(answer.get("confirm"))


_Half = TypeVar("_Half")


def _made(half: _Half | None) -> _Half:
    if half is None:
        raise Misuse("the ceremony has not started", advice="Start it first.")
    return half
