"""Pairing over real sockets: two users, lost answers, liars, and what is stored when."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import aiocoap
import pytest
from aiocoap.numbers.codes import Code

from client_app.client import Client
from client_app.errors import BookError, Declined
from client_app.pairing import ceremony, targets
from client_app.pairing.ceremony import Comparison
from peer import cbor
from peer.errors import (
    DeviceFailed,
    Malformed,
    NotLocal,
    PeerError,
    PinMismatch,
    RefusedByUser,
    RequestFailed,
    TimedOut,
    Unreachable,
    UsageError,
    WindowClosed,
    WrongCode,
)
from peer.limits import DEFAULT_LIMITS
from peer.net.discovery import Advert
from tests.kit.board import Board, ConfirmAnswer
from tests.kit.internals import sockets_of

Make = Callable[..., Client]


class Person:
    """This side's user: answers when told, and remembers what was asked."""

    def __init__(self, answer: bool | None = None) -> None:
        self.asked = asyncio.Event()
        self.questions: list[Comparison] = []
        self.withdrawn = False
        self._answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if answer is not None:
            self._answer.set_result(answer)

    def answer(self, value: bool) -> None:
        self._answer.set_result(value)

    async def __call__(self, question: Comparison) -> bool:
        self.questions.append(question)
        self.asked.set()
        try:
            return await self._answer
        except asyncio.CancelledError:
            self.withdrawn = True
            raise


def nothing_is_stored(client: Client, board: Board) -> bool:
    return client.devices == [] and not board.users


async def test_both_users_say_yes(board: Board, new_client: Make) -> None:
    await board.open()
    client, person = new_client(board), Person()
    waits: list[float] = []
    work = asyncio.ensure_future(
        client.pair(board.pairing_address, name="anna", confirm=person, on_wait=waits.append)
    )
    await person.asked.wait()
    assert nothing_is_stored(client, board)
    person.answer(True)
    board.answers.put_nowait(True)
    done = await work
    assert done.is_new
    (question,) = person.questions
    assert question.device == board.fingerprint
    assert question.own == client.identity.fingerprint
    assert question.name == "kitchen"
    assert done.device == client.devices[0]
    known = done.device
    assert (known.alias, known.user, known.role) == ("kitchen", "anna", "owner")
    assert known.port == board.regular.port
    assert known.fingerprint == board.fingerprint
    assert board.users == {client.identity.fingerprint: "anna"}
    assert len(waits) == 1
    assert 0 < waits[0] <= 120


async def test_the_devices_user_may_be_first(board: Board, new_client: Make) -> None:
    await board.open()
    board.answers.put_nowait(True)
    client, person = new_client(board), Person()
    work = asyncio.ensure_future(client.pair(board.pairing_address, confirm=person))
    await person.asked.wait()
    person.answer(True)
    assert (await work).device.user.startswith("client-")


async def test_our_user_says_no(board: Board, new_client: Make) -> None:
    await board.open()
    client = new_client(board)
    with pytest.raises(Declined):
        await client.pair(board.pairing_address, confirm=Person(answer=False))
    assert ("DELETE", "/pair") in board.requests
    assert nothing_is_stored(client, board)
    assert board.window.pending() is None


async def test_the_devices_user_says_no_while_ours_still_looks(
    board: Board, new_client: Make
) -> None:
    await board.open()
    board.answers.put_nowait(False)
    client, person = new_client(board), Person()
    with pytest.raises(RefusedByUser):
        await client.pair(board.pairing_address, confirm=person)
    assert person.withdrawn
    assert nothing_is_stored(client, board)


async def test_nobody_at_the_device(board: Board, new_client: Make) -> None:
    await board.open()
    client = new_client(board, limits=replace(DEFAULT_LIMITS, person_seconds=0.2))
    with pytest.raises(TimedOut, match="the user at the device"):
        await client.pair(board.pairing_address, expect=board.fingerprint)
    assert nothing_is_stored(client, board)


async def test_an_interrupt_leaves_nothing(board: Board, new_client: Make) -> None:
    await board.open()
    client, person = new_client(board), Person()
    work = asyncio.ensure_future(client.pair(board.pairing_address, confirm=person))
    await person.asked.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert person.withdrawn
    assert nothing_is_stored(client, board)
    assert client.connector.transport._links == set() or not any(
        link.is_open for link in client.connector.transport._links
    )


async def test_pairing_again_asks_nobody(board: Board, paired: Client) -> None:
    users, device = dict(board.users), paired.devices[0]
    again = await paired.pair(board.pairing_address, expect=board.fingerprint)
    assert not again.is_new
    assert again.device == device
    person = Person()
    again = await paired.pair("kitchen", confirm=person)
    assert person.questions == []
    assert (board.users, paired.devices) == (users, [device])


async def test_a_client_that_lost_its_file_looks_again_itself(board: Board, paired: Client) -> None:
    paired.book.forget("kitchen")
    with pytest.raises(Declined):
        await paired.pair(board.pairing_address, confirm=Person(answer=False))
    assert paired.devices == []
    person = Person(answer=True)
    assert (await paired.pair(board.pairing_address, confirm=person)).is_new
    assert len(person.questions) == 1


async def test_another_name_for_a_known_key_is_taken(board: Board, paired: Client) -> None:
    with pytest.raises(RequestFailed) as caught:
        await paired.pair(board.pairing_address, expect=board.fingerprint, name="bob")
    assert caught.value.code == "4.09"


# --------------------------------------------------------------------------------- what is expected


async def test_a_fingerprint_that_is_not_the_expected_one(
    board: Board, new_client: Make, other: Board
) -> None:
    await board.open()
    client = new_client(board)
    with pytest.raises(PinMismatch) as caught:
        await client.pair(board.pairing_address, expect=other.fingerprint)
    assert caught.value.actual == board.fingerprint.hex
    assert nothing_is_stored(client, board)
    assert board.window.failures == 0


async def test_somebody_has_to_compare(board: Board, new_client: Make) -> None:
    await board.open()
    with pytest.raises(UsageError):
        await new_client(board).pair(board.pairing_address)


async def test_an_announced_id_with_another_key_is_not_the_device(
    board: Board, home: Path, other: Board
) -> None:
    await board.open()

    async def look() -> AsyncIterator[Advert]:
        yield replace(board.advert(), device_id=other.fingerprint.device_id)

    person = Person(answer=True)
    async with Client(home=home, look=look) as client:
        with pytest.raises(Unreachable, match="another key answered"):
            await client.pair("kitchen", confirm=person)
    assert person.questions == []


async def test_a_known_name_with_a_new_key_stops(
    board: Board, paired: Client, other: Board, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that was reset, or an impostor: both are reported, and stop."""
    await other.open()
    monkeypatch.setattr(targets, "PAIRING_PORT", other.pairing.port)
    move = replace(paired.devices[0], last_seen=f"127.0.0.1:{other.pairing.port}")
    paired.book.put(move)

    async def look() -> AsyncIterator[Advert]:
        yield replace(other.advert(), device_id=board.fingerprint.device_id, name="kitchen")

    async with Client(home=home, look=look) as client:
        with pytest.raises(PinMismatch):
            await client.pair("kitchen", confirm=Person(answer=True))
        assert client.devices == [move]


@pytest.mark.usefixtures("paired")
async def test_a_known_device_that_is_not_announced_is_looked_for_where_it_was(
    board: Board, other: Board, new_client: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its key is the only one that may answer there, also without an announced id."""
    await other.open()
    monkeypatch.setattr(targets, "PAIRING_PORT", board.pairing.port)
    assert not (await new_client().pair("kitchen", confirm=Person())).is_new
    monkeypatch.setattr(targets, "PAIRING_PORT", other.pairing.port)
    with pytest.raises(PinMismatch):
        await new_client().pair("kitchen", confirm=Person(answer=True))
    assert other.window.pending() is None


# ---------------------------------------------------------------------------------------- targets


async def test_without_a_target_the_open_device_is_meant(
    board: Board, other: Board, new_client: Make
) -> None:
    client = new_client(board, other)
    with pytest.raises(WindowClosed, match=r"attic .*kitchen") as closed:
        await client.pair(confirm=Person(answer=True))
    assert "open" in closed.value.advice
    await board.open()
    board.answers.put_nowait(True)
    assert (await client.pair(confirm=Person(answer=True))).device.alias == "kitchen"
    await other.open()
    with pytest.raises(UsageError, match="several"):
        await client.pair(confirm=Person(answer=True))


async def test_nobody_on_the_lan(new_client: Make) -> None:
    with pytest.raises(Unreachable, match="no device was found"):
        await new_client().pair(confirm=Person(answer=True))


@pytest.mark.parametrize("target", ["Kitchen", "id"])
async def test_a_target_by_name_or_id(board: Board, new_client: Make, target: str) -> None:
    client = new_client(board)
    text = board.fingerprint.device_id.lower() if target == "id" else target
    with pytest.raises(WindowClosed):
        await client.pair(text, expect=board.fingerprint)
    await board.open()
    board.answers.put_nowait(True)
    done = await client.pair(text, expect=board.fingerprint)
    assert done.device.port == board.regular.port


async def test_two_of_one_name_are_told_apart_by_id(
    board: Board, other: Board, new_client: Make
) -> None:
    other.name = "kitchen"
    await board.open()
    await other.open()
    client = new_client(board, other)
    with pytest.raises(UsageError, match="several devices have the name"):
        await client.pair("kitchen", confirm=Person(answer=True))
    board.answers.put_nowait(True)
    await client.pair(board.fingerprint.device_id, expect=board.fingerprint)
    other.answers.put_nowait(True)
    with pytest.raises(UsageError, match="alias of another device"):
        await client.pair(other.fingerprint.device_id, expect=other.fingerprint)
    assert other.users == {}
    assert other.window.failures == 0
    await client.pair(other.fingerprint.device_id, expect=other.fingerprint, alias="second")
    assert [one.alias for one in client.devices] == ["kitchen", "second"]


@pytest.mark.parametrize("name", ["no such name", "no-such-name.invalid"])
async def test_an_unknown_name_says_who_is_there(board: Board, new_client: Make, name: str) -> None:
    with pytest.raises(Unreachable, match="no device with the name") as caught:
        await new_client(board).pair(name, confirm=Person(answer=True))
    assert "kitchen" in caught.value.advice


async def test_nothing_listens_on_the_pairing_port(board: Board, new_client: Make) -> None:
    await board.open()
    address = board.pairing_address
    await board.pairing.close()
    with pytest.raises(WindowClosed):
        await new_client().pair(address, expect=board.fingerprint)


async def test_the_regular_port_comes_from_the_lan_if_the_offer_has_none(
    board: Board, new_client: Make
) -> None:
    board.offers_port = False
    await board.open()
    board.answers.put_nowait(True)
    done = await new_client(board).pair(board.pairing_address, expect=board.fingerprint)
    assert done.device.port == board.regular.port


async def test_not_local(board: Board, new_client: Make) -> None:
    board.local = False
    await board.open()
    with pytest.raises(NotLocal):
        await new_client().pair(board.pairing_address, expect=board.fingerprint)


@pytest.mark.parametrize("name", ["a b", "_((;;.::)", "\x1b", "a" * 65, "\u202eanna"])
async def test_a_name_that_cannot_be_is_told_before_anything_is_sent(
    new_client: Make, name: str
) -> None:
    with pytest.raises(UsageError):
        await new_client().pair("127.0.0.1:9", name=name, confirm=Person(answer=True))


async def test_a_file_that_cannot_be_written_is_told_before_anybody_is_asked(
    board: Board, new_client: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    await board.open()
    client = new_client(board)
    _ = client.identity

    def read_only(*_args: object, **_options: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.mkstemp", read_only)
    person = Person(answer=True)
    with pytest.raises(BookError, match="Read-only"):
        await client.pair(board.pairing_address, confirm=person)
    assert person.questions == []
    assert board.window.failures == 0
    assert board.window.pending() is None


# ------------------------------------------------------------------------------ two-sided commit


async def test_a_lost_last_answer_is_asked_for_on_the_regular_port(
    board: Board, new_client: Make
) -> None:
    board.confirm_answer = lambda _body: None
    await board.open()
    board.answers.put_nowait(True)
    client = new_client(board)
    done = await client.pair(board.pairing_address, expect=board.fingerprint, name="anna")
    assert (done.device.user, done.device.role) == ("anna", "owner")
    assert client.devices == [done.device]
    assert ("GET", "/iam/me") in board.requests


async def test_a_lost_last_answer_for_a_role_that_may_not_ask_who_it_is(
    board: Board, new_client: Make
) -> None:
    """`denied` says that the key is known: the device has stored us, as what was agreed on."""
    board.denied.add(("iam", "me"))
    board.confirm_answer = lambda _body: None
    await board.open()
    board.answers.put_nowait(True)
    client = new_client(board)
    done = await client.pair(board.pairing_address, expect=board.fingerprint, name="anna")
    assert (done.device.user, done.device.role) == ("anna", "owner")


async def test_a_lost_last_answer_of_a_device_that_stored_nobody(
    board: Board, new_client: Make
) -> None:
    def fail(_body: object) -> None:
        board.users.clear()

    board.confirm_answer = fail
    await board.open()
    board.answers.put_nowait(True)
    client = new_client(board)
    with pytest.raises(Unreachable, match="has not stored this client"):
        await client.pair(board.pairing_address, expect=board.fingerprint)
    assert client.devices == []


async def test_a_device_that_is_gone_after_all_is_unknown(board: Board, new_client: Make) -> None:
    def lose_power(_body: object) -> None:
        for socket in sockets_of(board.regular):
            socket.close()

    board.confirm_answer = lose_power
    await board.open()
    board.answers.put_nowait(True)
    client = new_client(board)
    with pytest.raises(Unreachable, match="it cannot be reached"):
        await client.pair(board.pairing_address, expect=board.fingerprint)
    assert client.devices == []


def answer_with(**changes: object) -> Callable[[dict[str, object]], aiocoap.Message]:
    def make(body: dict[str, object]) -> aiocoap.Message:
        payload = cbor.encode({**body, **changes})
        return aiocoap.Message(code=Code.CHANGED, payload=payload, content_format=60)

    return make


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (answer_with(confirm=bytes(32)), WrongCode),
        (answer_with(confirm="text"), WrongCode),
        (answer_with(confirm=None), WrongCode),
        (answer_with(state="PENDING_CLIENT_COMPLETION"), Malformed),
        (answer_with(user=7), Malformed),
        (lambda _body: aiocoap.Message(code=Code.CHANGED, payload=b"\xff"), Malformed),
        (lambda _body: aiocoap.Message(code=Code.INTERNAL_SERVER_ERROR), DeviceFailed),
    ],
    ids=["zeroes", "text", "none", "not yet", "odd user", "no cbor", "failed"],
)
async def test_a_wrong_last_answer_stores_nothing(
    board: Board, new_client: Make, make: ConfirmAnswer, kind: type[PeerError]
) -> None:
    board.confirm_answer = make
    await board.open()
    board.answers.put_nowait(True)
    client = new_client(board)
    with pytest.raises(kind):
        await client.pair(board.pairing_address, expect=board.fingerprint)
    assert client.devices == []


async def test_a_device_that_does_not_notify_is_looked_at_again(
    board: Board, new_client: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ceremony, "PAIRING_POLL_SECONDS", 0.01)
    board.notifies = False
    await board.open()
    client, person = new_client(board), Person(answer=True)
    work = asyncio.ensure_future(client.pair(board.pairing_address, confirm=person))
    await person.asked.wait()
    board.answers.put_nowait(True)
    assert (await work).is_new
