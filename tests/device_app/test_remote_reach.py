"""Remote reach in the daemon: whom it listens for, what each client gets, and what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from device_app.access.bodies import UserPatch
from device_app.access.clock import SystemClocks
from iam.model import Key
from peer.identity import Identity
from peer.net.address import Address
from peer.net.problem import ProblemError
from peer.net.remote import PeerIdentity
from peer.net.session_route import PATH_VERDICT, SessionRoute
from peer.remote.messages import RefusalReason
from peer.remote.pair_keys import PairKeys
from peer.remote.settings import RemoteSettings
from tests.kit.remote_agents import BROKER, PASSWORD, start_with_agent

if TYPE_CHECKING:
    from tests.kit.device import Caller, Kit
    from tests.kit.remote_agents import FakeAgent

NO_GUESTS = """
[[policy]]
id = "no-remote"
[[policy.statement]]
effect = "Deny"
actions = ["Remote:Connect"]
[[role]]
id = "guest"
rank = 10
policies = ["core-unpaired", "core-guest", "no-remote"]
"""


async def settings_of(caller: Caller) -> RemoteSettings:
    answer = await caller.ask("GET", "/remote")
    assert answer.code == "2.05", answer
    return RemoteSettings.decode_untrusted(answer.payload)


# -- the settings of a client ---------------------------------------------------------------------


async def test_each_key_gets_the_secret_of_its_own_pair(kit: Kit, agent: FakeAgent) -> None:
    device = await start_with_agent(kit, agent)
    anna, bert = kit.known(device, "anna", "owner"), kit.known(device, "bert", "guest")
    found = [await settings_of(one) for one in (anna, bert)]
    assert found[0].secret != found[1].secret
    for caller, settings in zip((anna, bert), found, strict=True):
        keys = agent.clients[caller.identity.fingerprint]
        assert PairKeys(settings.secret).topic == keys.topic
        assert agent.asks.revision(caller.identity.fingerprint) == settings.revision
    assert [one.url for one in found[0].brokers] == [BROKER]
    assert (found[0].prefix, found[0].stun) == ("hf1/kitchen", ("a.example:3478",))
    assert found[0].brokers[0].password.reveal() == PASSWORD


async def test_no_query_and_no_body_gets_the_secret_of_another_key(
    kit: Kit, agent: FakeAgent
) -> None:
    device = await start_with_agent(kit, agent)
    owner, guest = kit.known(device, "anna", "owner"), kit.known(device, "gus", "guest")
    theirs, own = await settings_of(owner), await settings_of(guest)
    hexes = owner.fingerprint
    for path in (f"/remote?fingerprint={hexes}", f"/remote?key={hexes}", "/remote?user=anna"):
        answer = await guest.ask("GET", path)
        if answer.code == "2.05":
            assert RemoteSettings.decode_untrusted(answer.payload).secret == own.secret
        assert theirs.secret.reveal() not in answer.payload
    for path in (f"/remote/{hexes}", "/remote/anna"):
        assert (await guest.ask("GET", path)).code == "4.04"
    for method in ("POST", "PUT", "DELETE"):
        assert (await guest.ask(method, "/remote", {"fingerprint": hexes})).code == "4.05"


async def test_a_key_without_a_user_gets_no_settings(kit: Kit, agent: FakeAgent) -> None:
    device = await start_with_agent(kit, agent)
    kit.known(device, "anna", "owner")
    answer = await kit.caller(device).ask("GET", "/remote")
    assert (answer.code, answer.reason) == ("4.03", "not-paired")


async def test_the_settings_are_not_given_over_a_path(kit: Kit, agent: FakeAgent) -> None:
    device = await start_with_agent(kit, agent)
    anna = kit.known(device, "anna", "owner")
    await anna.connect_over(device)
    assert (await anna.ask("GET", "/hello")).code == "2.05"
    answer = await anna.ask("GET", "/remote")
    assert (answer.code, answer.reason) == ("4.03", "denied")
    assert "not given over a remote path" in answer.text
    assert "secret" not in answer.text
    await anna.disconnect()
    await settings_of(anna)


async def test_without_a_broker_there_is_no_such_resource(kit: Kit, agent: FakeAgent) -> None:
    device = await kit.device(make_agent=agent.make)
    anna = kit.known(device, "anna", "owner")
    answer = await anna.ask("GET", "/remote")
    assert (answer.code, answer.reason) == ("4.04", "not-found")
    assert agent.needs is None
    assert device.app.status()["remote"]["state"] == "off"
    assert not (kit.home / "remote.key").exists()


# -- whom the device listens for -------------------------------------------------------------------


async def test_a_revoked_key_is_listened_for_no_more_in_the_same_turn(
    kit: Kit, agent: FakeAgent
) -> None:
    device = await start_with_agent(kit, agent)
    anna, gus = kit.known(device, "anna", "owner"), kit.known(device, "gus", "guest")
    key = gus.identity.fingerprint
    topic = agent.clients[key].topic
    assert agent.asks.may_connect(key) is None
    device.app.access.registry.remove_user(None, "gus")
    # No turn of the event loop has passed.
    assert topic not in agent.topics
    assert agent.asks.may_connect(key) is RefusalReason.DENIED
    await device.until(lambda: agent.ended == [key])
    assert agent.listens_for(anna.identity.fingerprint)


async def test_the_path_of_a_revoked_key_ends(kit: Kit, agent: FakeAgent) -> None:
    device = await start_with_agent(kit, agent)
    gus = kit.known(device, "gus", "guest")
    kit.known(device, "anna", "owner")
    path = await gus.connect_over(device)
    assert (await gus.ask("GET", "/hello")).code == "2.05"
    device.app.access.registry.remove_user(None, "gus")
    await device.until(lambda: path.is_closed)


async def test_a_key_that_is_added_is_listened_for_in_the_same_turn(
    kit: Kit, agent: FakeAgent
) -> None:
    device = await start_with_agent(kit, agent)
    kit.known(device, "anna", "owner")
    phone = Identity.create().fingerprint
    device.app.access.registry.add_key(None, "anna", Key(phone.hex))
    assert agent.listens_for(phone)
    device.app.access.registry.remove_key(None, "anna", phone.hex)
    assert not agent.listens_for(phone)


async def test_the_device_listens_for_the_users_that_it_has_at_the_start(
    kit: Kit, agent: FakeAgent
) -> None:
    device = await kit.device()
    anna = kit.known(device, "anna", "owner")
    await kit.close()
    await start_with_agent(kit, agent)
    assert set(agent.clients) == {anna.identity.fingerprint}


async def test_access_that_begins_and_ends_is_followed(kit: Kit, agent: FakeAgent) -> None:
    wall = [1_900_000_000.0]
    clocks = SystemClocks(lambda: wall[0], lambda: 0.0, "boot")
    device = await start_with_agent(kit, agent, clocks=clocks)
    kit.known(device, "anna", "owner")
    guest = Identity.create()
    device.add_user("gus", "guest", guest, not_before=wall[0] + 5, not_after=wall[0] + 10)
    found = [agent.listens_for(guest.fingerprint)]
    for seconds in (4, 2, 5):
        wall[0] += seconds
        # A change of any user checks which begins and ends are due.
        device.app.access.registry.set_user(None, "anna", UserPatch(display_name=f"Anna {seconds}"))
        found.append(agent.listens_for(guest.fingerprint))
    assert found == [False, False, True, False]


async def test_a_policy_decides_for_whom_the_device_listens(kit: Kit, agent: FakeAgent) -> None:
    device = await start_with_agent(kit, agent)
    anna, gus = kit.known(device, "anna", "owner"), kit.known(device, "gus", "guest")
    kit.policy(NO_GUESTS)
    await device.app.policies.reload()
    assert set(agent.clients) == {anna.identity.fingerprint}
    assert agent.asks.may_connect(gus.identity.fingerprint) is RefusalReason.DENIED
    kit.remove_policy()
    await device.app.policies.reload()
    assert agent.listens_for(gus.identity.fingerprint)


ONLY_DIRECT = """
[[policy]]
id = "direct-only"
[[policy.statement]]
effect = "Allow"
actions = ["Remote:Connect"]
conditions = [{ StringEquals = { "Connection:Path" = ["direct"] } }]
[[policy.statement]]
effect = "Allow"
actions = ["Hello:Get"]
[[role]]
id = "guest"
rank = 10
policies = ["direct-only"]
"""


async def test_a_policy_about_the_path_is_decided_for_each_request(
    kit: Kit, agent: FakeAgent
) -> None:
    """When a client connects, no one knows yet whether its path will be direct or relayed."""
    kit.policy(ONLY_DIRECT)
    device = await start_with_agent(kit, agent)
    gus = kit.known(device, "gus", "guest")
    assert agent.asks.may_connect(gus.identity.fingerprint) is None
    path = await gus.connect_over(device)
    assert (await gus.ask("GET", "/hello")).code == "2.05"
    path.route = SessionRoute.RELAY
    answer = await gus.ask("GET", "/hello")
    assert (answer.code, answer.reason) == ("4.03", "denied")
    [event] = device.events("denied")
    assert event.action == "Remote:Connect"
    path.route = SessionRoute.DIRECT
    assert (await gus.ask("GET", "/hello")).code == "2.05"


@pytest.mark.parametrize("route", [SessionRoute.DIRECT, SessionRoute.RELAY])
async def test_a_policy_about_the_path_is_decided_for_each_stream(
    kit: Kit, agent: FakeAgent, route: SessionRoute
) -> None:
    """A stream of a tunnel is no request, and has no other check than this one."""
    kit.policy(ONLY_DIRECT)
    device = await start_with_agent(kit, agent)
    gus = kit.known(device, "gus", "guest")
    verdict = PATH_VERDICT
    peer = PeerIdentity(
        fingerprint=gus.identity.fingerprint,
        address=Address("203.0.113.9", 4711),
        interface="",
        is_local=verdict.is_local,
        verdict=verdict,
        session_id=1,
        exporter=b"",
        extended_master_secret=True,
        path=route,
    )
    if route is SessionRoute.DIRECT:
        device.app.guard.require_of(peer, "Hello:Get")
    else:
        with pytest.raises(ProblemError, match="may not"):
            device.app.guard.require_of(peer, "Hello:Get")


AT_HOME = """
[[policy]]
id = "at-home"
[[policy.statement]]
effect = "Allow"
actions = ["Hello:Get"]
conditions = [{ Bool = { "Connection:IsLocal" = ["true"] } }]
[[policy.statement]]
effect = "Allow"
actions = ["Remote:Connect"]
[[role]]
id = "guest"
rank = 10
policies = ["at-home"]
"""


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "fe80::1", "192.168.1.20"])
async def test_a_path_is_never_local_whatever_address_it_has(
    kit: Kit, agent: FakeAgent, address: str
) -> None:
    kit.policy(AT_HOME)
    device = await start_with_agent(kit, agent)
    gus = kit.known(device, "gus", "guest")
    assert (await gus.ask("GET", "/hello")).code == "2.05"  # by loopback, which is local here
    path = await gus.connect_over(device)
    path.remote_address = Address(address, 5684)
    answer = await gus.ask("GET", "/hello")
    assert (answer.code, answer.reason) == ("4.03", "denied")
    [session] = [one for one in device.sessions("regular") if one["path"] == "direct"]
    assert not session["local"]


async def test_the_pairing_resources_do_not_exist_on_a_path(kit: Kit, agent: FakeAgent) -> None:
    device = await start_with_agent(kit, agent)
    anna = kit.known(device, "anna", "owner")
    await device.open()
    await anna.connect_over(device)
    for method in ("GET", "POST"):
        answer = await anna.ask(method, "/pair", {"method": "compare", "name": "x"})
        assert answer.code in {"4.03", "4.04"}, answer
    assert not device.events("ceremony-started")
