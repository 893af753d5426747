"""Clients of other projects that trust one certificate: that of the device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from peer.identity import Identity
from tests.kit.interop import Keys
from tests.kit.serve import Served

if TYPE_CHECKING:
    from tests.kit.interop import Run
    from tests.kit.serve import Serve


SECONDS = 60  # -B: the timeout of the client


class Pinned(NamedTuple):
    """The certificate that a client trusts, and whether it is the device's."""

    file: Path
    is_right: bool


class Verifier(NamedTuple):
    """A DTLS client that trusts one certificate, and what it prints."""

    command: Callable[[Keys, Served, Path, str], list[str | Path]]
    accepted: str
    refused: str


def openssl(keys: Keys, served: Served, pinned: Path, name: str) -> list[str | Path]:
    return [
        *("openssl", "s_client", "-dtls1_2", "-connect", served.authority, *keys.openssl),
        *("-CAfile", pinned, "-verify_return_error", "-verify_hostname", name),
    ]


def gnutls(keys: Keys, served: Served, pinned: Path, name: str) -> list[str | Path]:
    host, port = served.authority.split(":")
    return [
        *("gnutls-cli", "--udp", f"--port={port}", *keys.gnutls, host),
        *(f"--x509cafile={pinned}", f"--verify-hostname={name}"),
    ]


@pytest.fixture(params=[True, False], ids=["its own", "of another device"])
def pinned(request: pytest.FixtureRequest, ours: Identity, tmp_path: Path) -> Pinned:
    """The device's certificate as after another start, or that of another device."""
    identity = Identity.create()
    if request.param:
        ours.save(tmp_path / "key.pem")
        identity = Identity.load(tmp_path / "key.pem")
    file = tmp_path / "certificate.pem"
    file.write_bytes(identity.certificate_pem())
    return Pinned(file, request.param)


@pytest.mark.parametrize(
    "client",
    [
        pytest.param(name, marks=pytest.mark.needs_tool(name), id=name)
        for name in ("coap-client-openssl", "coap-client-gnutls")
    ],
)
async def test_libcoap_accepts_the_pinned_certificate_and_no_other(
    serve: Serve, run: Run, theirs: Keys, client: str, pinned: Pinned
) -> None:
    served = await serve()
    keys = ("-c", theirs.certificate, "-j", theirs.key, "-C", pinned.file)
    output = await (await run(client, *keys, "-B", SECONDS, served.uri("/who"))).end()
    assert (theirs.fingerprint.hex in output) is pinned.is_right, output
    assert served.count("handshakes") == int(pinned.is_right)


@pytest.mark.parametrize(
    "client",
    [
        pytest.param(
            Verifier(openssl, "Verify return code: 0 (ok)", "certificate verify failed"),
            marks=pytest.mark.needs_tool("openssl"),
            id="OpenSSL",
        ),
        pytest.param(
            Verifier(
                gnutls, "Handshake was completed", "PKI verification of server certificate failed"
            ),
            marks=pytest.mark.needs_tool("gnutls-cli"),
            id="GnuTLS",
        ),
    ],
)
async def test_a_dtls_client_verifies_the_certificate_and_its_name(
    serve: Serve, run: Run, theirs: Keys, ours: Identity, client: Verifier, pinned: Pinned
) -> None:
    served = await serve()
    name = f"handfast-{ours.fingerprint.device_id.lower()}.local"
    program = await run(*client.command(theirs, served, pinned.file, name))
    await program.until(client.accepted if pinned.is_right else client.refused)
    assert served.count("handshakes") == int(pinned.is_right)
