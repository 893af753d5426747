"""Server of the control socket, over which `handfast-device` asks the running daemon.

The socket is a Unix socket in the run folder; `control_access` decides who may use it, and gives it
its mode. Each connection carries one request; `control_messages` has the format.

The verb of a client that disconnects is cancelled. If a client does not read, its verb waits, so at
most one transport buffer is held for it. Anything that a client sends after its request is dropped.
"""

import asyncio
import json
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from device_app.access import operators
from device_app.access.operators import Operator
from device_app.console.control_access import ConsoleUsers, Refused
from device_app.console.control_messages import (
    JsonObject,
    Tell,
    send,
    send_result,
    short_path,
)
from device_app.errors import AppError, exit_code, kind_of
from device_app.limits import CONTROL_REFUSAL_SECONDS, CONTROL_REQUEST_BYTES_MAX
from iam.errors import IamError
from peer.errors import PeerError
from peer.net.tasks import cancel_all
from peer.terminal.exit_codes import ExitCode

_log = logging.getLogger("handfast.control")

Handler = Callable[[JsonObject, Tell[Mapping[str, object]]], Awaitable[Mapping[str, object]]]
"""A verb: gets its arguments, may send events, and returns its answer."""


class ControlServer:
    """Serves verbs on the socket file, and removes the file when it closes."""

    _server: asyncio.Server

    def __init__(self, path: Path, handlers: Mapping[str, Handler], users: ConsoleUsers) -> None:
        """For `start` only."""
        self._path = path
        self._handlers = handlers
        self._users = users
        self._connections: set[asyncio.Task[None]] = set()

    @classmethod
    async def start(cls, path: Path, handlers: Mapping[str, Handler]) -> "ControlServer":
        """Listen on `path`.

        The caller holds the store's lock: a socket that exists already was left by a daemon that
        has exited, and is replaced.

        Raises:
            AppError: there can be no socket at `path`.
        """
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            users = ConsoleUsers.of_folder(path.parent)
            listener = _listen(path, users)
        except OSError as error:
            raise AppError(
                f"the control socket {path} cannot be created: {error.strerror or error}",
                advice="Check the owner and the mode of its folder.",
            ) from error
        server = cls(path, handlers, users)
        server._server = await asyncio.start_unix_server(
            server.serve, sock=listener, limit=CONTROL_REQUEST_BYTES_MAX
        )
        return server

    def stop_listening(self) -> None:
        """Take no new connection, and remove the socket file; verbs under way continue."""
        self._server.close()
        self._path.unlink(missing_ok=True)

    async def close(self) -> None:
        """Cancel the verbs under way, and remove the socket file."""
        self._server.close()
        await cancel_all(self._connections)
        self._path.unlink(missing_ok=True)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection: one request, its events, and its answer."""
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            try:
                operator = await self._users.admit(writer.get_extra_info("socket"))
            except Refused as error:
                _log.warning("refused a control connection: %s", error)
                await _refuse(reader, writer, error)
            else:
                await self._serve_allowed(reader, writer, operator)
            writer.close()
            await writer.wait_closed()
        except (ConnectionError, ValueError, asyncio.LimitOverrunError):
            _log.debug("a control connection broke off")
        except asyncio.CancelledError:
            # By `close` alone; the stream's own callback would report a cancelled task as a fault.
            # What a client has not read by now must not delay the end of the daemon.
            writer.transport.abort()
        finally:
            self._connections.discard(task)
            writer.close()

    async def _serve_allowed(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        operator: Operator | None,
    ) -> None:
        line = await reader.readline()
        if not line:
            return
        answering = asyncio.ensure_future(self._answer(line, writer, operator))
        disconnected = asyncio.ensure_future(_discard_all(reader))
        try:
            await asyncio.wait({answering, disconnected}, return_when=asyncio.FIRST_COMPLETED)
            if answering.done():
                answering.result()
            else:
                writer.transport.abort()  # the rest would not be read
        finally:
            await cancel_all((answering, disconnected))

    async def _answer(
        self, line: bytes, writer: asyncio.StreamWriter, operator: Operator | None
    ) -> None:
        """Run the verb for its operator, and send its answer or its failure."""
        try:
            request = json.loads(line)
            handler = self._handlers[request["verb"]]
            args: JsonObject = dict(request.get("args", {}))
        except (ValueError, KeyError, TypeError, RecursionError):
            advice = "Restart the daemon if handfast was updated since it was started."
            message = "the daemon does not know this verb"
            await send(writer, _failure(message, advice, ExitCode.USAGE, kind="UsageError"))
            return
        if operator is not None:
            _log.info("%s runs the verb %s", operator, request["verb"])
        try:
            with operators.acting(operator):
                result = await handler(args, partial(send, writer))
            await send_result(writer, result)
        except (AppError, PeerError, IamError) as error:
            code, kind = exit_code(error), kind_of(error)
            await send(writer, _failure(str(error), error.advice, code, kind=kind))
        except ConnectionError:
            raise  # no client is left to be answered
        except Exception:
            _log.exception("the verb %r failed", request["verb"])
            advice = "Read the daemon's log for the reason."
            message = "the daemon failed to do this"
            await send(writer, _failure(message, advice, ExitCode.OTHER, kind="InternalError"))


def _listen(path: Path, users: ConsoleUsers) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    umask = os.umask(users.umask)  # the file has its mode from its creation
    try:
        with short_path(path) as name:
            listener.bind(name)
            users.take_over(Path(name))  # no one can connect before `listen`
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(umask)
    return listener


async def _refuse(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, error: Refused
) -> None:
    """Answer a client that may not use the socket, once it has sent a request, which is not read.

    A client whose request meets a closed connection would not see the answer.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(CONTROL_REFUSAL_SECONDS):
            await reader.readline()
    await send(writer, _failure(str(error), error.advice, error.code, kind=kind_of(error)))


async def _discard_all(reader: asyncio.StreamReader) -> None:
    """Return when the client has disconnected; discard anything it still sends."""
    while await reader.read(CONTROL_REQUEST_BYTES_MAX):
        pass


def _failure(error: str, advice: str, code: ExitCode, *, kind: str) -> dict[str, object]:
    return {"ok": False, "exit": int(code), "error": error, "advice": advice, "kind": kind}
