"""The exporter value (RFC 5705) of our sessions, against what foreign programs say of them.

Every pairing hangs on this value. It is meant with the empty context, which in (D)TLS 1.2 is not
the same as no context: the latter is what the programs' `keymatexport` prints. But they also tell
the master secret and both randoms, from which RFC 5705 makes either. So a small computation of our
own must first agree with the program on the value without context, and then with our session on
the value with the empty one.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from typing import TYPE_CHECKING

import pytest

from peer.dtls.records import HEADER_BYTES, split_flight

if TYPE_CHECKING:
    from pathlib import Path

    from peer.net.client import CoapsClient
    from tests.kit.interop import Keys, Run
    from tests.kit.serve import Serve

LABEL = "EXPERIMENTAL-handfast-v1"  # protocol §2
SIZE = 32
SERVER_HELLO = b"\x02"
RANDOM_AT = 12 + 2  # handshake header, version


def exported(master: bytes, randoms: bytes, context: bytes | None) -> bytes:
    """RFC 5705 §4 with the PRF of (D)TLS 1.2 on SHA-256 (RFC 5246 §5)."""
    seed = LABEL.encode() + randoms
    if context is not None:
        seed += len(context).to_bytes(2, "big") + context
    out, turn = b"", seed
    while len(out) < SIZE:
        turn = hmac.digest(master, turn, hashlib.sha256)
        out += hmac.digest(master, turn + seed, hashlib.sha256)
    return out[:SIZE]


def master_in(key_log: Path) -> tuple[bytes, bytes]:
    """The client's random and the master secret in a key log file."""
    found = re.findall(
        r"^CLIENT_RANDOM ([0-9a-f]{64}) ([0-9a-f]{96})$", key_log.read_text(), re.MULTILINE
    )
    ((random, master),) = found
    return bytes.fromhex(random), bytes.fromhex(master)


def server_random_in(said: str) -> bytes:
    """In what OpenSSL prints with -msg: indented hex below a line for each message."""
    dumps = re.findall(r"^(?:>>>|<<<).*\n((?:    (?:[0-9a-f]{2} ?)+\n)+)", said, re.MULTILINE)
    messages = [bytes.fromhex(dump) for dump in dumps]
    (hello,) = (one for one in messages if one[:1] == SERVER_HELLO and len(one) > HEADER_BYTES)
    return hello[RANDOM_AT : RANDOM_AT + 32]


def check(key_log: Path, server_random: bytes, *, printed: str, ours: bytes) -> None:
    client_random, master = master_in(key_log)
    randoms = client_random + server_random
    assert exported(master, randoms, None).hex() == printed.lower()
    assert exported(master, randoms, b"") == ours
    assert printed.lower() != ours.hex()


@pytest.mark.needs_tool("openssl")
async def test_our_server_and_openssl(serve: Serve, run: Run, theirs: Keys, tmp_path: Path) -> None:
    served = await serve(pairing=True)
    key_log = tmp_path / "keys"
    export = ("-keymatexport", LABEL, "-keymatexportlen", SIZE, "-keylogfile", key_log, "-msg")
    connect = ("openssl", "s_client", "-dtls1_2", "-connect", served.authority)
    talking = await run(*connect, *theirs.openssl, *export)
    await talking.until("Keying material: ", "Extended master secret: yes")
    (ours,) = served.exporters()
    talking.hang_up()
    said = await talking.end()
    (printed,) = re.findall(r"Keying material: ([0-9A-F]{64})", said)
    check(key_log, server_random_in(said), printed=printed, ours=ours)


@pytest.mark.needs_tool("gnutls-cli")
async def test_our_server_and_gnutls(serve: Serve, run: Run, theirs: Keys, tmp_path: Path) -> None:
    served = await serve(pairing=True)
    key_log, trace = tmp_path / "keys", tmp_path / "trace"
    host, port = served.authority.split(":")
    talking = await run(
        "gnutls-cli",
        "--udp",
        "--insecure",
        f"--port={port}",
        *theirs.gnutls,
        f"--keymatexport={LABEL}",
        f"--keymatexportsize={SIZE}",
        f"--save-server-trace={trace}",
        host,
        env=os.environ | {"SSLKEYLOGFILE": str(key_log)},
    )
    await talking.until("Simple Client Mode")
    (ours,) = served.exporters()
    talking.hang_up()
    said = await talking.end()
    (printed,) = re.findall(r"Key material: ([0-9a-f]{64})", said)
    messages = [record[HEADER_BYTES:] for record in split_flight(trace.read_bytes())]
    (hello,) = (one for one in messages if one[:1] == SERVER_HELLO)
    check(key_log, hello[RANDOM_AT : RANDOM_AT + 32], printed=printed, ours=ours)


@pytest.mark.needs_tool("openssl")
async def test_our_client_and_openssl(
    caller: CoapsClient, run: Run, theirs: Keys, tmp_path: Path
) -> None:
    key_log = tmp_path / "keys"
    export = ("-keymatexport", LABEL, "-keymatexportlen", SIZE, "-keylogfile", key_log, "-msg")
    listen = ("openssl", "s_server", "-dtls1_2", "-accept", "127.0.0.1:0", "-Verify", 1)
    program = await run(*listen, *theirs.openssl, *export)
    connection = await caller.connect(await program.accepts(), pinned=theirs.fingerprint)
    said = await program.until("Keying material: ", "Secure Renegotiation IS")
    await connection.close()
    said = await program.until("DONE")
    (printed,) = re.findall(r"Keying material: ([0-9A-F]{64})", said)
    check(key_log, server_random_in(said), printed=printed, ours=connection.peer.exporter)
