"""Parts of `status`, and what `health` concludes from it."""

from collections.abc import Iterable
from itertools import islice

from device_app.access.clock import CLOCK_ADVICE, Clock
from device_app.console.store_recovery import recovery_advice
from device_app.console.views import (
    BoardView,
    ClockView,
    HealthAnswer,
    IdentityView,
    StatusAnswer,
    StoreView,
    UserSummary,
)
from device_app.limits import STATUS_USERS_MAX
from device_app.pairing.hardware import Hardware
from iam.model import State
from peer.identity import Fingerprint
from peer.terminal.exit_codes import ExitCode


def identity_view(name: str, fingerprint: Fingerprint) -> IdentityView:
    """The name, ID and fingerprint of a device."""
    return {"name": name, "id": fingerprint.device_id, "fingerprint": fingerprint.hex}


def users_summary(state: State) -> list[UserSummary]:
    """Name, role and number of keys of the users, of `STATUS_USERS_MAX` at most.

    Looks at no more users than it returns, so that `status` costs the same for any number of them.
    """
    users = islice(state.users.values(), STATUS_USERS_MAX)
    shown: Iterable[UserSummary] = (
        {"name": user.name, "role": user.role, "keys": len(user.keys)} for user in users
    )
    return sorted(shown, key=lambda user: user["name"])


def board_view(hardware: Hardware) -> BoardView:
    """The parts of the board, by its configuration."""
    return {"display": hardware.display, "label": hardware.label, "button": hardware.button}


def clock_view(clock: Clock) -> ClockView:
    """The device's time, whether the system's clock is believed, and what is doubtful."""
    return {"now": int(clock.now()), "known": clock.known, "trouble": clock.trouble}


def problems_of(status: StatusAnswer) -> list[str]:
    """The problems of a running device, with advice."""
    return found_problems(
        store=status["store"],
        policy_trouble=status["policy"]["trouble"],
        window_trouble=status["window"].get("trouble", ""),
        clock_trouble=status["clock"]["trouble"],
        is_listening=bool(status["addresses"]),
        remote_trouble=status["remote"]["trouble"],
        tunnel_trouble=status["tunnels"]["trouble"],
    )


def found_problems(
    *,
    store: StoreView,
    policy_trouble: str,
    window_trouble: str,
    clock_trouble: str,
    is_listening: bool,
    remote_trouble: str,
    tunnel_trouble: str,
) -> list[str]:
    """The problems of a running device, by the parts of its status that tell them."""
    found = []
    if store["trouble"]:
        found.append(store["trouble"])
    if (recovery := store["recovery"]) is not None:
        found.append(f"{recovery['why']}. {recovery_advice(recovery)}")
    if policy_trouble:
        found.append(policy_trouble)
    if window_trouble:
        found.append(window_trouble)
    if clock_trouble:
        found.append(f"{clock_trouble}. {CLOCK_ADVICE}")
    if not is_listening:
        found.append("the daemon does not listen on any address")
    if remote_trouble:
        found.append(remote_trouble)
    if tunnel_trouble:
        found.append(tunnel_trouble)
    return found


def health_of(status: StatusAnswer) -> tuple[HealthAnswer, ExitCode]:
    """The answer of `health`, and its exit code."""
    problems = problems_of(status)
    return {"healthy": not problems, "problems": problems}, (
        ExitCode.OTHER if problems else ExitCode.DONE
    )
