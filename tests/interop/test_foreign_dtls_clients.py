"""`openssl s_client` and `gnutls-cli` against our server: DTLS alone, no CoAP."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from peer.limits import DEFAULT_LIMITS

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


class Dial:
    """Starts the two clients towards a server."""

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
            "--insecure",  # there is no CA behind our containers
            f"--port={port}",
            f"--priority={priority}",
            *options,
            host,
        )


@pytest.fixture
def dial(run: Run, tmp_path: Path) -> Dial:
    return Dial(run, tmp_path)


# -- what is accepted ----------------------------------------------------------------------------


@openssl
@pytest.mark.parametrize("pairing", [False, True])
@pytest.mark.parametrize(
    "suite",
    ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-CCM", "ECDHE-ECDSA-CHACHA20-POLY1305"],
)
async def test_openssl_gets_a_session_with_each_suite(
    serve: Serve, dial: Dial, theirs: Keys, pairing: bool, suite: str
) -> None:
    served = await serve(pairing=pairing)
    talking = await dial.openssl(served, *theirs.openssl, "-cipher", suite)
    await talking.until(f"Cipher is {suite}", "Extended master secret: yes")
    (session,) = served.server.sessions()
    assert session.fingerprint == theirs.fingerprint
    talking.hang_up()
    await talking.end()
    assert served.server.sessions() == []  # its close_notify was heard


@gnutls
@pytest.mark.parametrize("pairing", [False, True])
@pytest.mark.parametrize("cipher", ["AES-128-GCM", "AES-128-CCM", "CHACHA20-POLY1305"])
async def test_gnutls_gets_a_session_with_each_suite(
    serve: Serve, dial: Dial, theirs: Keys, pairing: bool, cipher: str
) -> None:
    served = await serve(pairing=pairing)
    priority = f"NORMAL:-CIPHER-ALL:+{cipher}"
    talking = await dial.gnutls(served, *theirs.gnutls, priority=priority)
    said = await talking.until("Handshake was completed", "Simple Client Mode")
    assert f"({cipher})" in said
    assert "extended master secret" in said
    assert [session.fingerprint for session in served.server.sessions()] == [theirs.fingerprint]


@openssl
@pytest.mark.parametrize("ccm8", [False, True])
async def test_the_short_tag_of_rfc_7252_needs_its_switch(
    serve: Serve, dial: Dial, theirs: Keys, ccm8: bool
) -> None:
    served = await serve(ccm8=ccm8)
    suite = "ECDHE-ECDSA-AES128-CCM8"
    talking = await dial.openssl(served, *theirs.openssl, "-cipher", f"{suite}:@SECLEVEL=0")
    await talking.until(f"Cipher is {suite}" if ccm8 else "alert handshake failure")
    assert served.count("handshakes") == int(ccm8)


@openssl
async def test_openssl_resumes_until_somebody_is_revoked(
    serve: Serve, dial: Dial, theirs: Keys, tmp_path: Path
) -> None:
    regular, pairing = await serve(), await serve(pairing=True)
    ticket = tmp_path / "ticket"
    first = await dial.openssl(regular, *theirs.openssl, "-sess_out", ticket)
    await first.until("New, TLSv1.2", "Extended master secret: yes")
    first.hang_up()
    await first.end()
    resume = (*theirs.openssl, "-sess_in", ticket)
    second = await dial.openssl(regular, *resume)
    await second.until("Reused, TLSv1.2", "Extended master secret: yes")
    assert [session.fingerprint for session in regular.server.sessions()] == [theirs.fingerprint]
    regular.server.end_sessions(lambda _key: False)
    for served in (regular, pairing):
        anew = await dial.openssl(served, *resume)
        await anew.until("New, TLSv1.2", "Extended master secret: yes")


@openssl
async def test_the_pairing_port_hands_out_nothing_to_resume(
    serve: Serve, dial: Dial, theirs: Keys, tmp_path: Path
) -> None:
    served = await serve(pairing=True)
    ticket = tmp_path / "ticket"
    talking = await dial.openssl(served, *theirs.openssl, "-sess_out", ticket)
    await talking.until("New, TLSv1.2", "Extended master secret: yes")
    assert "TLS session ticket" not in talking.said
    talking.hang_up()
    await talking.end()
    assert not ticket.exists()


@gnutls
async def test_gnutls_resumes(serve: Serve, dial: Dial, theirs: Keys) -> None:
    served = await serve()
    talking = await dial.gnutls(served, *theirs.gnutls, "--resume")
    await talking.until("This is a resumed session")
    assert [session.fingerprint for session in served.server.sessions()] == [theirs.fingerprint]


# -- what is refused -----------------------------------------------------------------------------


@openssl
async def test_openssl_without_extended_master_secret_may_not_pair(
    serve: Serve, dial: Dial, theirs: Keys
) -> None:
    regular, pairing = await serve(), await serve(pairing=True)
    talking = await dial.openssl(regular, *theirs.openssl, ems=False)
    await talking.until("Extended master secret: no")
    assert len(regular.server.sessions()) == 1
    refused = await dial.openssl(pairing, *theirs.openssl, ems=False)
    await refused.end()  # our close_notify ends it
    assert pairing.server.sessions() == []
    assert pairing.count("no-extended-master-secret") == 1


@gnutls
async def test_gnutls_without_extended_master_secret_may_not_pair(
    serve: Serve, dial: Dial, theirs: Keys
) -> None:
    regular, pairing = await serve(), await serve(pairing=True)
    priority = "NORMAL:%NO_SESSION_HASH"
    talking = await dial.gnutls(regular, *theirs.gnutls, priority=priority)
    await talking.until("- Options: safe renegotiation,", "Simple Client Mode")
    assert len(regular.server.sessions()) == 1
    refused = await dial.gnutls(pairing, *theirs.gnutls, priority=priority)
    await refused.until("Peer has closed the GnuTLS connection")
    assert pairing.server.sessions() == []
    assert pairing.count("no-extended-master-secret") == 1


@openssl
async def test_openssl_without_a_certificate_gets_an_alert(serve: Serve, dial: Dial) -> None:
    served = await serve()
    refused = await dial.openssl(served)
    await refused.until("alert handshake failure")
    assert served.count("handshakes-without-certificate") == 1
    assert served.server.sessions() == []


@gnutls
async def test_gnutls_without_a_certificate_gets_an_alert(serve: Serve, dial: Dial) -> None:
    served = await serve()
    refused = await dial.gnutls(served)
    await refused.until("Successfully sent 0 certificate(s)", "Received alert [40]")
    assert served.count("handshakes-without-certificate") == 1
    assert served.server.sessions() == []


@openssl
@pytest.mark.parametrize("kind", ["p384", "rsa"])
async def test_a_key_that_is_not_on_p256_gets_an_alert(
    serve: Serve, dial: Dial, request: pytest.FixtureRequest, kind: str
) -> None:
    served = await serve()
    keys: Keys = request.getfixturevalue(kind)
    refused = await dial.openssl(served, *keys.openssl)
    await refused.until("alert unknown ca")
    assert served.count("handshakes-failed") == 1
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
    serve: Serve, dial: Dial, theirs: Keys, options: tuple[str, ...]
) -> None:
    served = await serve()
    refused = await dial.openssl(served, *theirs.openssl, *options)
    await refused.until("alert handshake failure")
    assert served.count("handshakes-failed") == 1


@openssl
async def test_openssl_with_dtls_1_0_gets_an_alert(serve: Serve, dial: Dial, theirs: Keys) -> None:
    served = await serve()
    cipher = ("-cipher", "DEFAULT:@SECLEVEL=0")  # else it would not dare to try
    refused = await dial.openssl(served, *theirs.openssl, *cipher, version="-dtls1")
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
    serve: Serve, dial: Dial, theirs: Keys, priority: str, alert: str
) -> None:
    served = await serve()
    psk = ("--pskusername=somebody", "--pskkey=5e")
    # It believes no alert at this point and tries again; its debug output shows that it came.
    refused = await dial.gnutls(served, *theirs.gnutls, *psk, "--debug=5", priority=priority)
    await refused.until(f"Alert{alert}")
    assert served.count("handshakes-failed") >= 1
    assert served.count("handshakes") == 0


@gnutls
async def test_a_refused_renegotiation_costs_the_session_nothing(
    serve: Serve, dial: Dial, theirs: Keys
) -> None:
    served = await serve()
    talking = await dial.gnutls(served, *theirs.gnutls, "--rehandshake", "--debug=5")
    await talking.until("Alert[1|100] - No renegotiation is allowed - was received")
    assert [session.fingerprint for session in served.server.sessions()] == [theirs.fingerprint]
    assert served.count("handshakes") == 1


@openssl
async def test_what_is_not_coap_is_dropped_and_counted(
    serve: Serve, dial: Dial, theirs: Keys
) -> None:
    served = await serve()
    talking = await dial.openssl(served, *theirs.openssl)
    await talking.until("Extended master secret: yes")
    talking.say("1 line of text is not a CoAP message")
    talking.hang_up()
    await talking.end()
    assert served.count("coap-malformed") == 1


@openssl
async def test_strangers_that_fail_take_no_place(serve: Serve, dial: Dial, theirs: Keys) -> None:
    served = await serve()
    for _ in range(DEFAULT_LIMITS.unpaired_sessions + 1):
        refused = await dial.openssl(served, "-cipher", "AES128-SHA")
        await refused.end()
    assert served.count("handshakes-failed") == DEFAULT_LIMITS.unpaired_sessions + 1
    assert served.server.sessions() == []
    talking = await dial.openssl(served, *theirs.openssl)
    await talking.until("Extended master secret: yes")
    assert len(served.server.sessions()) == 1
