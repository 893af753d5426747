"""`openssl s_client` and `gnutls-cli` against our server: DTLS without CoAP."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from peer.limits import DEFAULT_LIMITS
from tests.kit.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.interop import ForeignProgram, Keys, Run
    from tests.kit.serve import Serve, Served

openssl = pytest.mark.needs_tool("openssl")
gnutls = pytest.mark.needs_tool("gnutls-cli")

WITHOUT_EMS = """
openssl_conf = all
[all]
ssl_conf = ssl
[ssl]
system_default = defaults
[defaults]
Options = -ExtendedMasterSecret
"""


class ForeignClients:
    """Starts the two clients and connects them to a server."""

    def __init__(self, run: Run, folder: Path) -> None:
        self._run = run
        self._folder = folder

    async def openssl(
        self, served: Served, *options: object, version: str = "-dtls1_2", ems: bool = True
    ) -> ForeignProgram:
        settings = self._folder / "openssl.cnf"
        settings.write_text("" if ems else WITHOUT_EMS)
        return await self._run(
            "openssl",
            "s_client",
            version,
            "-connect",
            served.authority,
            *options,
            env=os.environ | {"OPENSSL_CONF": str(settings)},
        )

    async def gnutls(
        self, served: Served, *options: object, priority: str = "NORMAL"
    ) -> ForeignProgram:
        host, port = served.authority.split(":")
        return await self._run(
            "gnutls-cli",
            "--udp",
            "--insecure",  # no CA signs the certificates that carry the keys
            f"--port={port}",
            f"--priority={priority}",
            *options,
            host,
        )


@pytest.fixture
def clients(run: Run, tmp_path: Path) -> ForeignClients:
    return ForeignClients(run, tmp_path)


# -- accepted handshakes --------------------------------------------------------------------------


@openssl
@pytest.mark.parametrize("pairing", [False, True])
@pytest.mark.parametrize(
    "suite",
    ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-CCM", "ECDHE-ECDSA-CHACHA20-POLY1305"],
)
async def test_openssl_opens_a_session_with_each_suite(
    serve: Serve, clients: ForeignClients, theirs: Keys, pairing: bool, suite: str
) -> None:
    served = await serve(pairing=pairing)
    client = await clients.openssl(served, *theirs.openssl, "-cipher", suite)
    await client.until(f"Cipher is {suite}", "Extended master secret: yes")
    (session,) = served.server.sessions()
    assert session.fingerprint == theirs.fingerprint
    client.hang_up()
    await client.end()
    await until(lambda: not served.server.sessions())  # its close_notify ended the session


@openssl
@pytest.mark.parametrize("groups", ["P-256", "X25519:P-256", "P-384:X448:P-256"])
async def test_a_session_uses_secp256r1_whatever_else_the_client_prefers(
    serve: Serve, clients: ForeignClients, theirs: Keys, groups: str
) -> None:
    served = await serve()
    client = await clients.openssl(served, *theirs.openssl, "-groups", groups)
    await client.until("Server Temp Key: ECDH, prime256v1, 256 bits", "Extended master secret: yes")
    assert [session.fingerprint for session in served.server.sessions()] == [theirs.fingerprint]


@openssl
@pytest.mark.parametrize("groups", ["X25519", "P-384", "X25519:P-384:P-521:X448"])
async def test_a_client_without_secp256r1_is_refused_with_an_alert(
    serve: Serve, clients: ForeignClients, theirs: Keys, groups: str
) -> None:
    served = await serve()
    client = await clients.openssl(served, *theirs.openssl, "-groups", groups)
    assert "alert handshake failure" in await client.end()
    assert served.count("handshakes-failed") == 1
    assert served.server.sessions() == []


@gnutls
@pytest.mark.parametrize("pairing", [False, True])
@pytest.mark.parametrize("cipher", ["AES-128-GCM", "AES-128-CCM", "CHACHA20-POLY1305"])
async def test_gnutls_opens_a_session_with_each_suite(
    serve: Serve, clients: ForeignClients, theirs: Keys, pairing: bool, cipher: str
) -> None:
    served = await serve(pairing=pairing)
    priority = f"NORMAL:-CIPHER-ALL:+{cipher}"
    client = await clients.gnutls(served, *theirs.gnutls, priority=priority)
    output = await client.until("Handshake was completed", "Simple Client Mode")
    assert f"({cipher})" in output
    assert "extended master secret" in output
    assert [session.fingerprint for session in served.server.sessions()] == [theirs.fingerprint]


@openssl
@pytest.mark.parametrize("ccm8", [False, True])
async def test_the_ccm8_suite_of_rfc_7252_must_be_enabled(
    serve: Serve, clients: ForeignClients, theirs: Keys, ccm8: bool
) -> None:
    served = await serve(ccm8=ccm8)
    suite = "ECDHE-ECDSA-AES128-CCM8"
    client = await clients.openssl(served, *theirs.openssl, "-cipher", f"{suite}:@SECLEVEL=0")
    await client.until(f"Cipher is {suite}" if ccm8 else "alert handshake failure")
    assert served.count("handshakes") == int(ccm8)


@openssl
async def test_openssl_resumes_a_session_until_a_user_is_revoked(
    serve: Serve, clients: ForeignClients, theirs: Keys, tmp_path: Path
) -> None:
    regular, pairing = await serve(), await serve(pairing=True)
    ticket = tmp_path / "ticket"
    first = await clients.openssl(regular, *theirs.openssl, "-sess_out", ticket)
    await first.until("New, TLSv1.2", "Extended master secret: yes")
    first.hang_up()
    await first.end()
    resume = (*theirs.openssl, "-sess_in", ticket)
    second = await clients.openssl(regular, *resume)
    await second.until("Reused, TLSv1.2", "Extended master secret: yes")
    # In a resumed handshake, the client sends the last message.
    await until(lambda: regular.count("handshakes") == 2)
    assert [session.fingerprint for session in regular.server.sessions()] == [theirs.fingerprint]
    regular.server.end_sessions(lambda _key: False)
    for served in (regular, pairing):
        fresh = await clients.openssl(served, *resume)
        await fresh.until("New, TLSv1.2", "Extended master secret: yes")


@openssl
async def test_the_pairing_port_issues_no_session_ticket(
    serve: Serve, clients: ForeignClients, theirs: Keys, tmp_path: Path
) -> None:
    served = await serve(pairing=True)
    ticket = tmp_path / "ticket"
    client = await clients.openssl(served, *theirs.openssl, "-sess_out", ticket)
    await client.until("New, TLSv1.2", "Extended master secret: yes")
    assert "TLS session ticket" not in client.output
    client.hang_up()
    await client.end()
    assert not ticket.exists()


@gnutls
async def test_gnutls_resumes_a_session(
    serve: Serve, clients: ForeignClients, theirs: Keys
) -> None:
    served = await serve()
    client = await clients.gnutls(served, *theirs.gnutls, "--resume")
    await client.until("This is a resumed session")
    await until(lambda: served.count("handshakes") == 2)
    assert [session.fingerprint for session in served.server.sessions()] == [theirs.fingerprint]


# -- refused handshakes ---------------------------------------------------------------------------


@openssl
async def test_openssl_without_extended_master_secret_cannot_pair(
    serve: Serve, clients: ForeignClients, theirs: Keys
) -> None:
    regular, pairing = await serve(), await serve(pairing=True)
    client = await clients.openssl(regular, *theirs.openssl, ems=False)
    await client.until("Extended master secret: no")
    assert len(regular.server.sessions()) == 1
    refused = await clients.openssl(pairing, *theirs.openssl, ems=False)
    await refused.end()  # our close_notify ends it
    assert pairing.server.sessions() == []
    assert pairing.count("no-extended-master-secret") == 1


@gnutls
async def test_gnutls_without_extended_master_secret_cannot_pair(
    serve: Serve, clients: ForeignClients, theirs: Keys
) -> None:
    regular, pairing = await serve(), await serve(pairing=True)
    priority = "NORMAL:%NO_SESSION_HASH"
    client = await clients.gnutls(regular, *theirs.gnutls, priority=priority)
    await client.until("- Options: safe renegotiation,", "Simple Client Mode")
    assert len(regular.server.sessions()) == 1
    refused = await clients.gnutls(pairing, *theirs.gnutls, priority=priority)
    await refused.until("Peer has closed the GnuTLS connection")
    assert pairing.server.sessions() == []
    assert pairing.count("no-extended-master-secret") == 1


@openssl
async def test_openssl_without_a_certificate_gets_an_alert(
    serve: Serve, clients: ForeignClients
) -> None:
    served = await serve()
    refused = await clients.openssl(served)
    await refused.until("alert handshake failure")
    assert served.count("handshakes-without-certificate") == 1
    assert served.server.sessions() == []


@gnutls
async def test_gnutls_without_a_certificate_gets_an_alert(
    serve: Serve, clients: ForeignClients
) -> None:
    served = await serve()
    refused = await clients.gnutls(served)
    await refused.until("Successfully sent 0 certificate(s)", "Received alert [40]")
    assert served.count("handshakes-without-certificate") == 1
    assert served.server.sessions() == []


@openssl
@pytest.mark.parametrize("kind", ["p384", "rsa"])
async def test_a_key_that_is_not_on_p256_gets_an_alert(
    serve: Serve, clients: ForeignClients, request: pytest.FixtureRequest, kind: str
) -> None:
    served = await serve()
    keys: Keys = request.getfixturevalue(kind)
    refused = await clients.openssl(served, *keys.openssl)
    await refused.until("alert unsupported certificate")
    assert served.count("handshakes-unsupported-key") == 1
    assert served.server.sessions() == []


@openssl
@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("-cipher", "AES128-SHA"), id="RSA key exchange"),
        pytest.param(("-cipher", "ECDHE-ECDSA-AES128-SHA"), id="CBC"),
        pytest.param(("-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384"), id="AES-256"),
        pytest.param(("-cipher", "ECDHE-ECDSA-NULL-SHA:@SECLEVEL=0"), id="no cipher"),
        pytest.param(("-psk", "5e", "-cipher", "PSK-AES128-CCM8:@SECLEVEL=0"), id="PSK"),
    ],
)
async def test_openssl_with_other_suites_only_gets_an_alert(
    serve: Serve, clients: ForeignClients, theirs: Keys, options: tuple[str, ...]
) -> None:
    served = await serve()
    refused = await clients.openssl(served, *theirs.openssl, *options)
    await refused.until("alert handshake failure")
    assert served.count("handshakes-failed") == 1


@openssl
async def test_openssl_with_dtls_1_0_gets_an_alert(
    serve: Serve, clients: ForeignClients, theirs: Keys
) -> None:
    served = await serve()
    cipher = ("-cipher", "DEFAULT:@SECLEVEL=0")  # the default level disables DTLS 1.0
    refused = await clients.openssl(served, *theirs.openssl, *cipher, version="-dtls1")
    await refused.until("alert protocol version")
    assert served.count("handshakes-failed") == 1


@gnutls
@pytest.mark.parametrize(
    ("priority", "alert"),
    [
        ("NORMAL:-CIPHER-ALL:+AES-128-CBC", "[2|40]"),
        ("NORMAL:-VERS-ALL:+VERS-DTLS1.0", "[2|70]"),
        ("NORMAL:-KX-ALL:+PSK:+DHE-PSK", "[2|40]"),
    ],
)
async def test_gnutls_with_other_suites_or_versions_only_gets_an_alert(
    serve: Serve, clients: ForeignClients, theirs: Keys, priority: str, alert: str
) -> None:
    served = await serve()
    psk = ("--pskusername=user", "--pskkey=5e")
    # gnutls-cli ignores an alert at this point and retries; its debug output shows the alert.
    refused = await clients.gnutls(served, *theirs.gnutls, *psk, "--debug=5", priority=priority)
    await refused.until(f"Alert{alert}")
    assert served.count("handshakes-failed") >= 1
    assert served.count("handshakes") == 0


@gnutls
async def test_a_refused_renegotiation_does_not_affect_the_session(
    serve: Serve, clients: ForeignClients, theirs: Keys
) -> None:
    served = await serve()
    client = await clients.gnutls(served, *theirs.gnutls, "--rehandshake", "--debug=5")
    await client.until("Alert[1|100] - No renegotiation is allowed - was received")
    assert [session.fingerprint for session in served.server.sessions()] == [theirs.fingerprint]
    assert served.count("handshakes") == 1


@openssl
async def test_a_message_that_is_not_coap_is_dropped_and_counted(
    serve: Serve, clients: ForeignClients, theirs: Keys
) -> None:
    served = await serve()
    client = await clients.openssl(served, *theirs.openssl)
    await client.until("Extended master secret: yes")
    client.type("1 line of text is not a CoAP message")
    client.hang_up()
    await client.end()
    await until(lambda: not served.server.sessions())  # its close_notify came after the message
    assert served.count("coap-malformed") == 1


@openssl
async def test_failed_handshakes_do_not_use_up_the_session_limit(
    serve: Serve, clients: ForeignClients, theirs: Keys
) -> None:
    served = await serve()
    for _ in range(DEFAULT_LIMITS.unpaired_sessions + 1):
        refused = await clients.openssl(served, "-cipher", "AES128-SHA")
        await refused.end()
    assert served.count("handshakes-failed") == DEFAULT_LIMITS.unpaired_sessions + 1
    assert served.server.sessions() == []
    client = await clients.openssl(served, *theirs.openssl)
    await client.until("Extended master secret: yes")
    assert len(served.server.sessions()) == 1
