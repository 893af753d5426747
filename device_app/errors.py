"""Errors of the daemon and its command line, and the exit codes."""

from iam.errors import IamError
from peer.errors import Malformed, PeerError
from peer.terminal.exit_codes import ExitCode, exit_code_of

Exit = ExitCode


class AppError(Exception):
    """An error for a person at the device: the message, advice, and the exit code."""

    def __init__(self, message: str, *, advice: str = "", code: Exit = Exit.OTHER) -> None:
        super().__init__(message)
        self.advice = advice
        self.code = code


class ConfigError(AppError):
    """The configuration is not valid; the message names file and line."""


class ModuleError(AppError):
    """A module with resources cannot be used; the message names it and the reason."""


class NoDaemon(AppError):
    """A verb needs the running daemon, and no daemon runs on this state folder."""

    def __init__(self) -> None:
        super().__init__(
            "no daemon is running here",
            advice="Start it with `handfast-device run`; if you use --home, with the same --home.",
            code=Exit.NOT_FOUND,
        )


_BY_REASON = {
    "not-found": Exit.NOT_FOUND,
    "window-closed": Exit.WINDOW_CLOSED,
    "denied": Exit.DENIED,
    "malformed": Exit.USAGE,
}


def exit_code(error: AppError | PeerError | IamError) -> Exit:
    """Return the exit code of an error at the command line."""
    if isinstance(error, AppError):
        return error.code
    if isinstance(error, Malformed):
        return Exit.USAGE  # here it is text that a person typed
    if isinstance(error, PeerError):
        return exit_code_of(error)
    return _BY_REASON.get(getattr(error, "reason", ""), Exit.OTHER)
