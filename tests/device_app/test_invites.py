"""Invites over the network and at the console (protocol §6.1)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from device_app.access import event_budget
from device_app.access.clock import SystemClocks, wall_clock
from device_app.access.invitations import InviteRequest
from peer import cbor
from peer.identity import Identity
from peer.pairing.invite import InviteToken, read_untrusted
from tests.kit.invites import DAY, KEY, invited, redeemed, signed
from tests.kit.waiting import TIMEOUT_SECONDS

if TYPE_CHECKING:
    from typing import Any

    from tests.kit.device import Caller, Device, Kit
FOREIGN = "this is no invite of this device"


async def test_an_unknown_remote_client_redeems_an_invite_once(kit: Kit) -> None:
    device = await kit.device()
    await kit.paired(device, "olga")
    await device.app.close()
    # Restart the device so that loopback does not count as local.
    device = await kit.device(allow_loopback=False)
    assert device.app.access.store.state.user("olga").role == "owner"
    made = device.app.invitations.create(None, InviteRequest(name="anna", role="user"))
    anna = kit.caller(device)
    assert (await anna.ask("GET", "/hello")).reason == "not-paired"
    done = await redeemed(anna, made["token"])
    assert (done.code, done.body) == ("2.04", {"user": "anna", "role": "user", "name": "kitchen"})
    # The same session has the new rights immediately.
    me = (await anna.ask("GET", "/iam/me")).body
    assert (me["user"], me["role"], me["path"]) == ("anna", "user", "remote")
    (key,) = device.app.access.store.state.user("anna").keys
    assert (key.fingerprint, key.method, key.verified) == (anna.fingerprint, "invite", True)
    assert device.app.invitations.listed() == []
    late = await redeemed(kit.caller(device), made["token"])
    assert (late.code, late.reason) == ("4.03", "invite")
    assert "used or withdrawn" in late.text


async def test_the_token_contains_the_user_and_the_address_of_the_device(
    owner: Caller, device: Device
) -> None:
    until = device.app.access.clock.now() + 5 * DAY
    made = await invited(owner, role="user", seconds=DAY, key=KEY.upper(), not_after=until)
    token, _ = read_untrusted(made["token"])
    assert token.device == device.fingerprint
    assert (token.name, token.role, token.id.hex()) == ("anna", "user", made["id"])
    assert (token.expires, token.issued) == (made["expires"], made["created"])
    assert token.expires - token.issued == DAY
    assert token.key is not None
    assert token.key.hex == KEY
    assert token.addresses == (f"127.0.0.1:{device.app.server.port}",)
    assert made.keys() - {"token"} == {
        *("id", "name", "role", "uses", "created", "expires", "inviter", "key", "not_after")
    }
    (listed,) = (await owner.ask("GET", "/iam/invites")).body
    assert listed == {field: value for field, value in made.items() if field != "token"}
    assert (listed["inviter"], listed["uses"], listed["key"]) == ("olga", 1, KEY)


async def test_forged_foreign_and_malformed_tokens_get_the_same_refusal(
    kit: Kit, owner: Caller, device: Device
) -> None:
    made = await invited(owner)
    genuine = signed(made["token"])
    token, _ = read_untrusted(genuine)
    other = Identity.create()
    foreign = InviteToken(other.fingerprint, token.id, "anna", "owner", token.expires, 0)
    parts: Any = cbor.decode_untrusted(genuine)
    header, unprotected, claims, signature = parts
    output: Any = cbor.decode_untrusted(claims)
    raised = cbor.encode(
        {key: "owner" if value == "guest" else value for key, value in output.items()}
    )
    assert raised != claims
    alike = [
        b"",
        b"\x00",
        genuine[:-1],
        genuine + b"\x00",
        cbor.encode([header, unprotected, raised, signature]),
        cbor.encode([header, unprotected, claims, bytes(64)]),
        cbor.encode([header, {1: -8}, claims, signature]),
        foreign.sign(other),
        cbor.encode([1] * 200),
    ]
    unknown_client = kit.caller(device)
    answers = [await redeemed(unknown_client, forged) for forged in alike]
    assert {(one.code, one.reason, one.text) for one in answers} == {
        ("4.03", "invite", answers[0].text)
    }
    assert FOREIGN in answers[0].text
    assert list(device.app.access.store.state.users) == ["olga"]
    assert made["id"] in device.app.access.store.state.invites
    # A body that contains no token in bytes is malformed.
    for body in ({}, {"token": "text"}, {"token": b"", "role": "owner"}, [b""], b""):
        assert (await unknown_client.ask("POST", "/iam/redeem", body)).code == "4.00"
    assert (await unknown_client.ask("POST", "/iam/redeem", raw=genuine, ct=42)).code == "4.15"
    assert (await redeemed(unknown_client, genuine)).code == "2.04"


async def test_a_token_with_any_byte_changed_is_refused(
    kit: Kit, owner: Caller, device: Device
) -> None:
    genuine = signed((await invited(owner))["token"])
    unknown_client = kit.caller(device)
    for at in range(0, len(genuine), 3):
        flipped = genuine[:at] + bytes([genuine[at] ^ 1]) + genuine[at + 1 :]
        refused = await redeemed(unknown_client, flipped)
        assert (refused.code, refused.reason, FOREIGN in refused.text) == ("4.03", "invite", True)


async def test_a_refused_genuine_invite_gets_the_reason(kit: Kit) -> None:
    ahead = [0.0]
    device = await kit.device(clocks=SystemClocks(wall=lambda: wall_clock() + ahead[0]))
    owner = await kit.paired(device, "olga")
    unknown_client = kit.caller(device)
    withdrawn = await invited(owner)
    assert (await owner.ask("DELETE", f"/iam/invites/{withdrawn['id']}")).code == "2.02"
    assert (await owner.ask("DELETE", f"/iam/invites/{withdrawn['id']}")).code == "4.04"
    bound = await invited(owner, key=KEY)
    over = await invited(owner, "bert", seconds=60)
    used = await invited(owner, "dora", seconds=60)
    dora = kit.caller(device)
    assert (await redeemed(dora, used["token"])).code == "2.04"
    ahead[0] = 61
    for made, why in ((withdrawn, "withdrawn"), (bound, "another key"), (over, "has expired")):
        refused = await redeemed(unknown_client, made["token"])
        assert (refused.code, refused.reason) == ("4.03", "invite")
        assert why in refused.text
    # An expired invite is not listed, and is reported as expired even without its record.
    assert [one["id"] for one in (await owner.ask("GET", "/iam/invites")).body] == [bound["id"]]
    await invited(owner, "carla")
    assert over["id"] not in device.app.access.store.state.invites
    assert "has expired" in (await redeemed(unknown_client, over["token"])).text
    assert set(device.app.access.store.state.users) == {"olga", "dora"}
    # A client that redeemed it in time, but did not get the answer, may repeat the request.
    assert (await redeemed(dora, used["token"])).body["user"] == "dora"


async def test_the_right_key_redeems_an_invite_that_is_bound_to_it(
    kit: Kit, owner: Caller, device: Device
) -> None:
    anna, eve = kit.caller(device), kit.caller(device)
    made = await invited(owner, key=anna.fingerprint)
    assert (await redeemed(eve, made["token"])).reason == "invite"
    assert (await redeemed(anna, made["token"])).code == "2.04"


async def test_a_repeated_redemption_gets_the_same_answer_and_takes_no_use(
    kit: Kit, owner: Caller, device: Device
) -> None:
    made = await invited(owner, uses=2)
    anna = kit.caller(device)
    first = await redeemed(anna, made["token"])
    state = device.app.access.store.state
    for _ in range(3):
        assert (await redeemed(anna, made["token"])).body == first.body
    assert device.app.access.store.state is state
    assert state.invites[made["id"]].uses == 1
    second = await redeemed(kit.caller(device), made["token"])
    assert second.body["user"] == "anna-2"
    assert (await redeemed(kit.caller(device), made["token"])).reason == "invite"
    # The invite is removed, and the client that used it still gets the same answer.
    assert (await redeemed(anna, made["token"])).body == first.body
    assert [event.user for event in device.events("invite-redeemed")] == ["anna", "anna-2"]


async def test_an_invite_is_refused_if_the_key_or_the_name_is_taken(
    kit: Kit, owner: Caller, device: Device
) -> None:
    guest = await kit.paired(device, "gustav")
    made = await invited(owner)
    taken = await redeemed(guest, made["token"])
    assert (taken.code, taken.reason) == ("4.09", "taken")
    assert (await owner.ask("POST", "/iam/invites", {"name": "olga"})).reason == "taken"
    await owner.ask("POST", "/iam/users", {"name": "anna", "role": "user"})
    late = await redeemed(kit.caller(device), made["token"])
    assert (late.code, late.reason) == ("4.09", "taken")
    assert device.app.access.store.state.user("anna").keys == ()
    # A user and an unknown key have separate budgets.
    refused = [event.fingerprint for event in device.events("invite-refused")]
    assert (len(refused), refused[0]) == (2, guest.fingerprint)


async def test_only_one_of_several_simultaneous_keys_redeems_an_invite(
    kit: Kit, owner: Caller, device: Device
) -> None:
    for turn in range(4):
        made = await invited(owner, f"user-{turn}")
        rivals = [kit.caller(device) for _ in range(4)]
        await asyncio.gather(*(rival.connect() for rival in rivals))
        answers = await asyncio.gather(*(redeemed(rival, made["token"]) for rival in rivals))
        assert sorted(one.code for one in answers) == ["2.04", "4.03", "4.03", "4.03"]
        (winner,) = (r for r, one in zip(rivals, answers, strict=True) if one.code == "2.04")
        user = device.app.access.store.state.user(f"user-{turn}")
        assert user.fingerprints == {winner.fingerprint}
        for rival in rivals:
            await rival.close()


async def test_an_invite_and_its_redemption_survive_a_restart(kit: Kit) -> None:
    device = await kit.device()
    owner = await kit.paired(device, "olga")
    made = await invited(owner)
    await owner.close()
    await device.app.close()
    again = await kit.device()
    anna = kit.caller(again)
    assert (await redeemed(anna, made["token"])).code == "2.04"
    await anna.close()
    await again.app.close()
    third = await kit.device()
    assert (await redeemed(kit.caller(third), made["token"])).reason == "invite"
    anna = kit.caller(third, anna.identity)
    assert (await redeemed(anna, made["token"])).body["user"] == "anna"
    assert (await anna.ask("GET", "/hello")).code == "2.05"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({}, "4.00"),
        ({"name": "a  b"}, "4.00"),
        ({"name": "anna", "role": 7}, "4.00"),
        ({"name": "anna", "role": "king"}, "4.04"),
        ({"name": "anna", "role": "unpaired"}, "4.04"),
        ({"name": "anna", "uses": 0}, "4.00"),
        ({"name": "anna", "uses": 33}, "4.00"),
        ({"name": "anna", "uses": 1.5}, "4.00"),
        ({"name": "anna", "uses": True}, "4.00"),
        ({"name": "anna", "seconds": 0}, "4.00"),
        ({"name": "anna", "seconds": -1}, "4.00"),
        ({"name": "anna", "seconds": float("nan")}, "4.00"),
        ({"name": "anna", "seconds": 31 * DAY}, "4.00"),
        ({"name": "anna", "key": "xyz"}, "4.00"),
        ({"name": "anna", "not_after": 5}, "4.00"),
        ({"name": "anna", "crown": True}, "4.00"),
        ({"name": "anna", "token": b""}, "4.00"),
        ([], "4.00"),
    ],
)
async def test_an_invalid_invite_request_is_rejected(
    owner: Caller, device: Device, fields: object, code: str
) -> None:
    before = device.app.access.store.state
    assert (await owner.ask("POST", "/iam/invites", fields)).code == code
    assert device.app.access.store.state is before


async def test_the_number_of_invites_is_bounded(owner: Caller, device: Device) -> None:
    for number in range(32):
        device.app.invitations.create(None, InviteRequest(name=f"user-{number}"))
    full = await owner.ask("POST", "/iam/invites", {"name": "late"})
    assert (full.code, full.reason) == ("4.09", "limit")
    listed = await owner.ask("GET", "/iam/invites")
    assert len(listed.body) == 32  # the answer has several blocks


async def test_no_token_is_in_any_event_and_refusal_events_are_limited(
    kit: Kit,
    owner: Caller,
    device: Device,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(event_budget, "REFUSAL_REPEAT_SECONDS", TIMEOUT_SECONDS)
    for name in ("", "handfast", "handfast.coap", "coap-server", "peer", "iam"):
        caplog.set_level("DEBUG", logger=name)
    made = await invited(owner)
    unknown_client = kit.caller(device)
    for _ in range(60):
        await redeemed(unknown_client, signed(made["token"])[:-1])
    await redeemed(unknown_client, made["token"])
    await redeemed(kit.caller(device), made["token"])
    assert len(device.events("invite-refused")) <= 2
    (created,) = device.events("invite-created")
    assert (created.actor, created.user, created.role) == ("olga", "anna", "guest")
    (used,) = device.events("invite-redeemed")
    assert (used.user, used.fingerprint, used.method) == (
        "anna",
        unknown_client.fingerprint,
        "invite",
    )
    assert used.address.startswith("127.0.0.1:")
    trail = str(list(device.app.access.store.audit.iterate()))
    output = trail + "".join(record.getMessage() for record in caplog.records)
    assert "Incoming message" in output, "the log is not at DEBUG"
    text, raw = made["token"], signed(made["token"])
    assert not any(secret in output for secret in (text, text[60:100], raw.hex(), raw[-64:].hex()))
    store = b"".join(
        path.read_bytes() for path in kit.home.iterdir() if path.is_file() and ".db" in path.name
    )
    assert raw[-64:] not in store
    assert text.encode() not in store
