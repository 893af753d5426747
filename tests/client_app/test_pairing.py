"""Pairing over real sockets: confirmation by both users, lost responses, and what is stored."""

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
from tests.kit.waiting import skip_time, until

Make = Callable[..., Client]


class ClientUser:
    """The client's user; answers when the test says so and records the questions."""

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


async def test_a_confirmation_by_both_users_pairs(board: Board, new_client: Make) -> None:
    await board.open()
    client, client_user = new_client(board), ClientUser()
    waits: list[float] = []
    work = asyncio.ensure_future(
        client.pair(board.pairing_address, name="anna", confirm=client_user, on_wait=waits.append)
    )
    await client_user.asked.wait()
    assert nothing_is_stored(client, board)
    client_user.answer(True)
    board.answers.put_nowait(True)
    done = await work
    assert done.is_new
    (question,) = client_user.questions
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


async def test_the_devices_user_may_confirm_first(board: Board, new_client: Make) -> None:
    await board.open()
    board.answers.put_nowait(True)
    client, client_user = new_client(board), ClientUser()
    work = asyncio.ensure_future(client.pair(board.pairing_address, confirm=client_user))
    await client_user.asked.wait()
    client_user.answer(True)
    assert (await work).device.user.startswith("client-")


async def test_a_refusal_by_the_clients_user_stores_nothing(board: Board, new_client: Make) -> None:
    await board.open()
    client = new_client(board)
    with pytest.raises(Declined):
        await client.pair(board.pairing_address, confirm=ClientUser(answer=False))
    assert ("DELETE", "/pair") in board.requests
    assert nothing_is_stored(client, board)
    assert board.window.pending() is None


async def test_a_refusal_by_the_devices_user_withdraws_the_question(
    board: Board, new_client: Make
) -> None:
    await board.open()
    board.answers.put_nowait(False)
    client, client_user = new_client(board), ClientUser()
    with pytest.raises(RefusedByUser):
        await client.pair(board.pairing_address, confirm=client_user)
    assert client_user.withdrawn
    assert nothing_is_stored(client, board)


async def test_pairing_times_out_without_a_confirmation_at_the_device(
    board: Board, new_client: Make
) -> None:
    await board.open()
    client = new_client(board, limits=replace(DEFAULT_LIMITS, person_seconds=60))
    with pytest.raises(TimedOut, match="the user at the device"):
        await client.pair(board.pairing_address, expect=board.fingerprint, on_wait=skip_time)
    assert nothing_is_stored(client, board)


async def test_an_interrupt_stores_nothing_and_closes_the_connection(
    board: Board, new_client: Make
) -> None:
    await board.open()
    client, client_user = new_client(board), ClientUser()
    work = asyncio.ensure_future(client.pair(board.pairing_address, confirm=client_user))
    await client_user.asked.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert client_user.withdrawn
    assert nothing_is_stored(client, board)
    await until(lambda: not board.pairing.sessions())


async def test_pairing_again_asks_no_question_and_changes_nothing(
    board: Board, paired: Client
) -> None:
    users, device = dict(board.users), paired.devices[0]
    again = await paired.pair(board.pairing_address, expect=board.fingerprint)
    assert not again.is_new
    assert again.device == device
    client_user = ClientUser()
    again = await paired.pair("kitchen", confirm=client_user)
    assert client_user.questions == []
    assert (board.users, paired.devices) == (users, [device])


async def test_a_client_that_lost_its_devices_file_must_confirm_again(
    board: Board, paired: Client
) -> None:
    paired.book.forget("kitchen")
    with pytest.raises(Declined):
        await paired.pair(board.pairing_address, confirm=ClientUser(answer=False))
    assert paired.devices == []
    client_user = ClientUser(answer=True)
    assert (await paired.pair(board.pairing_address, confirm=client_user)).is_new
    assert len(client_user.questions) == 1


async def test_another_user_name_for_a_paired_key_is_a_conflict(
    board: Board, paired: Client
) -> None:
    with pytest.raises(RequestFailed) as caught:
        await paired.pair(board.pairing_address, expect=board.fingerprint, name="bob")
    assert caught.value.code == "4.09"


# ----------------------------------------------------------------------------- expected fingerprint


async def test_an_unexpected_fingerprint_is_refused_and_not_counted(
    board: Board, new_client: Make, other: Board
) -> None:
    await board.open()
    client = new_client(board)
    with pytest.raises(PinMismatch) as caught:
        await client.pair(board.pairing_address, expect=other.fingerprint)
    assert caught.value.actual == board.fingerprint.hex
    assert nothing_is_stored(client, board)
    assert board.window.failures == 0


async def test_pairing_without_confirmation_or_fingerprint_is_refused(
    board: Board, new_client: Make
) -> None:
    await board.open()
    with pytest.raises(UsageError):
        await new_client(board).pair(board.pairing_address)


async def test_a_device_with_another_key_than_its_announced_id_is_refused(
    board: Board, home: Path, other: Board
) -> None:
    await board.open()

    async def look() -> AsyncIterator[Advert]:
        yield replace(board.advert(), device_id=other.fingerprint.device_id)

    client_user = ClientUser(answer=True)
    async with Client(home=home, look=look) as client:
        with pytest.raises(Unreachable, match="another key answered"):
            await client.pair("kitchen", confirm=client_user)
    assert client_user.questions == []


async def test_a_paired_device_with_a_new_key_is_refused(
    board: Board, paired: Client, other: Board, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client cannot distinguish a device that was reset from an impostor."""
    await other.open()
    monkeypatch.setattr(targets, "PAIRING_PORT", other.pairing.port)
    move = replace(paired.devices[0], last_seen=f"127.0.0.1:{other.pairing.port}")
    paired.book.put(move)

    async def look() -> AsyncIterator[Advert]:
        yield replace(other.advert(), device_id=board.fingerprint.device_id, name="kitchen")

    async with Client(home=home, look=look) as client:
        with pytest.raises(PinMismatch):
            await client.pair("kitchen", confirm=ClientUser(answer=True))
        assert client.devices == [move]


@pytest.mark.usefixtures("paired")
async def test_a_known_device_without_advert_is_tried_at_its_last_address(
    board: Board, other: Board, new_client: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the stored key may answer there."""
    await other.open()
    monkeypatch.setattr(targets, "PAIRING_PORT", board.pairing.port)
    assert not (await new_client().pair("kitchen", confirm=ClientUser())).is_new
    monkeypatch.setattr(targets, "PAIRING_PORT", other.pairing.port)
    with pytest.raises(PinMismatch):
        await new_client().pair("kitchen", confirm=ClientUser(answer=True))
    assert other.window.pending() is None


# ---------------------------------------------------------------------------------------- targets


async def test_without_a_target_the_only_open_device_is_chosen(
    board: Board, other: Board, new_client: Make
) -> None:
    client = new_client(board, other)
    with pytest.raises(WindowClosed, match=r"attic .*kitchen") as closed:
        await client.pair(confirm=ClientUser(answer=True))
    assert "open" in closed.value.advice
    await board.open()
    board.answers.put_nowait(True)
    assert (await client.pair(confirm=ClientUser(answer=True))).device.alias == "kitchen"
    await other.open()
    with pytest.raises(UsageError, match="several"):
        await client.pair(confirm=ClientUser(answer=True))


async def test_no_device_on_the_lan_raises_unreachable(new_client: Make) -> None:
    with pytest.raises(Unreachable, match="no device was found"):
        await new_client().pair(confirm=ClientUser(answer=True))


@pytest.mark.parametrize("target", ["Kitchen", "id"])
async def test_a_target_can_be_a_name_or_an_id(board: Board, new_client: Make, target: str) -> None:
    client = new_client(board)
    text = board.fingerprint.device_id.lower() if target == "id" else target
    with pytest.raises(WindowClosed):
        await client.pair(text, expect=board.fingerprint)
    await board.open()
    board.answers.put_nowait(True)
    done = await client.pair(text, expect=board.fingerprint)
    assert done.device.port == board.regular.port


async def test_two_devices_with_one_name_are_distinguished_by_id(
    board: Board, other: Board, new_client: Make
) -> None:
    other.name = "kitchen"
    await board.open()
    await other.open()
    client = new_client(board, other)
    with pytest.raises(UsageError, match="several devices have the name"):
        await client.pair("kitchen", confirm=ClientUser(answer=True))
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
async def test_the_error_for_an_unknown_name_lists_the_announced_devices(
    board: Board, new_client: Make, name: str
) -> None:
    with pytest.raises(Unreachable, match="no device with the name") as caught:
        await new_client(board).pair(name, confirm=ClientUser(answer=True))
    assert "kitchen" in caught.value.advice


async def test_a_closed_pairing_port_raises_window_closed(board: Board, new_client: Make) -> None:
    await board.open()
    address = board.pairing_address
    await board.pairing.close()
    with pytest.raises(WindowClosed):
        await new_client().pair(address, expect=board.fingerprint)


async def test_the_regular_port_is_taken_from_the_advert_if_the_offer_has_none(
    board: Board, new_client: Make
) -> None:
    board.offers_port = False
    await board.open()
    board.answers.put_nowait(True)
    done = await new_client(board).pair(board.pairing_address, expect=board.fingerprint)
    assert done.device.port == board.regular.port


async def test_a_client_that_is_not_local_is_refused(board: Board, new_client: Make) -> None:
    board.local = False
    await board.open()
    with pytest.raises(NotLocal):
        await new_client().pair(board.pairing_address, expect=board.fingerprint)


@pytest.mark.parametrize("name", ["a  b", " a", "_((;;.::)", "\x1b", "a" * 65, "\u202eanna"])
async def test_an_invalid_user_name_is_refused_before_a_request_is_sent(
    new_client: Make, name: str
) -> None:
    with pytest.raises(UsageError):
        await new_client().pair("127.0.0.1:9", name=name, confirm=ClientUser(answer=True))


async def test_a_read_only_devices_file_is_reported_before_a_question_is_asked(
    board: Board, new_client: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    await board.open()
    client = new_client(board)
    _ = client.identity

    def read_only(*_args: object, **_options: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.mkstemp", read_only)
    client_user = ClientUser(answer=True)
    with pytest.raises(BookError, match="Read-only"):
        await client.pair(board.pairing_address, confirm=client_user)
    assert client_user.questions == []
    assert board.window.failures == 0
    assert board.window.pending() is None


# -------------------------------------------------------------------------------- lost responses


async def test_a_lost_last_response_is_resolved_on_the_regular_port(
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


async def test_a_lost_last_response_is_resolved_if_whoami_is_denied(
    board: Board, new_client: Make
) -> None:
    """The reason `denied` implies that the key is paired; the agreed user and role are stored."""
    board.denied.add(("iam", "me"))
    board.confirm_answer = lambda _body: None
    await board.open()
    board.answers.put_nowait(True)
    client = new_client(board)
    done = await client.pair(board.pairing_address, expect=board.fingerprint, name="anna")
    assert (done.device.user, done.device.role) == ("anna", "owner")


async def test_a_lost_last_response_of_a_device_that_stored_no_user(
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


async def test_a_device_that_loses_power_before_its_last_response_is_not_stored(
    board: Board, new_client: Make
) -> None:
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


def response_with(**changes: object) -> Callable[[dict[str, object]], aiocoap.Message]:
    def make(body: dict[str, object]) -> aiocoap.Message:
        payload = cbor.encode({**body, **changes})
        return aiocoap.Message(code=Code.CHANGED, payload=payload, content_format=60)

    return make


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (response_with(confirm=bytes(32)), WrongCode),
        (response_with(confirm="text"), WrongCode),
        (response_with(confirm=None), WrongCode),
        (response_with(state="PENDING_CLIENT_COMPLETION"), Malformed),
        (response_with(user=7), Malformed),
        (lambda _body: aiocoap.Message(code=Code.CHANGED, payload=b"\xff"), Malformed),
        (lambda _body: aiocoap.Message(code=Code.INTERNAL_SERVER_ERROR), DeviceFailed),
    ],
    ids=["zeros", "text", "null", "pending", "invalid user", "not CBOR", "server error"],
)
async def test_an_invalid_last_response_stores_nothing(
    board: Board, new_client: Make, make: ConfirmAnswer, kind: type[PeerError]
) -> None:
    board.confirm_answer = make
    await board.open()
    board.answers.put_nowait(True)
    client = new_client(board)
    with pytest.raises(kind):
        await client.pair(board.pairing_address, expect=board.fingerprint)
    assert client.devices == []


async def test_a_device_that_does_not_notify_is_polled(
    board: Board, new_client: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ceremony, "PAIRING_POLL_SECONDS", 0.01)
    board.notifies = False
    await board.open()
    client, client_user = new_client(board), ClientUser(answer=True)
    work = asyncio.ensure_future(client.pair(board.pairing_address, confirm=client_user))
    await client_user.asked.wait()
    board.answers.put_nowait(True)
    assert (await work).is_new
