"""The demonstration of `handfast demo`: real processes, each command printed before it runs.

It uses a temporary folder, which is removed in any case, and the loopback interface.
"""

import re
import shlex
import tempfile
from pathlib import Path
from typing import Final

from client_app.commands.demo_stage import Say, Stage
from peer.errors import PeerError

_LOOPBACK: Final = "127.0.0.1"
_CODE: Final = re.compile(r"[0-9]{4}-[0-9]{4}")
_LABEL: Final = re.compile(r"HANDFAST:1\S+")


async def tour(say: Say) -> None:
    """Run the demonstration. Raises `PeerError` if a step does not end as expected."""
    with tempfile.TemporaryDirectory(prefix="handfast-demo-") as folder:
        stage = Stage(Path(folder), say)
        try:
            await _tour(stage)
        finally:
            await stage.close()


async def _tour(stage: Stage) -> None:
    device, anna, mia, eve = (f"--home {who}" for who in ("device", "anna", "mia", "eve"))
    here = f"--interface {_LOOPBACK}"
    stage.chapter("Create a device with its own key, and start it. Port 0 means any free port.")
    made = await stage.run(f"handfast-device {device} init --name kitchen")
    daemon = await stage.start(
        f"handfast-device {device} run --allow-loopback --listen {_LOOPBACK}"
        f" {here} --port 0 --pairing-port 0"
    )
    await stage.until(daemon, "ready")

    stage.chapter(
        "Open the pairing window at the device. Clients on the network can see that it is open."
    )
    window = await stage.run(f"handfast-device {device} open --no-wait")
    await stage.run(f"handfast {anna} {here} discover --timeout 2s")

    if code := _CODE.search(window):
        stage.chapter(
            "Pair with the code that the device shows. It authenticates both sides to each other, "
            "so\na man in the middle is detected. On a terminal, the client asks for the code."
        )
        await stage.run(f"handfast {anna} {here} pair {_id(made)} --name anna --code {code[0]}")
    else:
        stage.chapter(
            "Pair with a label: the device shows no code, for the reason above. The label\n"
            "authenticates both sides to each other, so a man in the middle is detected."
        )
        label = _label(await stage.run(f"handfast-device {device} label"))
        await stage.run(f"handfast-device {device} open --no-wait --methods label")
        await stage.run(f"handfast {anna} {here} pair {shlex.quote(label)} --name anna")

    stage.chapter("From now on, both sides accept only the key that they have stored.")
    await stage.run(f"handfast {anna} get kitchen /hello")
    await stage.run(f"handfast {anna} observe kitchen /board --count 2")

    stage.chapter(
        "To add someone who is not on the LAN, send an invite. It works once and grants one role."
    )
    await stage.run(
        f"handfast {anna} -q invite kitchen mia --role guest --for 1h",
        into=f"handfast {mia} {here} pair -",
    )
    await stage.run(f"handfast {mia} get kitchen /hello")

    stage.chapter("A guest may not list the users, and a client that is not paired is refused.")
    await stage.run(f"handfast {mia} users kitchen", exit_code=7)
    await stage.run(f"handfast {anna} export", into=f"handfast {eve} import -")
    await stage.run(f"handfast {eve} get kitchen /hello", exit_code=10)
    await stage.run(f"handfast {anna} events kitchen --last 3")

    stage.chapter("Remove the user mia. This takes effect at once, also on an open observation.")
    watching = await stage.start(f"handfast {mia} observe kitchen /board")
    await stage.until(watching, "load")
    await stage.run(f"handfast {anna} users kitchen remove mia --yes")
    await stage.end(watching, exit_code=10)
    stage.chapter("End of the demonstration; its processes and its folder are removed.")


def _id(shown: str) -> str:
    """The device's id in what `init` prints; a name another device might have as well."""
    return shown.partition("id ")[2].split()[0]


def _label(shown: str) -> str:
    """The text of the label in what `label` prints."""
    found = _LABEL.search(shown)
    if found is None:
        raise PeerError("the device has printed no label")
    return found[0]
