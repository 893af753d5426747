"""The errors of a client that gets no path, by what the device or the attempt says."""

from typing import assert_never

from peer.errors import Denied, PeerError, TimedOut, Unreachable
from peer.remote.effects import ClientStage
from peer.remote.messages import RefusalReason


class DeviceBusy(Unreachable):
    """The device answers others, or too many requests of this client. `seconds`: when to retry."""

    def __init__(self, seconds: int | None, *, advice: str) -> None:
        super().__init__("the device is busy with other clients", advice=advice)
        self.seconds = seconds


def refused(reason: RefusalReason, seconds: int | None) -> PeerError:
    """Return the error for a refusal; `seconds`: when to try again."""
    when = f"Try again in {seconds} s." if seconds else "Try again later."
    match reason:
        case RefusalReason.DENIED:
            return Denied(
                "the device's policy does not allow this client to connect from other networks",
                advice="Ask an owner of the device for the right Remote:Connect.",
            )
        case RefusalReason.BUSY:
            return DeviceBusy(seconds, advice=when)
        case RefusalReason.TOO_MANY:
            return Unreachable(
                "the device has too many remote connections",
                advice=f"Close one of this client's other connections. {when}",
            )
        case RefusalReason.NO_PATH:
            return Unreachable(
                "the device has no address for a path: no network, and none at a relay",
                advice="Test the remote reach of the device, at the device.",
            )
        case _:
            assert_never(reason)


def gave_up(step: ClientStage) -> PeerError:
    """Return the error for an attempt that ended in a stage."""
    match step:
        case ClientStage.NEW | ClientStage.REQUESTING:
            return Unreachable(
                "the device does not answer at the broker",
                advice="Check that the device is on, and has access to the Internet. It does not "
                "answer a client whose access was removed, either, or whose secret was replaced: a "
                "client gets its new one at an address of the device, for example on its network.",
            )
        case ClientStage.GATHERING:
            return Unreachable(
                "this machine has no address for a path: no network, and none at a relay",
                advice="Check the network of this machine, and test the relays at the device.",
            )
        case ClientStage.OFFERED:
            return TimedOut(
                "the device answered at the broker, and then no more", advice="Try again."
            )
        case ClientStage.CHECKING | ClientStage.ENDED:
            return no_carrier()
        case _:
            assert_never(step)


def progress(error: PeerError) -> int:
    """Order errors by how much they tell: the device's own answer tells most."""
    if isinstance(error, Denied):
        return 3
    if isinstance(error, TimedOut):
        return 2
    return 0 if hasattr(error, "reason") else 1


def no_carrier() -> Unreachable:
    """Return the error for a path without any carrier that works."""
    return Unreachable(
        "no packets get through between this machine and the device",
        advice="The routers or firewalls permit no direct path, and no relay can be used. Test the "
        "relays at the device.",
    )
