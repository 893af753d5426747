"""Remote reach over real sockets of loopback: Mosquitto with TLS, ICE, and coturn."""

import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

import aiocoap
import pytest
from aiocoap.numbers.codes import Code

from peer.errors import Unreachable
from peer.identity import Identity
from peer.net.client import CoapsClient
from peer.net.connection import CoapsConnection
from peer.net.session_route import SessionRoute
from peer.remote.agent import RemoteAgent
from peer.remote.limits import RemoteLimits
from peer.remote.route_steps import RouteStep, StepKind
from peer.remote.settings import RemoteSettings, Server
from peer.secret import Secret
from tests.kit.brokers import RunningBroker
from tests.kit.loopback_reach import connect, start_agent
from tests.kit.relays import RunningRelay
from tests.kit.serve import Served, Servers
from tests.kit.server_process import free_port
from tests.kit.waiting import until

pytestmark = pytest.mark.needs_tool("mosquitto", "mosquitto_passwd", "turnserver")

LIMITS = RemoteLimits(attach_max_seconds=0.2, relay_linger_seconds=0.1, probe_seconds=0.5)
PREFIX = "hf1/home"


@dataclass
class Reach:
    """A device at the broker, and a client key that may connect."""

    served: Served
    agent: RemoteAgent
    settings: RemoteSettings
    coaps: CoapsClient
    client: Identity
    steps: list[RouteStep] = field(default_factory=list)

    async def open(self, *via: SessionRoute) -> CoapsConnection:
        return await self.open_by(self.settings, *via or (SessionRoute.DIRECT, SessionRoute.RELAY))

    async def open_by(self, settings: RemoteSettings, *via: SessionRoute) -> CoapsConnection:
        pinned = self.served.identity.fingerprint
        return await connect(
            settings, self.coaps, pinned, via, limits=LIMITS, on_step=self.steps.append
        )


@pytest.fixture
async def reach(broker: RunningBroker, relay: RunningRelay) -> AsyncIterator[Reach]:
    servers, client = Servers(Identity.create()), Identity.create()
    served = await servers.start()
    settings = RemoteSettings(
        secret=Secret(secrets.token_bytes(32)),
        prefix=PREFIX,
        brokers=(broker.server(),),
        stun=(relay.stun,),
        turn=(relay.udp(),),
    )
    agent = await start_agent(served.server, settings, client.fingerprint, limits=LIMITS)
    async with CoapsClient(client) as coaps:
        yield Reach(served, agent, settings, coaps, client)
    await agent.close()
    await servers.close()


async def who(connection: CoapsConnection) -> dict[str, Any]:
    message = aiocoap.Message(code=Code.GET, uri_path=("who",))
    found: dict[str, Any] = json.loads((await connection.request(message)).payload)
    return found


@pytest.mark.parametrize("route", [SessionRoute.DIRECT, SessionRoute.RELAY])
async def test_a_client_reaches_its_device(reach: Reach, route: SessionRoute) -> None:
    connection = await reach.open(route)
    seen = await who(connection)
    assert seen["fingerprint"] == reach.client.fingerprint.hex
    assert (seen["local"], seen["rule"]) == (False, "path")
    assert connection.peer.path is route
    (session,) = reach.served.server.sessions()
    assert (session.path, session.is_local) == (route, False)
    assert session.address.host == "127.0.0.1"


async def test_both_carriers_are_tried_and_the_relay_is_given_back(reach: Reach) -> None:
    connection = await reach.open()
    await until(lambda: connection.peer.path is SessionRoute.DIRECT)
    assert await who(connection)
    await until(lambda: reach.agent.view().paths[0].route is SessionRoute.DIRECT)
    await until(lambda: reach.agent.view().network.has_udp)


async def test_large_bodies_pass(reach: Reach) -> None:
    connection = await reach.open()
    body = secrets.token_bytes(30_000)
    message = aiocoap.Message(code=Code.POST, uri_path=("echo",), payload=body)
    assert (await connection.request(message)).payload == body


async def test_a_broker_that_is_gone_is_reported(reach: Reach) -> None:
    gone = Server(f"mqtts://127.0.0.1:{free_port('127.0.0.1')}", pin=bytes(32))
    with pytest.raises(Unreachable):
        await reach.open_by(replace(reach.settings, brokers=(gone,)), SessionRoute.DIRECT)
    assert [(step.kind, step.reason) for step in reach.steps][-1:] == [
        (StepKind.BROKER, "unreachable")
    ]


async def test_the_end_of_a_client_ends_its_session_and_path(reach: Reach) -> None:
    connection = await reach.open()
    stream = connection.observe(aiocoap.Message(code=Code.GET, uri_path=("value",)))
    await anext(stream)
    reach.agent.end_client(reach.client.fingerprint)
    assert reach.served.server.sessions() == []
    assert reach.agent.view().paths == ()
    await until(lambda: not connection.is_open)
