"""How a command ends: the exit code of each error, and the error on stderr, as text or as JSON."""

import traceback

import click

from device_app.errors import AppError, exit_code, kind_of
from device_app.terminal import output
from iam.errors import IamError
from peer.errors import PeerError
from peer.terminal.exit_codes import ExitCode
from peer.terminal.streams import ReaderGone
from peer.terminal.usage_errors import usage_error


def report(error: BaseException, *, as_json: bool, is_verbose: bool) -> int:
    """Print the error that ended a command line to stderr, and return its exit code."""
    match error:
        case ReaderGone():
            return error.exit_code
        case AppError() | PeerError() | IamError():
            put_error(error, as_json=as_json)
            return exit_code(error)
        case click.Abort() | KeyboardInterrupt():
            _put("Interrupted", ExitCode.INTERRUPTED, "interrupted", "", as_json=as_json)
            return ExitCode.INTERRUPTED
        case click.ClickException():
            _put_usage(error, as_json=as_json)
            return error.exit_code
        case _:  # an error of this program
            pass
    if is_verbose:
        output.message("".join(traceback.format_exception(error)), end="")
    message = f"internal error: {type(error).__name__}: {error}"
    advice = "This is a bug in handfast. Run the command again with -v to get a traceback."
    _put("InternalError", ExitCode.OTHER, message, advice, as_json=as_json)
    return ExitCode.OTHER


def put_error(error: AppError | PeerError | IamError, *, as_json: bool, about: str = "") -> None:
    """Print an error to stderr; `about` begins its message."""
    _put(kind_of(error), exit_code(error), f"{about}{error}", error.advice, as_json=as_json)


def _put_usage(error: click.ClickException, *, as_json: bool) -> None:
    if as_json:
        output.json_error(usage_error(error))
    else:
        error.show()


def _put(kind: str, code: int, message: str, advice: str, *, as_json: bool) -> None:
    if as_json:
        output.json_error({"kind": kind, "exit": int(code), "message": message, "advice": advice})
    elif kind == "Interrupted":
        output.message(message)
    else:
        output.error(message, advice)
