"""Errors of the daemon and its command line, and their exit codes."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from iam.errors import IamError
from peer.errors import Malformed, PeerError
from peer.terminal.exit_codes import ExitCode, exit_code_of

_HOME_ADVICE = "if you use --home, with the same --home"


class AppError(Exception):
    """An error that a person at the device can act on: what happened, and what to do next."""

    def __init__(self, message: str, *, advice: str = "", code: ExitCode = ExitCode.OTHER) -> None:
        super().__init__(message)
        self.advice = advice
        self.code = code


class DaemonError(AppError):
    """An error of the running daemon, in its words; `kind` is its class there."""

    def __init__(self, message: str, *, advice: str, code: ExitCode, kind: str) -> None:
        super().__init__(message, advice=advice, code=code)
        self.kind = kind


class ConfigError(AppError):
    """The configuration is not valid; the message names file and line."""


class ModuleError(AppError):
    """An application's module cannot be used; the message names it and the reason."""


class NoDevice(AppError):
    """There is no device in this state folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"there is no device in {folder}",
            advice=f"Create one with `handfast-device init`; {_HOME_ADVICE}.",
            code=ExitCode.NOT_FOUND,
        )


class NoDaemon(AppError):
    """A verb needs the running daemon, and none runs on this state folder."""

    def __init__(self) -> None:
        super().__init__(
            "no daemon is running here",
            advice=f"Start it with `handfast-device run`; {_HOME_ADVICE}.",
            code=ExitCode.NOT_FOUND,
        )


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
