"""The foreign programs of tests/interop/test_foreign_programs.py, and what each of them can do.

A row is a CoAP client over a DTLS stack. A client without DTLS goes through a `Tunnel`: a DTLS
client of another project, started with the same few arguments for each stack.
"""

import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12

from peer.net.address import Address
from tests.kit.interop import Keys
from tests.kit.tunnels import Tunnel
from tests.kit.waiting import TIMEOUT_SECONDS

BUNDLE_PASSWORD: Final = "transport"
SECONDS: Final = 60  # how long a CoAP client waits


class Capability(StrEnum):
    """A column of the table in docs/interop.md."""

    PAIR = "`/pair`, then `/hello`"
    BLOCKS = "20 KB each way"
    OBSERVE = "observe 2 KB"
    RESUME = "resumption"
    FRAGMENT = "`max_fragment_length` 512"


@dataclass(frozen=True)
class Line:
    """The arguments of a DTLS client: where it connects, with which key, and how."""

    server: Address
    keys: Keys
    folder: Path
    resume: bool = False
    fragment: bool = False

    @property
    def options(self) -> list[str]:
        """The arguments of the small programs in tests/interop/tunnels."""
        where = [self.server.host, str(self.server.port)]
        files = [str(self.keys.certificate), str(self.keys.key)]
        chosen = ["max-fragment=512"] * self.fragment + ["resume"] * self.resume
        return where + files + chosen


@dataclass(frozen=True)
class Exchange:
    """One request of a CoAP client. With `seconds`, it observes for that long."""

    method: str
    uri: str
    body: Path | None = None
    out: Path | None = None
    seconds: int = 0
    block: int = 1024


Request = Callable[[Exchange, Keys], Sequence[str]]
Connect = Callable[[Line], Sequence[str]]


@dataclass(frozen=True)
class Row:
    """A row of the table: a CoAP client, its DTLS, and why it lacks a capability."""

    client: str
    dtls: str
    version: str
    tools: tuple[str, ...]
    request: Request
    tunnel: Connect | None = None
    lacks: Mapping[Capability, str] = field(default_factory=dict)
    is_in_ci: bool = True
    #: To resume a session, one run of the program connects twice: again when the first one ends.
    connects_again: bool = False

    @property
    def name(self) -> str:
        return f"{self.client} over {self.dtls}"

    def connect(self, line: Line, running: ExitStack) -> tuple[str, Tunnel | None]:
        """Start its tunnel, if it needs one; return the base of the URIs for its CoAP client."""
        if self.tunnel is None:
            return f"coaps://{line.server.host}:{line.server.port}", None
        tunnel = running.enter_context(Tunnel(self.tunnel(line)))
        return f"coap://{tunnel.address.host}:{tunnel.address.port}", tunnel


def own_tunnel(program: str) -> Connect:
    """A small program of tests/interop/tunnels."""
    return lambda line: [program, *line.options]


def openssl_tunnel(line: Line) -> Sequence[str]:
    server = f"{line.server.host}:{line.server.port}"
    command = ["openssl", "s_client", "-dtls1_2", "-quiet", "-connect", server]
    command += [*line.keys.openssl, *["-maxfraglen", "512"] * line.fragment]
    if line.resume:
        ticket = str(line.folder / "ticket")
        subprocess.run([*command, "-no_ign_eof", "-sess_out", ticket], stdin=subprocess.DEVNULL,
                       capture_output=True, check=True, timeout=TIMEOUT_SECONDS)  # fmt: skip
        command += ["-sess_in", ticket]
    return command


def bundle(line: Line) -> Path:
    """Write the key and its certificate as PKCS #12; return the file."""
    file = line.folder / "theirs.p12"
    certificate = x509.load_pem_x509_certificate(line.keys.certificate.read_bytes())
    private = serialization.load_pem_private_key(line.keys.key.read_bytes(), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    locked = serialization.BestAvailableEncryption(BUNDLE_PASSWORD.encode())
    file.write_bytes(
        pkcs12.serialize_key_and_certificates(b"theirs", private, certificate, None, locked)
    )
    return file


def jsse_tunnel(line: Line) -> Sequence[str]:
    host, port, _, _, *chosen = line.options
    return ["jsse-tunnel", host, port, str(bundle(line)), *chosen]


def nss_tunnel(line: Line) -> Sequence[str]:
    """`tstclnt` takes its key from a database, and `pk12util` brings it there."""
    where = ["-h", line.server.host, "-p", str(line.server.port), "-P", "client"]
    database = f"sql:{line.folder}"
    # -o: no CA signs the device's key. -G: extended master secret, required for pairing.
    command = ["tstclnt", *where, "-d", database, "-n", "theirs", "-o", "-G", "-V", "tls1.2:tls1.2"]
    command += ["-u", "-L", "2"] * line.resume  # accept a ticket, and connect twice
    if (line.folder / "cert9.db").exists():  # an earlier connection of the test
        return command
    for step in (
        ("certutil", "-N", "-d", database, "--empty-password"),
        ("pk12util", "-i", str(bundle(line)), "-d", database, "-W", BUNDLE_PASSWORD, "-K", ""),
    ):
        subprocess.run(step, capture_output=True, check=True, timeout=TIMEOUT_SECONDS)
    return command


def libcoap(program: str, *, block: int = 1024) -> Request:
    """libcoap's client; with a `coap` URI it uses plain UDP."""

    def command(exchange: Exchange, keys: Keys) -> Sequence[str]:
        secured = keys.coap if exchange.uri.startswith("coaps:") else ()
        files = [("-f", exchange.body), ("-o", exchange.out)]
        given = [word for flag, file in files if file for word in (flag, str(file))]
        watch = ["-s", str(exchange.seconds)] if exchange.seconds else []
        limits = ["-b", str(min(block, exchange.block)), "-B", str(SECONDS)]
        return [program, *secured, "-m", exchange.method, *limits, *given, *watch, exchange.uri]

    return command


def coapthon(exchange: Exchange, _keys: Keys) -> Sequence[str]:
    """The client of tests/interop/coapthon, for requests without a body."""
    return ["coapthon", exchange.method, exchange.uri]


def npm_coap(exchange: Exchange, keys: Keys) -> Sequence[str]:
    """The client of tests/interop/node."""
    given = {"body": exchange.body, "out": exchange.out, "block": exchange.block}
    options = [f"{name}={value}" for name, value in given.items() if value]
    files = [str(keys.certificate), str(keys.key)]
    return ["npm-coap", *files, exchange.method, exchange.uri, *options]


NO_OPTION: Final = "the program has no option for it"
OVER_UDP: Final = libcoap("coap-client-openssl")
IN_SMALL_BLOCKS: Final = libcoap("coap-client-openssl", block=512)
"""For `s_client`, which writes at most 1024 bytes of a datagram at once."""

ROWS: Final = (
    Row(
        "libcoap",
        "OpenSSL",
        "4.3.1 / 3.0",
        ("coap-client-openssl",),
        libcoap("coap-client-openssl"),
        lacks={Capability.RESUME: NO_OPTION, Capability.FRAGMENT: NO_OPTION},
    ),
    Row(
        "libcoap",
        "GnuTLS",
        "4.3.1 / 3.7.9",
        ("coap-client-gnutls",),
        libcoap("coap-client-gnutls"),
        lacks={Capability.RESUME: NO_OPTION, Capability.FRAGMENT: NO_OPTION},
    ),
    Row(
        "libcoap",
        "`openssl s_client`",
        "4.3.1 / 3.0",
        ("coap-client-openssl", "openssl"),
        IN_SMALL_BLOCKS,
        openssl_tunnel,
        lacks={Capability.BLOCKS: "the program splits a datagram of more than 1024 bytes"},
    ),
    Row(
        "libcoap",
        "GnuTLS's library",
        "4.3.1 / 3.7.9",
        ("coap-client-openssl", "gnutls-tunnel"),
        OVER_UDP,
        own_tunnel("gnutls-tunnel"),
    ),
    Row(
        "libcoap",
        "Mbed TLS",
        "4.3.1 / 2.28.3",
        ("coap-client-openssl", "mbedtls-tunnel"),
        OVER_UDP,
        own_tunnel("mbedtls-tunnel"),
    ),
    Row(
        "libcoap",
        "wolfSSL",
        "4.3.1 / 5.5.4",
        ("coap-client-openssl", "wolfssl-tunnel"),
        OVER_UDP,
        own_tunnel("wolfssl-tunnel"),
    ),
    Row(
        "libcoap",
        "NSS `tstclnt`",
        "4.3.1 / 3.87.1",
        ("coap-client-openssl", "tstclnt", "certutil", "pk12util"),
        OVER_UDP,
        nss_tunnel,
        lacks={Capability.FRAGMENT: NO_OPTION},
        connects_again=True,
    ),
    Row(
        "libcoap",
        "Java's JSSE",
        "4.3.1 / 17.0.15",
        ("coap-client-openssl", "jsse-tunnel"),
        OVER_UDP,
        jsse_tunnel,
    ),
    Row(
        "libcoap",
        "pion",
        "4.3.1 / 2.2.6",
        ("coap-client-openssl", "pion-tunnel"),
        OVER_UDP,
        own_tunnel("pion-tunnel"),
        lacks={
            Capability.RESUME: "the library resumes by session ID only, not by ticket",
            Capability.FRAGMENT: NO_OPTION,
        },
    ),
    Row(
        "CoAPthon3",
        "GnuTLS's library",
        "1.0.2 / 3.7.9",
        ("coapthon", "gnutls-tunnel"),
        coapthon,
        own_tunnel("gnutls-tunnel"),
        lacks={
            Capability.BLOCKS: "the program does not fetch the other blocks of a POST's response",
            Capability.OBSERVE: "the program acknowledges with a token (against RFC 7252 §4.1)",
            Capability.RESUME: "the DTLS is that of another row",
            Capability.FRAGMENT: "the DTLS is that of another row",
        },
    ),
    Row(
        "npm's `coap`",
        "npm's `werift-dtls`",
        "1.5.0 / 0.5.8",
        ("node", "npm-coap"),
        npm_coap,
        lacks={
            Capability.OBSERVE: "the program reads only the first block of a notification",
            Capability.RESUME: NO_OPTION,
            Capability.FRAGMENT: NO_OPTION,
        },
        is_in_ci=False,
    ),
)


def table() -> str:
    """The table of docs/interop.md, with the reasons as numbered notes below it."""
    reasons = sorted({reason for row in ROWS for reason in row.lacks.values()})
    numbers = {reason: number for number, reason in enumerate(reasons, 1)}
    lines = [
        f"| CoAP client | DTLS | versions | {' | '.join(Capability)} |",
        f"|---|---|---|{'---|' * len(Capability)}",
    ]
    for row in ROWS:
        cells = [
            f"no ({numbers[row.lacks[one]]})" if one in row.lacks else "yes" for one in Capability
        ]
        lines.append(f"| {row.client} | {row.dtls} | {row.version} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(f"{number}. {reason}" for reason, number in numbers.items())])
