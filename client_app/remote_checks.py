"""The checks of `handfast doctor` for the route over a broker: each step, and why it failed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from client_app.limits import BROKER_CHECK_SECONDS
from client_app.models import Check, CheckResult
from client_app.routes import PATH_ROUTES
from peer.errors import PeerError
from peer.net.address import connect_failure, resolve
from peer.remote.route_steps import RouteStep, StepKind
from peer.remote.settings import Server
from peer.terminal.durations import format_time
from peer.terminal.exit_codes import exit_code_of
from peer.terminal.reasons import reason_in_words

if TYPE_CHECKING:
    from client_app.client import Client
    from client_app.known_device import KnownDevice
    from client_app.remote_settings import RemoteEntry
    from peer.net.connection import CoapsConnection
    from peer.net.session_route import SessionRoute
    from peer.remote.settings import RemoteSettings

AskPolicy = Callable[["CoapsConnection"], Awaitable[Check]]
"""Checks what the policy of the device permits, over a session."""

_SETUP: Final = "Run `handfast-device remote test` on the device; it tests broker and relay."
_NOT_ATTACHED: Final = (
    "Run `handfast-device remote` on it: it shows whether the device listens at this broker, and "
    "for how many clients."
)
_STEPS: Final = MappingProxyType(
    {
        StepKind.BROKER: ("broker", "connected", "it cannot be used"),
        StepKind.CHALLENGE: ("device", "it answers at the broker", "it does not answer"),
        StepKind.GATHERING: (
            "candidates",
            "addresses of this machine were found",
            "no address was found",
        ),
        StepKind.ANSWER: ("answer", "the device has sent its addresses", "it sent none"),
        StepKind.CARRIER: ("carrier", "packets get through", "no packets get through"),
        StepKind.SESSION: ("session", "both keys are proved", "there is none"),
        StepKind.RENEWAL: ("renewal", "the path has new carriers", "it has no new carriers"),
    }
)
"""The name of each step, and what is said if it succeeded or failed."""
_ONE_EACH: Final = frozenset({StepKind.BROKER, StepKind.GATHERING, StepKind.CARRIER})
"""Steps of which there is one for each broker or carrier."""
_BROKER_ADVICE: Final = MappingProxyType(
    {
        "pin-mismatch": "The broker has another key than the device has stored. If its key was "
        "replaced, set `broker_pin` on the device, then fetch the settings again. No password was "
        "sent.",
        "tls-failed": "The certificate of the broker is not valid for its name, or this machine's "
        "clock is wrong. A pin on the device (`broker_pin`) makes both irrelevant.",
        "refused": "The broker refuses the account. Check user name and password on the device, "
        "then fetch the settings again.",
        "not-heard": "The account may not read its own topics. Check the access rules of the "
        "broker.",
    }
)
_CARRIER_ADVICE: Final = MappingProxyType(
    {
        "direct": "The NATs or firewalls of both networks permit no direct path. A relay helps.",
        "relay": "No relay is set up on the device, or it cannot be reached from here. " + _SETUP,
    }
)


async def path_checks(
    client: Client, known: KnownDevice, *, policy: AskPolicy | None
) -> AsyncIterator[Check]:
    """Check the route over a broker.

    `policy` checks the rights over a session. None: an address has led to the device already, so
    that a failure of this route is only a note.
    """
    via, is_reached = client.connector.via & PATH_ROUTES, policy is None
    if not via:
        return
    try:
        entry = client.remote.find(known.fingerprint)
        settings = entry.settings(known.alias) if entry is not None and entry.encoded else None
    except PeerError as error:
        yield _failure("settings", error, is_note=is_reached)
        return
    if entry is None or settings is None:
        return  # there is no such route
    yield _settings(entry, settings)
    async for check in _opened(client, known, entry, settings, via=via, policy=policy):
        yield check


def _settings(entry: RemoteEntry, settings: RemoteSettings) -> Check:
    hosts = ", ".join(one.url for one in settings.brokers)
    relays = ", ".join(one.url for one in settings.turn) or "none"
    said = f"brokers {hosts}; relays {relays}; fetched {format_time(entry.fetched)}"
    if entry.is_outdated:
        advice = "They are fetched again at the next session at an address of the device."
        return _note("settings", f"{said}; the device has newer ones", advice)
    return Check("settings", CheckResult.OK, said)


async def _opened(
    client: Client,
    known: KnownDevice,
    entry: RemoteEntry,
    settings: RemoteSettings,
    *,
    via: frozenset[SessionRoute],
    policy: AskPolicy | None,
) -> AsyncIterator[Check]:
    """Open a session over a path; yield each step."""
    steps: asyncio.Queue[RouteStep | None] = asyncio.Queue()
    opening = asyncio.ensure_future(
        client.remote.open(
            known,
            entry,
            coaps=client.connector.transport,
            via=via,
            on_step=steps.put_nowait,
            on_addresses=lambda _addresses: None,
        )
    )
    opening.add_done_callback(lambda _ended: steps.put_nowait(None))
    seen: set[tuple[StepKind, str, bool]] = set()
    try:
        while (step := await steps.get()) is not None:
            seen.add((step.kind, step.subject, step.is_ok))
            if step.kind is StepKind.CARRIER and (StepKind.GATHERING, step.subject, False) in seen:
                continue  # the reason was given already
            yield await _of_step(step, settings)
        try:
            connection = await opening
        except PeerError as error:
            kinds = {kind for kind, _, is_ok in seen if is_ok}
            if StepKind.BROKER in kinds and StepKind.CHALLENGE not in kinds:
                error.advice = f"{error.advice} {_NOT_ATTACHED}"
            yield _failure("path", error, is_note=policy is None)
        else:
            try:
                yield _path(connection)
                if policy is not None:
                    yield await policy(connection)
            finally:
                await connection.close()
    finally:
        opening.cancel()
        with suppress(asyncio.CancelledError, PeerError):
            await opening


def _path(connection: CoapsConnection) -> Check:
    route, address = connection.peer.path, connection.peer.address
    said = f"the device answers over a path ({route}, {address}) and has the pinned key"
    return Check("path", CheckResult.OK, said)


async def _of_step(step: RouteStep, settings: RemoteSettings) -> Check:
    """Return the check for one step."""
    name, done, failed = _STEPS[step.kind]
    name = f"{name} {step.subject}".strip() if step.kind in _ONE_EACH else name
    took = f"after {step.seconds:.1f} s"
    if step.is_ok:
        return Check(name, CheckResult.OK, f"{done} {took}")
    if step.kind is StepKind.BROKER:
        return await _broker_failed(name, step, settings)
    return _note(name, f"{failed} {took}", _CARRIER_ADVICE.get(step.subject, _SETUP))


async def _broker_failed(name: str, step: RouteStep, settings: RemoteSettings) -> Check:
    """Return the check for a broker that cannot be used: its name, its port, or its answer."""
    advice = _BROKER_ADVICE.get(step.reason)
    if advice is not None:
        return _note(name, reason_in_words(step.reason), advice)
    server = next((one for one in settings.brokers if one.url == step.subject), None)
    said = reason_in_words(step.reason)
    if server is not None:
        said = await _where_it_ends(server) or said
    return _note(name, said, "Check this machine's network, and whether the broker runs.")


async def _where_it_ends(server: Server) -> str:
    """Return whether the name, or the TCP port, of a server is the reason; empty for neither."""
    host, port = server.address.host, server.address.port
    try:
        async with asyncio.timeout(BROKER_CHECK_SECONDS):
            (first, *_) = await resolve(host, port)
    except PeerError as error:
        return str(error)
    except TimeoutError:
        return f"the name servers do not answer for {host}"
    try:
        async with asyncio.timeout(BROKER_CHECK_SECONDS):
            _, writer = await asyncio.open_connection(first.host, port)
    except TimeoutError:
        return f"{first.host} does not answer on TCP port {port}"
    except OSError as error:
        why = connect_failure(error)
        return f"{first.host} does not accept a connection on TCP port {port}: {why}"
    writer.close()
    return ""


def _failure(name: str, error: PeerError, *, is_note: bool) -> Check:
    if is_note:
        return _note(name, str(error), error.advice)
    return Check(name, CheckResult.FAILED, str(error), error.advice, exit_code_of(error))


def _note(name: str, said: str, advice: str = "") -> Check:
    return Check(name, CheckResult.NOTE, said, advice)
