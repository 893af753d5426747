"""libcoap's command-line client, built on OpenSSL and on GnuTLS, against our server."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from peer.net.locality_verdict import LocalMode

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.interop import Keys, Run
    from tests.kit.serve import Serve

SECONDS = 30  # -B: the timeout of the client
clients = pytest.mark.parametrize(
    "client",
    [
        pytest.param(name, marks=pytest.mark.needs_tool(name), id=name)
        for name in ("coap-client-openssl", "coap-client-gnutls")
    ],
)


@clients
@pytest.mark.parametrize(
    ("mode", "verdict"), [(LocalMode.STRICT, (False, "ttl")), (LocalMode.COMPAT, (True, ""))]
)
async def test_a_handler_sees_the_key_and_the_locality_of_the_client(
    serve: Serve, run: Run, theirs: Keys, client: str, mode: LocalMode, verdict: tuple[bool, str]
) -> None:
    served = await serve(mode=mode)
    got = await run(client, *theirs.coap, "-B", SECONDS, served.uri("/who"))
    known = json.loads(await got.end())
    assert known == {
        "fingerprint": theirs.fingerprint.hex,
        "local": verdict[0],
        "rule": verdict[1],
        "hop_limit": 64,  # the default of a stock client, which compat mode accepts
    }


@clients
@pytest.mark.parametrize("block", [1024, 64])
async def test_a_large_body_is_transferred_in_blocks_both_ways(
    serve: Serve, run: Run, theirs: Keys, tmp_path: Path, client: str, block: int
) -> None:
    served = await serve()
    sent, back = tmp_path / "sent", tmp_path / "back"
    sent.write_bytes(bytes(number * 7 % 251 for number in range(5000)))
    options = ("-m", "post", "-b", block, "-f", sent, "-o", back, "-B", SECONDS)
    posted = await run(client, *theirs.coap, *options, served.uri("/echo"))
    output = await posted.end()
    assert back.read_bytes() == sent.read_bytes(), output
    assert served.echo.bodies == [sent.read_bytes()]


@clients
async def test_an_observation_notifies_and_ends_with_the_client(
    serve: Serve, run: Run, theirs: Keys, client: str
) -> None:
    served = await serve()
    observing = await run(client, *theirs.coap, "-s", 600, served.uri("/value"))
    await observing.until("value 0;")
    for number in range(1, 5):
        served.value.set(number)
        await observing.until(f"value {number};")
    assert await served.value.watchers.get() == 1
    observing.interrupt()
    assert await served.value.watchers.get() == 0
    await observing.end()


@clients
async def test_a_deregistered_observation_is_removed(
    serve: Serve, run: Run, theirs: Keys, client: str
) -> None:
    served = await serve()
    observing = await run(client, *theirs.coap, "-s", 1, served.uri("/value"))
    assert await served.value.watchers.get() == 1
    assert await served.value.watchers.get() == 0
    assert "value 0;" in await observing.end()


@clients
async def test_a_late_response_is_acknowledged_and_sent_separately(
    serve: Serve, run: Run, theirs: Keys, client: str
) -> None:
    served = await serve()
    # At this verbosity the client prints each message: v:1 t:TYPE c:CODE …
    waiting = await run(client, *theirs.coap, "-v", 7, "-B", 600, served.uri("/late"))
    await waiting.until("t:ACK c:0.00")
    assert served.late.asked == 1
    assert "better late" not in waiting.output
    served.late.due.set()
    await waiting.until("t:CON c:2.05", "better late")
    await waiting.end()
    assert served.late.asked == 1


@clients
async def test_a_missing_resource_returns_an_error_text(
    serve: Serve, run: Run, theirs: Keys, client: str
) -> None:
    served = await serve()
    got = await run(client, *theirs.coap, "-B", SECONDS, served.uri("/nothing"))
    output = await got.end()
    assert output.startswith("4.04")
    assert "there is no such resource" in output


@clients
async def test_a_client_without_a_certificate_gets_an_alert(
    serve: Serve, run: Run, client: str
) -> None:
    served = await serve()
    refused = await run(client, "-n", "-B", SECONDS, served.uri("/who"))
    await refused.until("andshake fail")  # "alert read:fatal:handshake failure", "Alert '40': …"
    assert "lert" in await refused.end()
    assert served.count("handshakes-without-certificate") == 1
    assert served.count("handshakes") == 0
    assert served.server.sessions() == []


@clients
async def test_a_client_with_only_a_pre_shared_key_gets_an_alert(
    serve: Serve, run: Run, theirs: Keys, client: str
) -> None:
    served = await serve()
    options = ("-k", "a shared secret", "-u", "user", "-B", SECONDS)
    refused = await run(client, *options, served.uri("/who"))
    await refused.until("andshake fail")
    await refused.end()
    assert served.count("handshakes-failed") == 1
    # No other client is affected.
    got = await run(client, *theirs.coap, "-B", SECONDS, served.uri("/who"))
    assert theirs.fingerprint.hex in await got.end()


@clients
async def test_concurrent_clients_get_their_own_responses(
    serve: Serve, run: Run, theirs: Keys, client: str, tmp_path: Path
) -> None:
    served = await serve()
    uri = served.uri("/echo")
    files = [tmp_path / f"part{number}" for number in range(4)]
    for number, file in enumerate(files):
        file.write_bytes(bytes([number]) * 3000)
    options = ("-m", "post", "-b", 256, "-B", SECONDS)
    posting = [
        await run(client, *theirs.coap, *options, "-f", file, "-o", f"{file}.back", uri)
        for file in files
    ]
    await asyncio.gather(*(one.end() for one in posting))
    for file in files:
        assert file.with_suffix(".back").read_bytes() == file.read_bytes()
    assert len(served.echo.bodies) == 4
