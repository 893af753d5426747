"""Clients that negotiate max_fragment_length (RFC 6066 §4) or have a small MTU."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Self

import aiocoap
import pytest
from aiocoap.numbers.codes import Code

from device_app.app import App
from device_app.settings.config import Settings
from device_app.settings.paths import Paths
from iam.model import Key, User
from peer.limits import DEFAULT_LIMITS
from peer.net.aiocoap_seam.parsing import decode_untrusted
from peer.net.outline import outline_untrusted
from peer.net.problem import ProblemError
from tests.kit.internals import endpoint_of
from tests.kit.interop import HOST
from tests.kit.raw_client import message
from tests.kit.waiting import TIMEOUT_SECONDS, until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.interop import Keys, Run
    from tests.kit.serve import Serve

openssl = pytest.mark.needs_tool("openssl")
gnutls = pytest.mark.needs_tool("gnutls-cli")
TEXT = "".join(f"{number:4}" for number in range(1000))
#: `s_client` prints so much of a record at a time. No answer here is a multiple of it.
PRINTED_BYTES = 1024


class RecordClient:
    """`openssl s_client`, which sends what it reads as one record, and prints those it receives."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def connect(cls, at: str, keys: Keys, *options: object) -> Self:
        return cls(
            await asyncio.create_subprocess_exec(
                *("openssl", "s_client", "-dtls1_2", "-quiet", "-connect", at),
                *map(str, (*keys.openssl, *options)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
        )

    async def ask(self, data: bytes) -> aiocoap.Message:
        """Send one message, and return the next one from the server."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(data)
        answer = b""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while len(answer) % PRINTED_BYTES == 0:  # there is more of it
                answer += (piece := await self._process.stdout.read(1 << 14))
                assert piece, "openssl has ended"
        return decode_untrusted(answer, outline_untrusted(answer, DEFAULT_LIMITS), None)

    async def get(self, path: str, *, observe: bool = False) -> tuple[bytes, int]:
        """Read a resource in blocks; return it and the size of the largest block."""
        body, largest, number = b"", 0, 0
        while True:
            block = [(23, bytes([number << 4 | 6]))] if number else []
            request = message(
                Code.GET,
                *path.strip("/").split("/"),
                number=1 + number,
                observe=0 if observe and not number else None,
                options=tuple(block),
            )
            answer = await self.ask(request)
            assert answer.code is Code.CONTENT, answer
            assert answer.opt.block2 is None or answer.opt.block2.start == len(body)
            body, largest = body + answer.payload, max(largest, len(answer.payload))
            if answer.opt.block2 is None or not answer.opt.block2.more:
                return body, largest
            number = len(body) // 1024
            if len(body) % 1024:  # continue in the server's size (RFC 7959 §2.4)
                return await self._rest(path, body, answer.opt.block2.size_exponent)

    async def _rest(self, path: str, body: bytes, exponent: int) -> tuple[bytes, int]:
        size = 1 << exponent + 4
        while True:
            number = len(body) // size
            value = (number << 4 | exponent).to_bytes(2, "big").lstrip(b"\0")
            segments = path.strip("/").split("/")
            request = message(Code.GET, *segments, number=100 + number, options=((23, value),))
            answer = await self.ask(request)
            assert answer.code is Code.CONTENT, answer
            body += answer.payload
            if answer.opt.block2 is None or not answer.opt.block2.more:
                return body, size

    async def close(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.communicate()


@openssl
@pytest.mark.parametrize("size", [512, 1024, 2048, 4096])
async def test_blocks_follow_the_negotiated_size_and_the_session_lasts(
    serve: Serve, theirs: Keys, size: int
) -> None:
    served = await serve(value_text=TEXT)
    client = await RecordClient.connect(served.authority, theirs, "-maxfraglen", size)
    try:
        for observe in (False, True):
            body, largest = await client.get("value", observe=observe)
            assert body == TEXT.encode()
            assert size / 4 < largest + 100 <= max(size, 1200)
        (session,) = endpoint_of(served.server).associations()
        assert session.session.record_bytes == size
        assert (await client.ask(message(Code.GET, "who", number=900))).code is Code.CONTENT
    finally:
        await client.close()


@openssl
async def test_the_list_of_resources_of_a_device_arrives_in_small_records(
    theirs: Keys, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    settings = Settings(
        name="kitchen", listen=(HOST,), port=0, pairing_port=0, advertise=False, allow_loopback=True
    )
    app = await App.start(Paths(home, home, home), settings)
    key = Key(theirs.fingerprint.hex, method="given", added=1.0)
    app.access.registry.add_user(None, User("anna", "owner", (key,)))
    at = f"{HOST}:{app.server.port}"
    client = await RecordClient.connect(at, theirs, "-maxfraglen", 512)
    try:
        links, largest = await client.get("/.well-known/core")
        assert len(links) > largest == 256
        assert {"</hello>", "</iam/users>"} <= set(re.findall("<[^>]*>", links.decode()))
        hello, _ = await client.get("/hello")
        assert hello.startswith(b"Hello anna")
    finally:
        await client.close()
        await app.close()


@openssl
async def test_a_long_refusal_fits_a_small_record(serve: Serve, theirs: Keys) -> None:
    def refuse(*_args: object) -> None:
        raise ProblemError("denied", "t" * 450, "d" * 450)

    served = await serve(authorise=refuse)
    client = await RecordClient.connect(served.authority, theirs, "-maxfraglen", 512)
    try:
        answer = await client.ask(message(Code.GET, "value", number=1))
        assert answer.code is Code.FORBIDDEN
        assert 400 < len(answer.payload) < 512
    finally:
        await client.close()


@openssl
@pytest.mark.parametrize("mtu", [256, 512, 800])
async def test_a_client_with_a_small_mtu_resumes_with_a_client_hello_in_fragments(
    serve: Serve, theirs: Keys, run: Run, tmp_path: Path, mtu: int
) -> None:
    served = await serve()
    ticket = tmp_path / "ticket"
    connect = ("openssl", "s_client", "-dtls1_2", "-mtu", mtu, "-connect", served.authority)
    first = await run(*connect, *theirs.openssl, "-sess_out", ticket)
    await first.until("New, TLSv1.2", "Extended master secret: yes")
    first.hang_up()
    await first.end()
    second = await run(*connect, *theirs.openssl, "-sess_in", ticket)
    await second.until("Reused, TLSv1.2", "Extended master secret: yes")
    # In a resumed handshake, the client sends the last message.
    await until(lambda: served.count("handshakes") == 2)
    assert [session.fingerprint for session in served.server.sessions()] == [theirs.fingerprint]


@openssl
async def test_a_resumed_session_keeps_its_fragment_length(
    serve: Serve, theirs: Keys, run: Run, tmp_path: Path
) -> None:
    served = await serve(value_text=TEXT)
    ticket = tmp_path / "ticket"
    options = ("-maxfraglen", 512)
    first = await run(
        *("openssl", "s_client", "-dtls1_2", "-connect", served.authority),
        *(*theirs.openssl, *options, "-sess_out", ticket),
    )
    await first.until("New, TLSv1.2", "Extended master secret: yes")
    first.hang_up()
    await first.end()
    client = await RecordClient.connect(served.authority, theirs, *options, "-sess_in", ticket)
    try:
        assert (await client.get("value"))[0] == TEXT.encode()
        (session,) = endpoint_of(served.server).associations()
        assert session.session.resumed
        assert session.session.record_bytes == 512
    finally:
        await client.close()


@gnutls
async def test_gnutls_negotiates_small_records(serve: Serve, run: Run, theirs: Keys) -> None:
    served = await serve()
    host, port = served.authority.split(":")
    talking = await run(
        *("gnutls-cli", "--udp", "--insecure", f"--port={port}", "--recordsize=512"),
        *("--priority=NORMAL", *theirs.gnutls, host),
    )
    await talking.until("Handshake was completed", "Simple Client Mode")
    (session,) = endpoint_of(served.server).associations()
    assert session.session.record_bytes == 512


@gnutls
async def test_gnutls_with_a_small_mtu_completes_a_handshake(
    serve: Serve, run: Run, theirs: Keys
) -> None:
    served = await serve()
    host, port = served.authority.split(":")
    talking = await run(
        *("gnutls-cli", "--udp", "--insecure", f"--port={port}", "--mtu=300", "--resume"),
        *("--priority=NORMAL", *theirs.gnutls, host),
    )
    await talking.until("This is a resumed session")
    await until(lambda: served.count("handshakes") == 2)
    assert [session.fingerprint for session in served.server.sessions()] == [theirs.fingerprint]
