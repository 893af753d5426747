"""Errors of the daemon and its command line, and their exit codes."""

from pathlib import Path

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


_BY_REASON = {
    "not-found": ExitCode.NOT_FOUND,
    "window-closed": ExitCode.WINDOW_CLOSED,
    "denied": ExitCode.DENIED,
    "malformed": ExitCode.USAGE,
}


def exit_code(error: AppError | PeerError | IamError) -> ExitCode:
    """Return the exit code of an error at the command line."""
    if isinstance(error, AppError):
        return error.code
    if isinstance(error, Malformed):
        return ExitCode.USAGE  # at the command line, it is text that a person typed
    if isinstance(error, PeerError):
        return exit_code_of(error)
    return _BY_REASON.get(getattr(error, "reason", ""), ExitCode.OTHER)
