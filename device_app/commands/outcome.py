"""How a command ends: the exit code of each error, and the error on stderr, as text or as JSON."""

import sys
import traceback
from collections.abc import Callable

import click

from device_app.errors import AppError, exit_code, kind_of
from device_app.terminal import output
from iam.errors import IamError
from peer.errors import PeerError
from peer.terminal.exit_codes import ExitCode
from peer.terminal.streams import ReaderGone
from peer.terminal.usage_errors import usage_error


def outcome(run: Callable[[], object], *, as_json: bool, is_verbose: bool) -> int:
    """Run a command line, and return its exit code. Every error is printed to stderr."""
    try:
        code = run()
        sys.stdout.flush()
    except ReaderGone as error:
        return error.exit_code
    except (AppError, PeerError, IamError) as error:
        put_error(error, as_json=as_json)
        return exit_code(error)
    except (click.Abort, KeyboardInterrupt):
        _put("Interrupted", ExitCode.INTERRUPTED, "interrupted", "", as_json=as_json)
        return ExitCode.INTERRUPTED
    except click.ClickException as error:
        _put_usage(error, as_json=as_json)
        return error.exit_code
    except Exception as error:
        if is_verbose:
            output.message("".join(traceback.format_exception(error)), end="")
        message = f"internal error: {type(error).__name__}: {error}"
        advice = "This is a bug in handfast. Run the command again with -v to get a traceback."
        _put("InternalError", ExitCode.OTHER, message, advice, as_json=as_json)
        return ExitCode.OTHER
    return code if isinstance(code, int) else ExitCode.DONE


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
