"""Both sides of every method, called in the same order as by the window and the client."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from peer.errors import Malformed
from peer.identity import Fingerprint
from peer.pairing.binding import Channel
from peer.pairing.button import ButtonClient
from peer.pairing.button import offer as offer_button
from peer.pairing.ceremony import Ceremony, Fields, Stage, State
from peer.pairing.code import CodeClient
from peer.pairing.code import offer as offer_code
from peer.pairing.compare import CompareClient
from peer.pairing.compare import offer as offer_compare
from peer.pairing.errors import Mismatch, Misuse
from peer.pairing.label import Label, LabelClient
from peer.pairing.label import offer as offer_label
from peer.pairing.methods import Method
from peer.pairing.sas import SasClient
from peer.pairing.sas import offer as offer_sas
from peer.pairing.sides import ClientSide, OfferedMethod, Session, Terms
from peer.pairing.typed import TypedCode
from peer.pairing.window import Window

CLIENT, DEVICE, OTHER = (Fingerprint(bytes([n]) * 32) for n in (1, 2, 3))
EKM, WINDOW_ID = b"\x11" * 32, b"\x0a" * 16
SESSION = Session(EKM, CLIENT, DEVICE)
LABEL = Label(DEVICE, b"t" * 16)
RANDOM_BYTES = secrets.token_bytes

SHOWN, PRINTED = TypedCode("48219930"), TypedCode.printed(RANDOM_BYTES)


def uncounted(*, printed: bool) -> None:
    """A device without an attempt budget for codes."""


def secret(*, printed: bool) -> bytes:
    return (PRINTED if printed else SHOWN).secret(DEVICE)


@dataclass(frozen=True)
class Pair:
    """The two sides of one method."""

    device: Callable[[], OfferedMethod]
    client: Callable[[Session], ClientSide]


PAIRS: Mapping[str, Pair] = {
    "compare": Pair(offer_compare, lambda _: CompareClient()),
    "sas": Pair(lambda: offer_sas(RANDOM_BYTES), lambda _: SasClient(RANDOM_BYTES)),
    "code": Pair(
        lambda: offer_code(secret, RANDOM_BYTES, uncounted),
        lambda session: CodeClient(session, SHOWN, RANDOM_BYTES),
    ),
    "label": Pair(lambda: offer_label(lambda: LABEL.verifier), lambda one: LabelClient(one, LABEL)),
    "button": Pair(offer_button, lambda _: ButtonClient()),
}


class Run:
    """A window and a client, and the messages between them."""

    def __init__(self, name: str, *, session: Session = SESSION, role: str = "guest") -> None:
        self.client = PAIRS[name].client(session)
        self.name = name
        self.role = role
        self.window = Window.open(
            0.0,
            seconds=120,
            role="guest",
            methods=[PAIRS[name].device()],
            window_id=WINDOW_ID,
            device=DEVICE,
        )

    def begin(self) -> Ceremony:
        return self.window.start(
            0.0,
            fingerprint=CLIENT,
            session_id=1,
            ekm=EKM,
            method=self.name,
            name="anna",
            ceremony_id="c1",
            message=self.client.begin(),
        )

    def terms(self, **other: Any) -> Terms:
        channel = Channel(EKM, CLIENT, DEVICE, other.get("window_id", WINDOW_ID))
        return Terms(channel, other.get("role", "guest"), other.get("user", "anna"), "c1")

    def agree(self, started: Ceremony, **other: Any) -> None:
        """Continue until both users have accepted."""
        message = self.client.started_untrusted(self.terms(**other), started.answer)
        if message is not None:
            self.client.exchanged_untrusted(self.exchanged(message).answer)
        if self.client.method.spec.users_compare:
            assert self.window.find("c1", session_id=1).stage is Stage.ASKING
            self.window.decide("c1", accept=True, now=1.0)

    def exchanged(self, message: Fields) -> Ceremony:
        return self.window.exchange("c1", message, 1.0, session_id=1)

    def confirm(self) -> bytes:
        self.window.complete("c1", self.client.confirm(), 2.0, session_id=1)
        return self.window.registered("c1", user="anna", now=2.0).device_tag


@pytest.mark.parametrize("name", Method)
def test_each_method_completes(name: str) -> None:
    run = Run(name)
    run.agree(run.begin())
    number = run.window.find("c1", session_id=1).number
    assert number == run.client.number
    assert bool(number) == (name == "sas")
    run.client.verify_untrusted({"confirm": run.confirm()})
    ended = run.window.find("c1", session_id=1)
    assert ended.state is State.REGISTERED
    assert ended.method.spec.verifies_key == (name != "button")


@pytest.mark.parametrize("name", Method)
def test_both_sides_have_the_name_of_their_method(name: str) -> None:
    assert PAIRS[name].device().method == PAIRS[name].client(SESSION).method == name
    assert PAIRS.keys() == set(Method)


@pytest.mark.parametrize("name", Method)
@pytest.mark.parametrize(
    "other", [{"role": "owner"}, {"window_id": b"\x0b" * 16}], ids=["role", "window"]
)
def test_sides_with_another_role_or_window_never_register(name: str, other: dict[str, Any]) -> None:
    run = Run(name)
    with pytest.raises(Mismatch):  # noqa: PT012 - each method notices at another step
        run.agree(run.begin(), **other)
        run.confirm()
    assert run.window.find("c1", session_id=1).state is not State.REGISTERED


@pytest.mark.parametrize("name", Method)
def test_a_client_in_another_session_never_confirms(name: str) -> None:
    """This is the situation behind a man in the middle, who has a session with each side."""
    run = Run(name, session=Session(b"\x22" * 32, CLIENT, DEVICE))
    real = run.terms

    def terms_of_another_session(**_: Any) -> Terms:
        terms = real()
        return Terms(Channel(b"\x22" * 32, CLIENT, DEVICE, WINDOW_ID), terms.role, terms.user, "c1")

    run.terms = terms_of_another_session  # type: ignore[method-assign]
    with pytest.raises(Mismatch):  # noqa: PT012 - each method notices at another step
        run.agree(run.begin())
        run.confirm()


@pytest.mark.parametrize("name", Method)
def test_a_client_rejects_a_wrong_device_tag(name: str) -> None:
    run = Run(name)
    run.agree(run.begin())
    tag = run.confirm()
    with pytest.raises(Mismatch):
        run.client.verify_untrusted({"confirm": bytes([tag[0] ^ 1]) + tag[1:]})


@pytest.mark.parametrize("name", Method)
@pytest.mark.parametrize("value", [None, "text", 5])
def test_missing_fields_are_malformed_and_do_not_end_the_ceremony(name: str, value: object) -> None:
    run = Run(name)
    started = run.begin()
    run.agree(started)
    with pytest.raises(Malformed):
        run.window.complete("c1", {"confirm": value}, 2.0, session_id=1)
    whole = run.client.confirm()
    for field in whole:
        rest = {key: item for key, item in whole.items() if key != field}
        with pytest.raises(Malformed):
            run.window.complete("c1", rest, 2.0, session_id=1)
    assert run.window.find("c1", session_id=1).is_live


@pytest.mark.parametrize("name", sorted(set(Method) - {"sas"}))
def test_methods_other_than_sas_have_no_exchange(name: str) -> None:
    side = PAIRS[name].device().create_side(Run(name).terms())
    with pytest.raises(Misuse):
        side.exchange_untrusted({})
    with pytest.raises(Misuse):
        PAIRS[name].client(SESSION).exchanged_untrusted({})


@pytest.mark.parametrize("name", sorted(set(Method) - {"code"}))
def test_no_client_confirms_before_the_start(name: str) -> None:
    with pytest.raises(Misuse):
        PAIRS[name].client(SESSION).confirm()


def test_a_wrong_code_is_rejected_at_the_confirmation_of_the_client() -> None:
    run = Run("code")
    run.client = CodeClient(SESSION, TypedCode("00000000"), RANDOM_BYTES)
    run.agree(run.begin())
    with pytest.raises(Mismatch):
        run.confirm()
    assert run.window.find("c1", session_id=1).state is State.REFUSED


def test_a_label_of_another_device_is_rejected_before_its_token_is_sent() -> None:
    with pytest.raises(Mismatch, match="not the device of the label"):
        LabelClient(Session(EKM, CLIENT, OTHER), LABEL)


def test_a_wrong_token_is_a_mismatch() -> None:
    run = Run("label")
    run.client = LabelClient(SESSION, Label(DEVICE, b"u" * 16))
    run.agree(run.begin())
    with pytest.raises(Mismatch):
        run.confirm()


def test_a_printed_code_is_distinguished_from_a_displayed_one() -> None:
    run = Run("code")
    run.client = CodeClient(SESSION, PRINTED, RANDOM_BYTES)
    run.agree(run.begin())
    run.client.verify_untrusted({"confirm": run.confirm()})


@pytest.mark.parametrize("printed", ["yes", 1, None])
def test_a_printed_field_that_is_not_boolean_is_malformed(printed: object) -> None:
    run = Run("code")
    message = {**run.client.begin(), "printed": printed}
    run.client.begin = lambda: message  # type: ignore[method-assign]
    with pytest.raises(Malformed):
        run.begin()
    assert run.window.budget.failures == 0
