"""No user can displace or suppress events of the audit trail, or appear as another actor.

The tests change users, keys and invites through the resources without pauses, and read the trail.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_app.access.audit_log import CONSOLE
from device_app.access.bodies import UserPatch
from device_app.access.clock import SystemClocks
from device_app.pairing.opener import Opener
from iam.limits import IamLimits
from iam.model import Key, User
from peer.errors import Malformed
from peer.pairing.invite import read_untrusted
from peer.pairing.names import check_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.kit.device import Answer, Caller, Device, Kit

BURST, HOURLY, ALL = 40, 20.0, 60
SMALL = IamLimits(
    change_burst=BURST,
    changes_per_hour=HOURLY,
    all_change_burst=ALL,
    all_changes_per_hour=40,
)
KEY = "5a" * 32
T1, T2 = 1_900_000_000, 2_000_000_000


class Clocks:
    """Clocks of the device that a test sets."""

    def __init__(self) -> None:
        self.at = 1000.0

    def system(self) -> SystemClocks:
        return SystemClocks(lambda: 1.8e9 + self.at, lambda: self.at, "b")


def trail(device: Device, kind: str = "") -> list[Any]:
    events = [record.event for record in device.app.access.store.audit.iterate()]
    return [event for event in events if kind in ("", event.kind)]


def head(device: Device) -> int:
    return device.app.access.store.audit.head[0]


async def redeem(caller: Caller, made: Answer) -> Answer:
    token = read_untrusted(made.body["token"])[1]
    return await caller.ask("POST", "/iam/redeem", {"token": token})


async def until_refused(change: Callable[[int], Any]) -> tuple[int, Answer]:
    """Repeat a change until it is refused; returns the number of changes, and the refusal."""
    for number in range(10 * BURST):
        answer = await change(number)
        if answer.code not in {"2.01", "2.04"}:
            return number, answer
    raise AssertionError("no change was refused")


async def device_with_small_limits(kit: Kit, clocks: Clocks) -> tuple[Device, Caller, Caller]:
    device = await kit.device(iam_limits=SMALL, clocks=clocks.system())
    return device, kit.known(device, "olga", "owner"), kit.known(device, "adam", "admin")


@pytest.mark.parametrize(
    "way", ["display", "time", "rename", "own name", "key", "users", "invites", "windows"]
)
async def test_the_changes_of_one_user_cannot_displace_all_other_events(kit: Kit, way: str) -> None:
    clocks = Clocks()
    device, owner, admin = await device_with_small_limits(kit, clocks)
    await owner.ask("POST", "/iam/users", {"name": "gina", "role": "guest", "keys": [KEY]})

    async def change(number: int) -> Answer:  # noqa: PLR0911  # one return per kind of change
        path = "/iam/users/gina"
        match way:
            case "display":
                return await admin.ask("PATCH", path, {"display": f"Gina {number}"})
            case "time":
                return await admin.ask("PATCH", path, {"not_after": T2 + number})
            case "rename":
                name, new = ("gina", "gigi")[:: 1 if number % 2 == 0 else -1]
                return await admin.ask("iPATCH", f"/iam/users/{name}", {"name": new})
            case "own name":
                name, new = ("adam", "adamo")[:: 1 if number % 2 == 0 else -1]
                return await admin.ask("iPATCH", f"/iam/users/{name}", {"name": new})
            case "key":
                return await admin.ask("PUT", f"{path}/keys/{KEY}", {"name": f"k{number}"})
            case "users":
                new_user = {"name": "eve", "role": "guest", "keys": ["7b" * 32, "8c" * 32]}
                made = await admin.ask("POST", "/iam/users", new_user)
                await admin.ask("DELETE", "/iam/users/eve")
                return made
            case "invites":
                return await invite_redeem_and_remove(kit, device, admin)
            case _:
                opened = await admin.ask("POST", "/iam/window", {"role": "guest"})
                await admin.ask("DELETE", "/iam/window")
                return opened

    before = head(device)
    done, refused = await until_refused(change)
    assert 0 < done <= BURST
    assert (refused.code, refused.reason) == ("4.29", "too-many")
    wait = refused.message.opt.max_age
    assert wait is not None
    assert 0 < wait <= 3600 * 11 / HOURLY
    # One event per change, one per reversal, and a few for refusals, not one for each of them.
    assert head(device) - before <= 3 * BURST + 5
    for _ in range(3):
        assert (await change(done)).code == "4.29"
    assert head(device) - before <= 3 * BURST + 10
    # A user without budget can still remove rights, and other users keep their budget.
    assert (await owner.ask("PATCH", "/iam/users/olga", {"display": "Olga"})).code == "2.04"
    gone = "gigi" if "gigi" in device.users.users else "gina"
    assert (await admin.ask("DELETE", f"/iam/users/{gone}/keys/{KEY}")).code == "2.02"
    assert (await admin.ask("DELETE", f"/iam/users/{gone}")).code == "2.02"
    # The console has no limit. After the wait, the user may make another change.
    for number in range(BURST + 1):
        device.app.access.registry.set_user(None, "olga", UserPatch(display_name=f"O{number}"))
    clocks.at += wait
    device.app.access.registry.add_user(None, User("gina", "guest", (Key(KEY),)))
    assert (await change(done if way == "own name" else 0)).code in {"2.01", "2.04"}


async def invite_redeem_and_remove(kit: Kit, device: Device, admin: Caller) -> Answer:
    """Create an invite for three users, redeem it three times, and remove these users."""
    made = await admin.ask("POST", "/iam/invites", {"name": "eve", "uses": 3})
    if made.code == "2.01":
        for _ in range(3):
            caller = kit.caller(device)
            assert (await redeem(caller, made)).code == "2.04"
            await caller.close()
        for name in ("eve", "eve-2", "eve-3"):
            assert (await admin.ask("DELETE", f"/iam/users/{name}")).code == "2.02"
    return made


async def test_several_users_share_one_budget_and_owners_have_their_own(kit: Kit) -> None:
    """Several admins share one budget, so adding admins gives no more."""
    clocks = Clocks()
    device, owner, admin = await device_with_small_limits(kit, clocks)
    admins = [admin, *(kit.known(device, f"adam-{number}", "admin") for number in range(3))]
    before = head(device)
    done: Counter[int] = Counter()
    for index, one in enumerate(admins):

        async def change(number: int, one: Caller = one) -> Answer:
            return await one.ask("PATCH", "/iam/users/adam-1", {"display": f"A {number}"})

        done[index], refused = await until_refused(change)
        assert refused.reason == "too-many"
    assert max(done.values()) == BURST
    assert done.total() <= ALL
    assert head(device) - before <= ALL + 5 * len(admins)
    assert (await owner.ask("PATCH", "/iam/users/adam-1", {"role": "guest"})).code == "2.04"


@pytest.mark.usefixtures("owner")
async def test_refusals_of_one_user_do_not_hide_those_of_another(kit: Kit, device: Device) -> None:
    """Both keys of one user are refused on many paths, and then another user is refused once."""
    mallory, helper = kit.known(device, "mallory", "guest"), kit.caller(device)
    device.app.access.registry.add_key(None, "mallory", Key(helper.fingerprint))
    gustav = kit.known(device, "gustav", "guest")
    for caller in (mallory, helper):
        for number in range(12):
            for method, path in (
                ("GET", "/events"),
                ("GET", "/iam/users"),
                ("POST", "/iam/users"),
                ("GET", f"/iam/users/{number}"),
                ("DELETE", f"/iam/users/{number}"),
                ("GET", "/iam/invites"),
                ("GET", "/iam/policies"),
                ("POST", "/iam/window"),
                ("PUT", f"/iam/users/{number}/keys/{KEY}"),
            ):
                assert (await caller.ask(method, path, {})).code == "4.03"
    assert (await gustav.ask("GET", "/iam/users")).code == "4.03"
    last = trail(device, "denied")[-1]
    assert (last.user, last.action) == ("gustav", "Iam:ListUsers")
    assert last.detail.endswith("of others)")
    assert Counter(event.user for event in trail(device, "denied")) == {"mallory": 5, "gustav": 1}


# ------------------------------------------------------------------------------------- the actor


@given(
    st.text(max_size=70) | st.sampled_from(["@console", "＠console", "@\u0300console", " @console"])
)
def test_the_actor_name_console_is_reserved(text: str) -> None:
    try:
        name = check_name(text)
    except Malformed:
        return
    assert name != CONSOLE
    assert "@" in CONSOLE


async def test_a_user_named_console_is_distinct_from_the_console(
    kit: Kit, device: Device, owner: Caller
) -> None:
    console = kit.known(device, "console", "admin")
    assert (await console.ask("POST", "/iam/users", {"name": "x", "role": "guest"})).code == "2.01"
    assert (await console.ask("POST", "/iam/window", {})).code == "2.04"
    made = await console.ask("POST", "/iam/invites", {"name": "nina"})
    assert (await redeem(kit.caller(device), made)).code == "2.04"
    assert (await console.ask("DELETE", "/iam/window")).code == "2.02"
    events = (await owner.ask("GET", "/events?last=5")).body["events"]
    assert [(one["kind"], one["actor"]) for one in events] == [
        ("user-added", "console"),
        ("window-opened", "console"),
        ("invite-created", "console"),
        ("invite-redeemed", "console"),
        ("window-closed", "console"),
    ]
    device.app.access.registry.remove_user(None, "x")
    await device.open()
    assert [event.actor for event in trail(device)[-2:]] == ["@console", "@console"]


@pytest.mark.usefixtures("owner")
async def test_an_opener_is_recorded_under_the_current_name(kit: Kit, device: Device) -> None:
    """Another user may have taken the former name of the window's opener."""
    adam = kit.known(device, "adam", "admin")
    guard = device.app.guard
    subject = device.app.access.authority.subject(adam.fingerprint)
    await device.open(role="guest", opener=Opener(subject, {}))
    device.app.access.registry.set_user(None, "adam", UserPatch(name="abel"))
    kit.known(device, "adam", "guest")
    caller = kit.caller(device)
    started = await caller.start("nina")
    device.decide(accept=True)
    tags = caller.tags(started)
    assert (await caller.send_tag(started, tags.client_tag)).code == "2.04"
    [paired] = trail(device, "paired")
    assert (paired.actor, paired.user) == ("abel", "nina")
    assert guard.session_priority(caller.identity.fingerprint) == 1


# ------------------------------------------------------------------------- old and new values


async def test_a_change_of_rights_is_recorded_with_old_and_new_values(
    device: Device, owner: Caller
) -> None:
    one = "/iam/users/mia"
    new_user = {
        "name": "mia",
        "role": "guest",
        "not_after": T1,
        "keys": [KEY, {"fingerprint": "7b" * 32}],
    }
    assert (await owner.ask("POST", "/iam/users", new_user)).code == "2.01"
    for method, path, body in (
        ("PATCH", one, {"not_after": T2}),
        ("PATCH", one, {"not_before": T1, "not_after": None}),
        ("PATCH", one, {"role": "admin", "not_before": None}),
        ("PATCH", one, {"display": 'M", role guest -> owner'}),
        ("PUT", f"{one}/keys/{KEY}", {"name": "phone"}),
    ):
        assert (await owner.ask(method, path, body)).code == "2.04"
    made = await owner.ask(
        "POST", "/iam/invites", {"name": "leo", "uses": 2, "seconds": 60, "not_after": T2}
    )
    renamed = await owner.ask("PATCH", one, {"role": "guest", "name": "mara"})
    assert renamed.code == "2.04"
    assert (await owner.ask("DELETE", "/iam/users/mara")).code == "2.02"
    t1, t2 = "2030-03-17T17:46:40Z", "2033-05-18T03:33:20Z"
    found = [(event.kind, event.actor, event.user, event.detail) for event in trail(device)]
    ends = device.users.invites[made.body["id"]].expires
    assert [one for one in found if one[2] != "olga"] == [
        ("user-added", "olga", "mia", f"until {t1}"),
        ("key-added", "olga", "mia", ""),
        ("user-changed", "olga", "mia", f"until {t1} -> {t2}"),
        ("user-changed", "olga", "mia", f"from always -> {t1}, until {t2} -> never"),
        ("user-changed", "olga", "mia", f"role guest -> admin, from {t1} -> always"),
        ("user-changed", "olga", "mia", 'display "" -> "M\\", role guest -> owner"'),
        ("key-added", "olga", "mia", 'name "" -> "phone"'),
        (
            "invite-created",
            "olga",
            "leo",
            f"invite {made.body['id'][:8]}, 2 uses, good until {utc(ends)}, access until {t2}",
        ),
        ("user-changed", "olga", "mia", "role admin -> guest, name mia -> mara"),
        ("user-removed", "olga", "mara", ""),
        ("key-revoked", "olga", "mara", ""),
    ]
    fingerprints = {event.fingerprint for event in trail(device) if event.kind == "user-added"}
    assert KEY in fingerprints


def utc(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def test_an_invite_that_ends_with_its_creators_rights_is_recorded(
    kit: Kit, device: Device, owner: Caller
) -> None:
    adam = kit.known(device, "adam", "admin")
    made = await adam.ask("POST", "/iam/invites", {"name": "leo", "role": "admin"})
    assert (await owner.ask("PATCH", "/iam/users/adam", {"role": "guest"})).code == "2.04"
    changed, ended = trail(device)[-2:]
    assert (changed.kind, changed.detail) == ("user-changed", "role admin -> guest")
    assert (ended.kind, ended.actor, ended.user) == ("invite-withdrawn", "olga", "leo")
    assert made.body["id"].startswith(ended.detail.removeprefix("invite "))


@pytest.mark.usefixtures("owner")
async def test_new_policies_are_recorded_with_the_roles_that_they_change(
    kit: Kit, device: Device
) -> None:
    kit.policy('[[role]]\nid = "guest"\npolicies = ["core-user"]\n')
    await device.app.policies.reload()
    assert trail(device, "policy-loaded")[-1].detail == "1 files, other rights: guest"
    await device.app.policies.reload()
    assert trail(device, "policy-loaded")[-1].detail == "1 files"


@pytest.mark.usefixtures("owner")
async def test_a_key_that_is_verified_by_pairing_again_is_recorded(
    kit: Kit, device: Device
) -> None:
    caller = kit.caller(device)
    key = Key(caller.fingerprint, method="button", verified=False)
    device.app.access.registry.add_user(None, User("uwe", "guest", (key,)))
    await device.open(role="user")
    started = await caller.start("uwe")
    device.decide(accept=True)
    assert (await caller.send_tag(started, caller.tags(started).client_tag)).code == "2.04"
    [paired] = trail(device, "paired")
    assert (paired.role, paired.detail) == ("user", "unverified -> verified, role guest -> user")
