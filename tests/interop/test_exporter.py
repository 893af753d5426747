"""The exporter value (RFC 5705) of a session is compared with foreign programs.

Every pairing depends on this value. handfast uses an empty context, which in (D)TLS 1.2 differs
from no context; the programs' `keymatexport` prints the value without context. They also print the
master secret and both randoms. An independent computation from these must equal the printed value
without context, and the session's value with the empty context.
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

LABEL = "EXPERIMENTAL-handfast-v1"  # docs/protocol.md §2
SIZE = 32
SERVER_HELLO = b"\x02"
RANDOM_AT = 12 + 2  # handshake header, version
EPOCH = slice(3, 5)  # in a record; after the first one everything is encrypted


def expected_exporter(master: bytes, randoms: bytes, context: bytes | None) -> bytes:
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


def server_random_in(output: str) -> bytes:
    """The server's random in the output of `openssl -msg`, a hex dump of each message."""
    dumps = re.findall(r"^(?:>>>|<<<).*\n((?:    (?:[0-9a-f]{2} ?)+\n)+)", output, re.MULTILINE)
    messages = [bytes.fromhex(dump) for dump in dumps]
    (hello,) = {one for one in messages if one[:1] == SERVER_HELLO and len(one) > HEADER_BYTES}
    return hello[RANDOM_AT : RANDOM_AT + 32]


def check(key_log: Path, server_random: bytes, *, printed: str, ours: bytes) -> None:
    client_random, master = master_in(key_log)
    randoms = client_random + server_random
    assert expected_exporter(master, randoms, None).hex() == printed.lower()
    assert expected_exporter(master, randoms, b"") == ours
    assert printed.lower() != ours.hex()


@pytest.mark.needs_tool("openssl")
async def test_our_server_and_openssl_export_the_same_value(
    serve: Serve, run: Run, theirs: Keys, tmp_path: Path
) -> None:
    served = await serve(pairing=True)
    key_log = tmp_path / "keys"
    export = ("-keymatexport", LABEL, "-keymatexportlen", SIZE, "-keylogfile", key_log, "-msg")
    connect = ("openssl", "s_client", "-dtls1_2", "-connect", served.authority)
    talking = await run(*connect, *theirs.openssl, *export)
    await talking.until("Keying material: ", "Extended master secret: yes")
    (ours,) = served.exporters()
    talking.hang_up()
    output = await talking.end()
    (printed,) = re.findall(r"Keying material: ([0-9A-F]{64})", output)
    check(key_log, server_random_in(output), printed=printed, ours=ours)


@pytest.mark.needs_tool("gnutls-cli")
async def test_our_server_and_gnutls_export_the_same_value(
    serve: Serve, run: Run, theirs: Keys, tmp_path: Path
) -> None:
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
    output = await talking.end()
    (printed,) = re.findall(r"Key material: ([0-9a-f]{64})", output)
    records = split_flight(trace.read_bytes())
    plain = [record[HEADER_BYTES:] for record in records if record[EPOCH] == bytes(2)]
    (hello,) = {one for one in plain if one[:1] == SERVER_HELLO}
    check(key_log, hello[RANDOM_AT : RANDOM_AT + 32], printed=printed, ours=ours)


@pytest.mark.needs_tool("openssl")
async def test_our_client_and_openssl_export_the_same_value(
    caller: CoapsClient, run: Run, theirs: Keys, tmp_path: Path
) -> None:
    key_log = tmp_path / "keys"
    export = ("-keymatexport", LABEL, "-keymatexportlen", SIZE, "-keylogfile", key_log, "-msg")
    listen = ("openssl", "s_server", "-dtls1_2", "-accept", "127.0.0.1:0", "-Verify", 1)
    program = await run(*listen, *theirs.openssl, *export)
    connection = await caller.connect(await program.accepts(), pinned=theirs.fingerprint)
    output = await program.until("Keying material: ", "Secure Renegotiation IS")
    await connection.close()
    output = await program.until("DONE")
    (printed,) = re.findall(r"Keying material: ([0-9A-F]{64})", output)
    check(key_log, server_random_in(output), printed=printed, ours=connection.peer.exporter)
