"""Steps of `remote test`: how one is made, and those that only connect to a server or a service.

They are the same for brokers and relays, and speak neither MQTT nor TURN.
"""

import asyncio
from enum import StrEnum, unique
from typing import TYPE_CHECKING, Final

from device_app.limits import SELF_TEST_CONNECT_SECONDS, SELF_TEST_DIAL_SECONDS
from device_app.remote.views import SelfTestStep
from peer.errors import PeerError
from peer.fingerprint import FINGERPRINT_BYTES, Fingerprint
from peer.net.address import connect_failure, resolve
from peer.remote.settings import Server

if TYPE_CHECKING:
    from peer.remote.tls_pins import TlsContext

#: No server passes with it, and the pin of its key is seen.
_NO_PIN: Final = bytes(FINGERPRINT_BYTES)
_NEEDS_FORMER: Final = "not possible without the step before"


@unique
class Result(StrEnum):
    """The results of a step."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"


def _step(name: str, target: str, result: Result, detail: str, advice: str = "") -> SelfTestStep:
    return {
        "step": name,
        "target": target,
        "result": result.value,
        "detail": detail,
        "advice": advice,
    }


def passed(name: str, target: str, detail: str) -> SelfTestStep:
    """Return a step that has succeeded."""
    return _step(name, target, Result.OK, detail)


def failed(name: str, target: str, why: PeerError | str, advice: str = "") -> SelfTestStep:
    """Return a step that has failed. By default, the advice is that of the error."""
    if isinstance(why, PeerError):
        advice = advice or why.advice
    return _step(name, target, Result.FAILED, str(why), advice)


def skipped(name: str, target: str, why: str = _NEEDS_FORMER, advice: str = "") -> SelfTestStep:
    """Return a step that was not tried."""
    return _step(name, target, Result.SKIPPED, why, advice)


async def dns_step(server: Server) -> SelfTestStep:
    """Look up the name of a server."""
    target, host = server.url, server.address.host
    try:
        found = await resolve(host, server.address.port)
    except PeerError as error:
        advice = "Check the name in [remote], and the DNS of this machine."
        return failed("DNS", target, error, advice)
    hosts = [one.host for one in found]
    detail = f"{host} is an address" if hosts == [host] else f"{host} is {', '.join(hosts)}"
    return passed("DNS", target, detail)


async def tcp_step(server: Server) -> SelfTestStep:
    """Connect to a server, and close the connection."""
    host, port = server.address.host, server.address.port
    loop = asyncio.get_running_loop()
    start = loop.time()
    error = await _dialled(host, port, SELF_TEST_CONNECT_SECONDS)
    if error is not None:
        advice = "Check that the server runs, and that no firewall on the way blocks the port."
        return failed("TCP", server.url, f"{host} port {port}: {connect_failure(error)}", advice)
    return passed("TCP", server.url, f"connected to port {port}{after(loop, start)}")


async def tls_step(server: Server) -> SelfTestStep:
    """Do a TLS handshake. A failure shows the pin of the key that the server has."""
    from peer.remote.tls_pins import tls_context  # noqa: PLC0415 - for working settings alone

    context = tls_context(server.pin)
    address = server.address
    error = await _dialled(address.host, address.port, SELF_TEST_CONNECT_SECONDS, context)
    if error is None:
        how = "the pinned key" if server.pin else "a certificate that this system trusts"
        return passed("TLS", server.url, f"the server has {how}")
    why = context.failure_text or connect_failure(error)
    any_key = tls_context(_NO_PIN)
    await _dialled(address.host, address.port, SELF_TEST_CONNECT_SECONDS, any_key)
    if not any_key.presented_pin:
        advice = "Check that the server has TLS on this port."
        return failed("TLS", server.url, f"no TLS: {why}", advice)
    seen = Fingerprint(any_key.presented_pin).hex
    setting = "remote.turn_pin" if address.scheme == "turns" else "remote.broker_pin"
    if server.pin:
        detail = f"the server has another key than the pinned one; the pin of its key is {seen}"
        advice = (
            f"If its key was replaced, set {setting} to this pin, after you have compared it at "
            "the server: this may be a man-in-the-middle attack. No password was sent."
        )
    else:
        detail = f"the certificate of the server is not trusted: {why}"
        advice = (
            "If it is of a public authority, check its names and dates, and the clock of this "
            f"machine. If the server has signed it itself, set {setting} to the pin of its key, "
            f"after you have compared it at the server: {seen}"
        )
    return failed("TLS", server.url, detail, advice)


async def _dialled(
    host: str, port: int, seconds: float, tls: "TlsContext | None" = None
) -> OSError | None:
    """Connect, and close the connection; return the error."""
    name = host if tls is not None else None
    try:
        async with asyncio.timeout(seconds):
            _, writer = await asyncio.open_connection(host, port, ssl=tls, server_hostname=name)
    except OSError as error:
        return error
    writer.transport.abort()
    return None


async def service_step(name: str, address: str) -> SelfTestStep:
    """Dial a service of tunnels."""
    host, _, port = address.rpartition(":")
    target = f"{name} ({address})"
    loop = asyncio.get_running_loop()
    start = loop.time()
    error = await _dialled(host.strip("[]"), int(port), SELF_TEST_DIAL_SECONDS)
    if error is not None:
        advice = f"Start the service, or correct {name} in [tunnel.services]."
        return failed("service", target, connect_failure(error), advice)
    return passed("service", target, f"connected{after(loop, start)}")


def after(loop: asyncio.AbstractEventLoop, start: float) -> str:
    """Return how long something took that began at `start`, for the end of a sentence."""
    return f" after {milliseconds(loop.time() - start)}"


def milliseconds(seconds: float) -> str:
    """Return a time as a text."""
    return f"{seconds * 1000:.0f} ms"
