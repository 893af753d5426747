"""The control socket: how the command line talks to the running daemon on the same machine.

A Unix socket of mode 0600 in the run folder; who connects must be root or the daemon's own user by
the kernel's word (SO_PEERCRED), whatever the file's mode became. One request per connection, JSON
lines:

    → {"verb": "open", "args": {"seconds": 120}}
    ← {"event": "pending", …}                       none or more, for verbs that wait
    ← {"ok": true, "result": {…}}
    ← {"ok": false, "exit": 3, "error": "…", "advice": "…"}

A client that goes away ends the verb it waits for. One that does not read stops the verb at its
next event, so that no more than one transport buffer waits for it. What it sends beside its request
is dropped.
"""

import asyncio
import json
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from device_app.errors import AppError, Exit, NoDaemon, exit_code
from iam.errors import IamError
from peer.errors import PeerError

_log = logging.getLogger("handfast.control")
_REQUEST_MAX = 64 * 1024
_ANSWER_MAX = 16 * 1024 * 1024  # all users with all keys are far below
_CREDENTIALS = struct.Struct("@iII")  # pid, uid, gid (unix(7), SO_PEERCRED)

Say = Callable[[Mapping[str, object]], Awaitable[None]]
"""Tell the client an event; waits while the client does not read."""
Verb = Callable[[Mapping[str, Any], Say], Awaitable[Mapping[str, object]]]


class ControlServer:
    """Serves verbs on the socket file, and removes the file at the end."""

    _server: asyncio.Server

    def __init__(self, path: Path, verbs: Mapping[str, Verb]) -> None:
        """For `start` only."""
        self._path = path
        self._verbs = verbs
        self._talks: set[asyncio.Task[None]] = set()

    @classmethod
    async def start(cls, path: Path, verbs: Mapping[str, Verb]) -> "ControlServer":
        """Listen. The caller holds the store's lock, so a socket that is there is a dead one's."""
        control = cls(path, verbs)
        control._server = await asyncio.start_unix_server(
            control.talk, sock=_listen(path), limit=_REQUEST_MAX
        )
        return control

    async def close(self) -> None:
        """End what is under way, and remove the socket file."""
        self._server.close()
        for task in tuple(self._talks):
            task.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)
        self._path.unlink(missing_ok=True)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one verb."""
        task = asyncio.current_task()
        assert task is not None
        self._talks.add(task)
        try:
            if _is_allowed(writer):
                await self._serve(reader, writer)
            else:
                _log.warning("somebody without the right to it tried the control socket")
            writer.close()
            await writer.wait_closed()
        except (ConnectionError, ValueError, asyncio.LimitOverrunError):
            _log.debug("a control connection broke off")
        except asyncio.CancelledError:
            # By `close` alone; the stream's own callback prints a cancelled task as a fault. What a
            # client has not read by now must not hold up the end of the daemon.
            writer.transport.abort()
        finally:
            self._talks.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        if not line:
            return
        verb = asyncio.ensure_future(self._answer(line, partial(_told, writer)))
        gone = asyncio.ensure_future(_closed(reader))
        try:
            await asyncio.wait({verb, gone}, return_when=asyncio.FIRST_COMPLETED)
            if verb.done():
                await _told(writer, verb.result())
            else:
                writer.transport.abort()  # nobody reads what is left
        finally:
            for task in (verb, gone):
                task.cancel()
            await asyncio.gather(verb, gone, return_exceptions=True)

    async def _answer(self, line: bytes, say: Say) -> Mapping[str, object]:
        try:
            request = json.loads(line)
            verb = self._verbs[request["verb"]]
            args = dict(request.get("args", {}))
        except (ValueError, KeyError, TypeError, RecursionError):
            return _failure("the daemon does not know this verb", "Are both of one version?", 2)
        try:
            return {"ok": True, "result": await verb(args, say)}
        except (AppError, PeerError, IamError) as error:
            return _failure(str(error), error.advice, exit_code(error))
        except ConnectionError:
            raise  # nobody is there to be told an answer
        except Exception:
            _log.exception("the verb %r failed", request["verb"])
            return _failure("the daemon failed at this", "Its log has the reason.", Exit.OTHER)


async def call(
    path: Path,
    verb: str,
    args: Mapping[str, object],
    *,
    on_event: Callable[[Mapping[str, Any]], None] = lambda _event: None,
) -> dict[str, Any]:
    """Ask the running daemon. Raises `NoDaemon`, or `AppError` with the daemon's words."""
    reader, writer = await _connect(path)
    try:
        await _told(writer, {"verb": verb, "args": dict(args)})
        while line := await reader.readline():
            answer = json.loads(line)
            if "event" in answer:
                on_event(answer)
            elif answer["ok"]:
                result: dict[str, Any] = answer["result"]
                return result
            else:
                raise AppError(answer["error"], advice=answer["advice"], code=Exit(answer["exit"]))
    except ConnectionError as error:
        raise AppError("the daemon has gone away", advice="Its log has the reason.") from error
    finally:
        writer.close()
    raise AppError("the daemon has gone away", advice="Its log has the reason.")


async def _connect(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        with _short(path) as name:
            return await asyncio.open_unix_connection(name, limit=_ANSWER_MAX)
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError) as error:
        raise NoDaemon(
            "no daemon is running here",
            advice="Start it: `handfast-device run` (with the same --home, if you gave one).",
            code=Exit.NOT_FOUND,
        ) from error
    except PermissionError as error:
        raise AppError(
            "the running daemon belongs to another user", advice="Ask as that user or as root."
        ) from error


def _listen(path: Path) -> socket.socket:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    umask = os.umask(0o177)  # 0600 from birth
    try:
        with _short(path) as name:
            listener.bind(name)
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(umask)
    return listener


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """A name for the path that fits the 108 bytes of a socket address, however deep it lies."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _is_allowed(writer: asyncio.StreamWriter) -> bool:
    raw = writer.get_extra_info("socket").getsockopt(
        socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
    )
    _pid, uid, _gid = _CREDENTIALS.unpack(raw)
    return uid in {0, os.getuid()}


async def _told(writer: asyncio.StreamWriter, value: Mapping[str, object]) -> None:
    _write(writer, value)
    await writer.drain()


async def _closed(reader: asyncio.StreamReader) -> None:
    """Return when the other side has closed; nothing of what it still sends is kept."""
    while await reader.read(_REQUEST_MAX):
        pass


def _write(writer: asyncio.StreamWriter, value: Mapping[str, object]) -> None:
    writer.write(json.dumps(value).encode() + b"\n")


def _failure(error: str, advice: str, code: int) -> dict[str, object]:
    return {"ok": False, "exit": int(code), "error": error, "advice": advice}
