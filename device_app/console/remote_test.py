"""`remote test`: the self-test of remote reach, in the daemon or in the command."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from device_app.console.answers import SelfTestAnswer, SelfTestEvent
from device_app.console.control_messages import Tell
from device_app.errors import AppError
from device_app.remote.views import SelfTestStep
from device_app.settings.config import Settings

if TYPE_CHECKING:
    from device_app.remote.servers import RemoteServers

FAILED: Final = "failed"


def servers_of(settings: Settings, folder: Path) -> "RemoteServers":
    """Return the servers of the settings, with their passwords.

    Args:
        settings: the settings.
        folder: their folder, to which the files of passwords are relative.

    Raises:
        AppError: remote reach is off, or a password cannot be read.
    """
    if not settings.remote.is_on:
        raise AppError(
            "remote reach is off: the settings name no broker",
            advice="Set `brokers` below [remote] in device.toml, and start the daemon again.",
        )
    from device_app.remote.servers import RemoteServers  # noqa: PLC0415 - for this verb alone

    return RemoteServers.load(settings.remote, folder)


async def run(
    servers: "RemoteServers", services: Mapping[str, str], tell: Tell[SelfTestEvent]
) -> SelfTestAnswer:
    """Try each server and service, and tell each step. Raises `RemoteTrouble` without the extra."""
    from device_app.remote.self_test import self_test  # noqa: PLC0415 - for this verb alone

    steps: list[SelfTestStep] = []
    for warning in servers.warnings:
        what, _, advice = warning.partition(": ")
        advice = f"{advice[:1].upper()}{advice[1:]}."
        steps.append(
            {"step": "password", "target": "", "result": FAILED, "detail": what, "advice": advice}
        )
        await tell({"event": "step", "step": steps[-1]})
    async for step in self_test(servers, services=services):
        steps.append(step)
        await tell({"event": "step", "step": step})
    return {"passed": all(step["result"] != FAILED for step in steps), "steps": steps}
