"""`remote test`: try each server of the settings as a path would use it, step by step.

A step that fails names what to do next, and the steps that need it are skipped. No step changes
anything, and none prints a password. The servers are asked with the accounts of the device, beside
a daemon that may run.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING

from device_app.limits import SELF_TEST_FOREIGN_SECONDS, SELF_TEST_HEARD_SECONDS
from device_app.remote.agent_factory import import_extra
from device_app.remote.self_test_steps import (
    Result,
    after,
    dns_step,
    failed,
    milliseconds,
    passed,
    service_step,
    skipped,
    tcp_step,
    tls_step,
)
from device_app.remote.servers import RemoteServers
from device_app.remote.views import SelfTestStep
from device_app.settings.remote import DEFAULT_PREFIX
from peer.remote.messages import NONCE_BYTES
from peer.remote.settings import Server

if TYPE_CHECKING:  # it needs a package of the extra `remote`
    from peer.remote.broker import Broker

RandomBytes = Callable[[int], bytes]


async def self_test(
    servers: RemoteServers,
    *,
    services: Mapping[str, str],
    random_bytes: RandomBytes = secrets.token_bytes,
) -> AsyncIterator[SelfTestStep]:
    """Try all servers, and yield each step when it is done.

    Args:
        servers: brokers, STUN and TURN servers.
        services: the address of each service of tunnels, HOST:PORT, by name.
        random_bytes: returns that many random bytes.

    Raises:
        RemoteTrouble: a package of the extra `remote` is not installed.
    """
    import_extra()
    for server in servers.brokers:
        async for step in _broker_steps(server, servers.prefix, random_bytes):
            yield step
    async for step in _network_steps(servers.stun):
        yield step
    for server in servers.turn:
        async for step in _relay_steps(server):
            yield step
    if not servers.turn:
        yield skipped(
            "relay",
            "",
            "no TURN server is set",
            "Set remote.turn: where NATs permit no direct path, only a relay connects.",
        )
    for name, address in services.items():
        yield await service_step(name, address)


# -- brokers --------------------------------------------------------------------------------------


async def _broker_steps(
    server: Server, prefix: str, random_bytes: RandomBytes
) -> AsyncIterator[SelfTestStep]:
    left = ["DNS", "TCP", "TLS", "login", "heard", "others"]
    async for step in _each_broker_step(server, prefix, random_bytes):
        left.remove(step["step"])
        yield step
        if step["result"] == Result.FAILED.value and step["step"] not in {"heard", "others"}:
            for name in left:
                yield skipped(name, server.url)
            return


async def _each_broker_step(
    server: Server, prefix: str, random_bytes: RandomBytes
) -> AsyncIterator[SelfTestStep]:
    from peer.remote.broker import Broker  # noqa: PLC0415 - the extra
    from peer.remote.errors import BrokerError  # noqa: PLC0415 - as above
    from peer.remote.pair_keys import client_topic  # noqa: PLC0415 - as above

    url = server.url
    yield await dns_step(server)
    yield await tcp_step(server)
    yield await tls_step(server)
    loop = asyncio.get_running_loop()
    start = loop.time()
    found: list[SelfTestStep] = []
    try:
        async with Broker.connect(server) as broker:
            who = f"logged in as {server.username}" if server.username else "logged in"
            found.append(passed("login", url, f"{who}{after(loop, start)}"))
            found.append(
                await _heard_step(broker, url, client_topic(prefix, random_bytes(NONCE_BYTES)))
            )
            foreign = f"{DEFAULT_PREFIX}/{random_bytes(NONCE_BYTES).hex()}/d/test"
            found.append(await _others_step(broker, url, foreign))
    except BrokerError as error:
        if not found:
            found.append(failed("login", url, error))
    for step in found:
        yield step


async def _heard_step(broker: "Broker", url: str, topic: str) -> SelfTestStep:
    from peer.remote.errors import BrokerError, ServerFailure  # noqa: PLC0415 - the extra

    try:
        async with asyncio.timeout(SELF_TEST_HEARD_SECONDS):
            seconds = await broker.hears_itself(topic)
    except BrokerError as error:
        return failed("heard", url, error)
    except TimeoutError:
        what = "the broker does not deliver what this account publishes"
        return failed("heard", url, BrokerError(what, reason=ServerFailure.NOT_HEARD))
    return passed("heard", url, f"a message came back after {milliseconds(seconds)}")


async def _others_step(broker: "Broker", url: str, topic: str) -> SelfTestStep:
    """Find out whether the account can read what other accounts publish."""
    from peer.remote.errors import BrokerError  # noqa: PLC0415 - the extra

    try:
        async with asyncio.timeout(SELF_TEST_FOREIGN_SECONDS):
            await broker.hears_itself(topic)
    except (BrokerError, TimeoutError):
        return passed("others", url, "topics of other accounts are not delivered")
    return failed(
        "others",
        url,
        "the broker delivers topics of other accounts to this one",
        "Restrict each account to its prefix at the broker: with Mosquitto, the ACL "
        "`pattern readwrite hf1/%u/#`. Until then, other accounts can see when remote reach is "
        "used, and disturb it; they cannot read or forge messages.",
    )


# -- the network ----------------------------------------------------------------------------------


async def _network_steps(stun: tuple[str, ...]) -> AsyncIterator[SelfTestStep]:
    from peer.remote.stun_probe import NatKind, probe_network  # noqa: PLC0415 - the extra

    if not stun:
        advice = "Set remote.stun: without it, there are direct paths from the same network only."
        yield skipped("address", "", "no STUN server is set", advice)
        return
    target = ", ".join(stun)
    found = await probe_network(stun)
    if found.public_address is None:
        yield failed(
            "address",
            target,
            "no STUN server answers",
            "The servers do not run, or UDP is blocked. If UDP is blocked, no direct path "
            "is possible: set a TURN server over TLS (turns:) in remote.turn.",
        )
        yield skipped("NAT", target)
        return
    yield passed("address", target, f"the public address is {found.public_address}")
    match found.nat:
        case NatKind.NONE:
            yield passed("NAT", target, "none: the public address is an address of this machine")
        case NatKind.CONE:
            yield passed("NAT", target, "one mapping for all destinations: direct paths work")
        case NatKind.SYMMETRIC:
            why = "a mapping for each destination: paths to many networks need a relay"
            yield passed("NAT", target, why)
        case _:
            silent = [one for one in stun if one not in found.answered]
            advice = "Name two STUN servers in remote.stun to learn the kind of NAT."
            if silent:
                advice = f"Check the STUN server {', '.join(silent)}, which does not answer."
            yield skipped("NAT", target, "fewer than two STUN servers have answered", advice)


async def _relay_steps(server: Server) -> AsyncIterator[SelfTestStep]:
    from peer.remote.errors import CarrierError, ServerFailure  # noqa: PLC0415 - the extra
    from peer.remote.stun_probe import probe_relay  # noqa: PLC0415 - as above

    has_tls = server.address.scheme == "turns"
    left = ["DNS", *(("TCP", "TLS") if has_tls else ()), "allocation", "relay"]
    async for step in _each_relay_server_step(server, has_tls=has_tls):
        left.remove(step["step"])
        yield step
        if step["result"] == Result.FAILED.value:
            for name in left:
                yield skipped(name, server.url)
            return
    try:
        found = await probe_relay(server)
    except CarrierError as error:
        if error.reason is ServerFailure.NO_PATH:
            yield passed("allocation", server.url, "the relay allocates addresses")
            yield failed("relay", server.url, error)
        else:
            yield failed("allocation", server.url, error)
            yield skipped("relay", server.url)
        return
    seconds = milliseconds(found.allocate_seconds)
    yield passed("allocation", server.url, f"the relay allocated {found.address} in {seconds}")
    seconds = milliseconds(found.datagram_seconds)
    yield passed("relay", server.url, f"a datagram through the relay arrived after {seconds}")


async def _each_relay_server_step(server: Server, *, has_tls: bool) -> AsyncIterator[SelfTestStep]:
    yield await dns_step(server)
    if has_tls:
        yield await tcp_step(server)
        yield await tls_step(server)
