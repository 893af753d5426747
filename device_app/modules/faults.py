"""The place of a fault in an application's code, in words: file, line, and the error.

A traceback has many frames of handfast and its libraries; the author of a module looks for the line
that is theirs.
"""

import traceback
from pathlib import Path
from types import TracebackType
from typing import Final

from device_app.limits import FAULT_CHARACTERS
from peer.terminal.text import on_one_line

_NO_FILES: Final = ("<frozen", "<string>")


def described(error: BaseException, own: Path | None) -> str:
    """Return "FILE, line N: ERROR" for an exception.

    Args:
        error: the exception.
        own: the file of the module, or the folder of all modules. The line is the last one below
            it that the exception passed through, or else the last one of any file.
    """
    place = place_of(error, own)
    return f"{place}: {_named(error)}" if place else _named(error)


def place_of(error: BaseException, own: Path | None) -> str:
    """Return "FILE, line N" for an exception, or "" if it has no traceback."""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f"{error.filename}, line {error.lineno}"
    frames = [
        (frame.filename, frame.lineno)
        for frame in _frames(error.__traceback__)
        if not frame.filename.startswith(_NO_FILES)
    ]
    theirs = [one for one in frames if own is not None and _is_below(Path(one[0]), own)]
    if not (found := theirs or frames):
        return ""
    filename, line = found[-1]
    return f"{filename}, line {line}"


def _frames(at: TracebackType | None) -> traceback.StackSummary:
    return traceback.StackSummary.extract(traceback.walk_tb(at), lookup_lines=False)


def _is_below(path: Path, own: Path) -> bool:
    return path == own or own in path.parents


def _named(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg}"
    if isinstance(error, SystemExit):
        status = "" if error.code is None else f" with {error.code!r}"
        return f"it ends the program (sys.exit{status}); a module must not"
    text = on_one_line(str(error))[:FAULT_CHARACTERS]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
