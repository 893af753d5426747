"""Clients of other projects that trust one certificate: that of the device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from peer.identity import Identity

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.interop import Keys, Run
    from tests.kit.serve import Serve

coap_clients = pytest.mark.parametrize(
    "client",
    [
        pytest.param(name, marks=pytest.mark.needs_tool(name), id=name)
        for name in ("coap-client-openssl", "coap-client-gnutls")
    ],
)


@pytest.fixture
def certificates(ours: Identity, tmp_path: Path) -> dict[bool, Path]:
    """The device's certificate as after another start (True), and that of another device."""
    again = tmp_path / "key.pem"
    ours.save(again)
    made = {True: Identity.load(again), False: Identity.create()}
    paths = {is_right: tmp_path / f"{is_right}.pem" for is_right in made}
    for is_right, identity in made.items():
        paths[is_right].write_bytes(identity.certificate_pem())
    return paths


@coap_clients
@pytest.mark.parametrize("is_right", [True, False])
async def test_libcoap_accepts_the_pinned_certificate_and_no_other(
    serve: Serve,
    run: Run,
    theirs: Keys,
    client: str,
    is_right: bool,
    certificates: dict[bool, Path],
) -> None:
    served = await serve()
    keys = ("-c", theirs.certificate, "-j", theirs.key, "-C", certificates[is_right])
    said = await (await run(client, *keys, "-B", 5, served.uri("/who"))).end()
    assert (theirs.fingerprint.hex in said) is is_right, said
    assert served.count("handshakes") == int(is_right)


@pytest.mark.needs_tool("openssl")
@pytest.mark.parametrize("is_right", [True, False])
async def test_openssl_verifies_the_certificate_and_its_name(
    serve: Serve,
    run: Run,
    theirs: Keys,
    ours: Identity,
    is_right: bool,
    certificates: dict[bool, Path],
) -> None:
    served = await serve()
    host = f"handfast-{ours.fingerprint.device_id.lower()}.local"
    talking = await run(
        *("openssl", "s_client", "-dtls1_2", "-connect", served.authority, *theirs.openssl),
        *("-CAfile", certificates[is_right], "-verify_return_error", "-verify_hostname", host),
    )
    await talking.until("Verify return code: 0 (ok)" if is_right else "certificate verify failed")
    assert served.count("handshakes") == int(is_right)


@pytest.mark.needs_tool("gnutls-cli")
@pytest.mark.parametrize("is_right", [True, False])
async def test_gnutls_verifies_the_certificate_and_its_name(
    serve: Serve,
    run: Run,
    theirs: Keys,
    ours: Identity,
    is_right: bool,
    certificates: dict[bool, Path],
) -> None:
    served = await serve()
    host, port = served.authority.split(":")
    name = f"handfast-{ours.fingerprint.device_id.lower()}.local"
    talking = await run(
        *("gnutls-cli", "--udp", f"--port={port}", *theirs.gnutls, host),
        *(f"--x509cafile={certificates[is_right]}", f"--verify-hostname={name}"),
    )
    await talking.until(
        "Handshake was completed" if is_right else "PKI verification of server certificate failed"
    )
    assert served.count("handshakes") == int(is_right)
