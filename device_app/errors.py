"""Errors of the daemon and its command line, and their exit codes."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from iam.errors import IamError, StoreTooNew
from peer.errors import IdentityError, Malformed, PeerError
from peer.terminal.exit_codes import ExitCode, exit_code_of

_HOME_ADVICE = "if you use --home, with the same --home"
#: The advice about a file that the system does not let this user read.
READ_ADVICE: Final = "Check that it is a regular file, and that this user may read it."


class AppError(Exception):
    """An error that a person at the device can act on: what happened, and what to do next."""

    def __init__(self, message: str, *, advice: str = "", code: ExitCode = ExitCode.OTHER) -> None:
        super().__init__(message)
        self.advice = advice
        self.code = code


def unreadable(path: Path | str, error: OSError) -> AppError:
    """Return the error about a file that was named on the command line and cannot be read."""
    message = f"{path} cannot be read: {error.strerror}"
    return AppError(message, advice=READ_ADVICE, code=ExitCode.USAGE)


def unwritable(path: Path, error: OSError) -> AppError:
    """Return the error about a file that cannot be written."""
    return AppError(
        f"{path} cannot be written: {error.strerror}",
        advice="Check the permissions of its folder, and the space on its disk.",
    )


class DaemonError(AppError):
    """An error of the running daemon, in its words; `kind` is its class there."""

    def __init__(self, message: str, *, advice: str, code: ExitCode, kind: str) -> None:
        super().__init__(message, advice=advice, code=code)
        self.kind = kind


class ConfigError(AppError):
    """The configuration is not valid; the message names file and line."""


class ModuleError(AppError):
    """An application's module cannot be used; the message names it and the reason."""


class OwnerError(AppError):
    """The daemon cannot run as the user to whom the state folder belongs."""


class NoStart(DaemonError):
    """`run` cannot start before a person has corrected something; `kind` is the class of the cause.

    Its exit code tells a service manager not to try again (`RestartPreventExitStatus=2`).
    """

    def __init__(self, cause: AppError | PeerError | IamError) -> None:
        super().__init__(
            str(cause), advice=cause.advice, code=ExitCode.USAGE, kind=type(cause).__name__
        )


#: The errors of a start that another start would repeat: settings and policies, a module, the key,
#: a store of a later version, and a user who is not the owner. All others may pass by themselves: a
#: port or a store that is in use, an address that is not there yet, a full disk.
RESTART_IS_USELESS: Final = (ConfigError, ModuleError, OwnerError, IdentityError, StoreTooNew)


class NoDevice(AppError):
    """There is no device in this state folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"there is no device in {folder}",
            advice=f"Create one with `handfast-device init`; {_HOME_ADVICE}.",
            code=ExitCode.NOT_FOUND,
        )


class DamagedBackup(AppError):
    """A backup that was changed, or that is none."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"{path} cannot be restored: {why}",
            advice="Use another backup. Nothing was changed.",
            code=ExitCode.WRONG_CODE,
        )


class NoDaemon(AppError):
    """A verb needs the running daemon, and none runs on this state folder."""

    def __init__(self) -> None:
        super().__init__(
            "no daemon is running here",
            advice=f"Start it with `handfast-device run`; {_HOME_ADVICE}.",
            code=ExitCode.NOT_FOUND,
        )


class DaemonExited(AppError):
    """The daemon ended before it answered."""

    def __init__(self) -> None:
        super().__init__(
            "the daemon exited before it answered",
            advice="`handfast-device logs` shows the reason.",
        )


class DaemonUnreachable(AppError):
    """A daemon runs, but its control socket is gone: it was removed, or the daemon is ending."""


#: The exit code of an error of `iam` by its reason: that of `handfast` for the same answer.
_BY_REASON: Final[Mapping[str, ExitCode]] = MappingProxyType(
    {
        "denied": ExitCode.DENIED,
        "invite": ExitCode.WRONG_CODE,
        "last-owner": ExitCode.REQUEST,
        "limit": ExitCode.REQUEST,
        "malformed": ExitCode.USAGE,
        "not-found": ExitCode.REQUEST,
        "taken": ExitCode.REQUEST,
        "too-many": ExitCode.REQUEST,
    }
)


def kind_of(error: AppError | PeerError | IamError) -> str:
    """Return the name of the class of an error, as `--json` has it."""
    return error.kind if isinstance(error, DaemonError) else type(error).__name__


def exit_code(error: AppError | PeerError | IamError) -> ExitCode:
    """Return the exit code of an error at the command line."""
    if isinstance(error, AppError):
        return error.code
    if isinstance(error, Malformed):
        return ExitCode.USAGE  # at the command line, it is text that a person typed
    if isinstance(error, PeerError):
        return exit_code_of(error)
    return _BY_REASON.get(getattr(error, "reason", ""), ExitCode.OTHER)
