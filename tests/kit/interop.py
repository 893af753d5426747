"""Programs of other projects as processes, and keys in their file formats.

A test waits for output of a program, and never for time to pass.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.x509.oid import NameOID

from peer.identity import Fingerprint
from peer.net.address import Address
from tests.kit.process import Program

HOST = "127.0.0.1"


class ForeignProgram:
    """A program of another project. It reads lines; `output` has both of its output streams."""

    def __init__(self, *command: str | Path, env: dict[str, str] | None = None) -> None:
        self.name = Path(command[0]).name
        self._program = Program([*map(str, command)], env, typed=True)

    @property
    def output(self) -> str:
        """The output so far."""
        return self._program.output("out")

    async def until(self, *texts: str) -> str:
        """Wait until all the texts have been printed; return the output so far."""
        for text in texts:
            await asyncio.to_thread(self._program.until, text, on="out")
        return self.output

    async def accepts(self) -> Address:
        """Wait until `openssl s_server` listens; return its address."""
        output = await self.until("ACCEPT ", "\n")
        line = next(line for line in output.splitlines() if line.startswith("ACCEPT "))
        return Address(HOST, int(line.rpartition(":")[2]))

    def type(self, line: str) -> None:
        """Type a line."""
        self._program.type(line)

    def hang_up(self) -> None:
        """Close the input of the program."""
        self._program.end_input()

    def interrupt(self) -> None:
        """Send SIGINT, unless the program has ended."""
        if self._program.is_running:
            self._program.send(signal.SIGINT)

    async def end(self) -> str:
        """Wait until the program ends; return its output."""
        return (await asyncio.to_thread(self._program.end)).out

    @property
    def code(self) -> int | None:
        return self._program.process.returncode

    async def stop(self) -> None:
        """Kill the program, unless it has ended."""
        if self._program.is_running:
            self._program.send(signal.SIGKILL)
        await asyncio.to_thread(self._program.close)


Run = Callable[..., Awaitable[ForeignProgram]]


@dataclass(frozen=True)
class Keys:
    """The two files of one foreign key."""

    certificate: Path
    key: Path

    @property
    def fingerprint(self) -> Fingerprint:
        public = x509.load_pem_x509_certificate(self.certificate.read_bytes()).public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey)
        return Fingerprint.of_public_key(public)

    @property
    def coap(self) -> tuple[str, ...]:
        """Options of libcoap's programs. -n: our certificates have no CA."""
        return ("-c", str(self.certificate), "-j", str(self.key), "-n")

    @property
    def openssl(self) -> tuple[str, ...]:
        return ("-cert", str(self.certificate), "-key", str(self.key))

    @property
    def gnutls(self) -> tuple[str, ...]:
        return (f"--x509certfile={self.certificate}", f"--x509keyfile={self.key}")


def write_keys(
    folder: Path, name: str, private: ec.EllipticCurvePrivateKey | RSAPrivateKey
) -> Keys:
    """Write a key and a certificate unlike ours: it has a name, and it expired years ago."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name}.example")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private.public_key())
        .serial_number(7)
        .not_valid_before(datetime(2001, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2002, 1, 1, tzinfo=UTC))
        .sign(private, hashes.SHA256())
    )
    files = folder / f"{name}.crt", folder / f"{name}.key"
    pem = serialization.Encoding.PEM
    files[0].write_bytes(certificate.public_bytes(pem))
    files[1].write_bytes(
        private.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return Keys(files[0], files[1])
