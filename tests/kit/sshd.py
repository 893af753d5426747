"""An OpenSSH server on loopback with keys of its own, for one client key."""

import getpass
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.kit.namespaces import Namespace
from tests.kit.server_process import free_port, inside
from tests.kit.waiting import block_until


class Sshd:
    """A running sshd. It lets the user in who runs the test, with the key that it has made.

    Args:
        folder: where its files are made.
        namespace: the network namespace in which it runs; None for that of the test.
    """

    def __init__(self, folder: Path, namespace: Namespace | None = None) -> None:
        folder.mkdir(mode=0o700)
        host_key, self.key = folder / "host_key", folder / "user_key"
        for key in (host_key, self.key):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True
            )
        allowed = folder / "authorized_keys"
        shutil.copy(f"{self.key}.pub", allowed)
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # which sshd wants of root
        self.port = free_port("127.0.0.1", namespace)
        config = folder / "sshd_config"
        config.write_text(
            f"ListenAddress 127.0.0.1:{self.port}\nHostKey {host_key}\nPidFile none\n"
            f"AuthorizedKeysFile {allowed}\nStrictModes no\nUsePAM no\n"
            f"AllowUsers {getpass.getuser()}\nPermitRootLogin prohibit-password\n"
            "PasswordAuthentication no\nSubsystem sftp internal-sftp\n"
        )
        log = folder / "log"
        sshd = shutil.which("sshd")
        assert sshd is not None
        with inside(namespace):
            self._process = subprocess.Popen([sshd, "-D", "-f", str(config), "-E", str(log)])
        block_until(lambda: log.exists() and "Server listening" in log.read_text())

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def command(self, client: Path, program: str, *words: str) -> list[str]:
        """A command of OpenSSH that comes here through the tunnel `ssh` of the device `kitchen`.

        It uses the key of this server, the client of handfast with that folder, and no file of the
        user.
        """
        given = (
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "BatchMode=yes",
            f"ProxyCommand={sys.executable} -m handfast --home {client} connect kitchen ssh",
        )
        options = [word for one in given for word in ("-o", one)]
        return [program, "-F", "none", "-i", str(self.key), *options, *words]

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
