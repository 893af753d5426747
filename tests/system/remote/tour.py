"""The demonstration of `make demo-remote`: a device and a client on networks that do not meet.

It builds a small internet of network namespaces, so it needs root. Everything is removed at the
end.
"""

import asyncio
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

from client_app.commands.demo_stage import Say, Stage
from peer.errors import PeerError
from tests.kit.brokers import mosquitto
from tests.kit.namespaces import Namespaces
from tests.kit.nat_lab import BROKER, RELAY, Nat, NatLab, nat_lab
from tests.kit.relays import coturn
from tests.kit.remote_home import ssh_service, write_settings
from tests.kit.sshd import Sshd

PROGRAMS: Final = {
    "ip": "iproute2",
    "nft": "nftables",
    "mosquitto": "mosquitto",
    "turnserver": "coturn",
    "sshd": "openssh-server",
    "ssh": "openssh-client",
}
_CODE: Final = re.compile(r"[0-9]{4}-[0-9]{4}")


async def tour(say: Say) -> None:
    """Run the demonstration. Raises `PeerError` if a step does not end as expected."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="handfast-demo-")))
        lab = nat_lab(stack.enter_context(closing(Namespaces())))
        servers = folder / "servers"
        servers.mkdir()
        broker = stack.enter_context(mosquitto(servers, host=BROKER, namespace=lab.core))
        relay = stack.enter_context(coturn(servers, host=RELAY, namespace=lab.core))
        sshd = stack.enter_context(closing(Sshd(folder / "sshd", lab.device.host)))
        places = {
            "device": ("ip", "netns", "exec", lab.device.host.name),
            "client": ("ip", "netns", "exec", lab.client.host.name),
        }
        shown = Stage(folder, say, places=places)
        try:
            settings = write_settings(
                folder / "device", broker, relay, stun=[relay.stun], more=ssh_service(sshd)
            )
            _write_ssh_config(folder, sshd)
            await _tour(shown, lab, settings.relative_to(folder))
        finally:
            await shown.close()


async def _tour(stage: Stage, lab: NatLab, settings: Path) -> None:
    device, anna, mia = "--home device", "--home anna", "--home mia"
    stage.chapter(
        "A device at home, behind a router. A broker and a relay are on the internet; the device\n"
        "knows them from its settings, and tests each step."
    )
    await stage.run(f"handfast-device {device} init --name kitchen", at="device")
    await stage.run(f"cat {settings}", at="device")
    lab.plug_in()
    daemon = await stage.start(f"handfast-device {device} run", at="device")
    await stage.until(daemon, "attached")
    await stage.run(f"handfast-device {device} remote test", at="device")

    stage.chapter(
        "A client on the same LAN pairs, and a second one gets an invite. Each of them also gets\n"
        "the settings of the remote path."
    )
    window = await stage.run(f"handfast-device {device} open --no-wait", at="device")
    code = _CODE.search(window)
    if code is None:
        raise PeerError(
            "the device has shown no code",
            advice="The code needs pycryptodome: pip install pycryptodome.",
        )
    await stage.run(f"handfast {anna} pair kitchen --name anna --code {code[0]}", at="client")
    await stage.run(f"handfast {anna} whoami kitchen", at="client")
    await stage.run(
        f"handfast {anna} -q invite kitchen mia --role user --for 1h",
        into=f"handfast {mia} pair -",
        at="client",
    )

    stage.chapter("The client moves to another home: both routers translate addresses.")
    lab.move_away(Nat.CONE)
    await stage.run(f"handfast {anna} whoami kitchen --via direct", at="client")
    await stage.run(f"handfast {anna} get kitchen /hello", at="client")

    stage.chapter("A network that blocks UDP: the relay passes the same encrypted datagrams.")
    lab.move_away(Nat.BLOCKED)
    await stage.run(f"handfast {anna} whoami kitchen", at="client")

    stage.chapter("A shell on the device, through a tunnel over this path.")
    await stage.run(f"handfast {anna} services kitchen", at="client")
    await stage.run("grep ProxyCommand ssh.config", at="client")
    await stage.run("ssh -F ssh.config kitchen ip -brief address show eth0", at="client")

    stage.chapter(
        "The owner removes the other user, from here. Its session ends at once, and the device\n"
        "listens for it no more."
    )
    watching = await stage.start(f"handfast {mia} observe kitchen /board --no-retry", at="client")
    await stage.until(watching, "load")
    await stage.run(f"handfast {anna} users kitchen remove mia --yes", at="client")
    await stage.end(watching, exit_code=3)
    await stage.run(
        f"handfast {mia} get kitchen /hello --via direct,relay", at="client", exit_code=3
    )
    stage.chapter("End of the demonstration; its networks, processes and files are removed.")


def _write_ssh_config(folder: Path, sshd: Sshd) -> None:
    """Let ssh reach the host `kitchen` through a tunnel."""
    (folder / "ssh.config").write_text(
        f"""\
Host kitchen
    ProxyCommand handfast --home anna connect kitchen ssh
    User root
    IdentityFile {sshd.key}
    StrictHostKeyChecking no
    UserKnownHostsFile /dev/null
    LogLevel ERROR
"""
    )


def missing_programs() -> Sequence[str]:
    """The Debian packages of the programs that are not installed."""
    return [package for program, package in PROGRAMS.items() if shutil.which(program) is None]


def main() -> int:
    """Run the demonstration, and return its exit code."""
    if os.geteuid() != 0:
        print("demo-remote: it creates network namespaces, which needs root: sudo make demo-remote")
        return 2
    if packages := missing_programs():
        print(f"demo-remote: on Debian, install these first: apt install {' '.join(packages)}")
        return 2
    # ssh starts `handfast`, which is beside this Python.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    try:
        asyncio.run(tour(print))
    except PeerError as error:
        print(f"demo-remote: {error}", error.advice, sep="\n  ", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
