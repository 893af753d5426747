"""Programs of other projects as processes, and keys in the files that they read.

A `Program` reads the output as it comes, so a test waits for a text and never for time to pass.
"""

import asyncio
import signal
import socket
import subprocess
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.x509.oid import NameOID

from peer.identity import Fingerprint
from peer.net.address import Address

HOST = "127.0.0.1"
PATIENCE = 30.0  # seconds until a test gives up waiting for a program


class Program:
    """A foreign process: what it says (stdout and stderr together), and its input."""

    def __init__(self, process: asyncio.subprocess.Process, name: str) -> None:
        self.name = name
        self.said = ""
        self._process = process
        self._news = asyncio.Event()
        self._over = False
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, *command: str | Path, env: dict[str, str] | None = None) -> "Program":
        process = await asyncio.create_subprocess_exec(
            *map(str, command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=env,
        )
        return cls(process, Path(command[0]).name)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while chunk := await self._process.stdout.read(1 << 16):
            self.said += chunk.decode(errors="replace")
            self._news.set()
        self._over = True
        self._news.set()

    async def until(self, *texts: str) -> str:
        """Wait until it has said all the texts; returns everything said so far."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not all(text in self.said for text in texts):
                    assert not self._over, f"{self.name} ended without {texts}:\n{self.said}"
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            pytest.fail(f"{self.name} never said {texts}:\n{self.said}")
        return self.said

    async def says(self, text: str) -> bool:
        """Wait until it has said the text (True) or has ended without it."""
        async with asyncio.timeout(PATIENCE):
            while text not in self.said and not self._over:
                self._news.clear()
                await self._news.wait()
        return text in self.said

    async def accepts(self) -> Address:
        """Where `openssl s_server` listens, once it says so."""
        said = await self.until("ACCEPT ", "\n")
        line = next(line for line in said.splitlines() if line.startswith("ACCEPT "))
        return Address(HOST, int(line.rpartition(":")[2]))

    def say(self, line: str) -> None:
        """Type a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())

    def hang_up(self) -> None:
        """End its input."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def interrupt(self) -> None:
        """Ctrl-C, unless it has ended."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGINT)

    async def end(self) -> str:
        """Wait until it ends by itself; returns everything it said."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self._process.wait()
                await self._reader
        except TimeoutError:
            pytest.fail(f"{self.name} never ended:\n{self.said}")
        return self.said

    @property
    def code(self) -> int | None:
        return self._process.returncode

    async def stop(self) -> None:
        """End it, if it has not ended."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._reader
        self._process._transport.close()  # type: ignore[attr-defined]  # its pipes, now and here


Run = Callable[..., Awaitable[Program]]


class Ports:
    """UDP addresses of loopback that were free a moment ago."""

    def free(self, *, next_too: bool = False) -> Address:
        """One of them, if need be with the one `after` it free as well."""
        while True:
            with (
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
            ):
                one.bind((HOST, 0))
                port = int(one.getsockname()[1])
                with suppress(OSError, OverflowError):  # it is taken, or there is none
                    if next_too:
                        other.bind((HOST, port + 1))
                    return Address(HOST, port)

    def after(self, address: Address) -> Address:
        return Address(address.host, address.port + 1)


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
        """As options of libcoap's programs. -n: there is no CA behind our containers."""
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
    """A certificate as a stranger may have it: with a name, and out of date for many years."""
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
