"""`handfast import-key` takes the key that a person has, and never replaces one."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from client_app.home import Home
from client_app.terminal.screen import Screen
from peer.identity import Identity
from tests.kit.shell import Shell

FORMS = {
    "SEC 1": (serialization.PrivateFormat.TraditionalOpenSSL, b"BEGIN EC PRIVATE KEY"),
    "PKCS#8": (serialization.PrivateFormat.PKCS8, b"BEGIN PRIVATE KEY"),
}


def pem_of(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, form: str, passphrase: bytes = b""
) -> bytes:
    encryption = (
        serialization.BestAvailableEncryption(passphrase)
        if passphrase
        else serialization.NoEncryption()
    )
    return key.private_bytes(serialization.Encoding.PEM, FORMS[form][0], encryption)


@pytest.fixture
def key() -> Identity:
    return Identity.create()


@pytest.mark.parametrize("form", FORMS)
def test_a_key_of_another_program_becomes_that_of_the_client(
    shell: Shell, tmp_path: Path, key: Identity, form: str
) -> None:
    file = tmp_path / "client.key"
    file.write_bytes(pem_of(key.private_key, form))
    file.chmod(0o600)
    assert FORMS[form][1] in file.read_bytes()
    done = shell("--json", "import-key", str(file))
    assert done.code == 0, done.err
    assert json.loads(done.out)["fingerprint"] == key.fingerprint.hex
    path = Home.at(shell.home).identity
    assert Identity.load(path).fingerprint == key.fingerprint
    assert path.stat().st_mode & 0o777 == 0o600
    assert b"BEGIN PRIVATE KEY" in path.read_bytes()
    assert file.exists()
    again = shell("import-key", "-", stdin=file.read_bytes())
    assert again.code == 0
    assert "this client has this key already" in again.err


def test_a_key_that_is_there_is_never_replaced(shell: Shell, key: Identity) -> None:
    path = Home.at(shell.home).identity
    assert shell("fingerprint").code == 0
    before = path.read_bytes()
    refused = shell("import-key", "-", stdin=key.key_pem())
    assert refused.code == 2
    assert "has another key already" in refused.err
    assert path.read_bytes() == before


@pytest.mark.parametrize("form", FORMS)
def test_a_passphrase_is_asked_for_on_a_terminal_alone(
    shell: Shell, tmp_path: Path, key: Identity, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "client.key"
    file.write_bytes(pem_of(key.private_key, form, b"words"))
    refused = shell("import-key", str(file))
    assert refused.code == 2
    assert "openssl pkey" in refused.err
    monkeypatch.setattr(Screen, "can_ask", True)
    wrong = shell("import-key", str(file), stdin=b"other\n")
    assert wrong.code == 1
    assert "cannot be decrypted" in wrong.err
    assert not Home.at(shell.home).identity.exists()
    assert shell("import-key", str(file), stdin=b"words\n").code == 0
    assert Identity.load(Home.at(shell.home).identity).fingerprint == key.fingerprint


def test_other_files_are_refused(shell: Shell, tmp_path: Path, key: Identity) -> None:
    wrong = {
        "nothing": b"",
        "text": b"hello",
        "a public key": key.certificate_pem(),
        "P-384": pem_of(ec.generate_private_key(ec.SECP384R1()), "SEC 1"),
        "RSA": pem_of(rsa.generate_private_key(65537, 2048), "PKCS#8"),
        "cut short": key.key_pem()[:100],
        "long": b"-----BEGIN" + bytes(100_000),
    }
    for what, content in wrong.items():
        done = shell("import-key", "-", stdin=content)
        assert done.code == 1, what
        assert "standard input is not" in done.err, what
    assert shell("import-key", str(tmp_path)).code == 2
    assert shell("import-key", str(tmp_path / "missing")).code == 2
    assert not Home.at(shell.home).identity.exists()


def test_a_key_that_others_can_read_is_warned_of(
    shell: Shell, tmp_path: Path, key: Identity
) -> None:
    file = tmp_path / "client.key"
    file.write_bytes(key.key_pem())
    file.chmod(0o644)
    done = shell("-q", "import-key", str(file))
    assert done.code == 0
    assert "other users of this machine can read" in done.err
