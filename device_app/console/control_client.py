"""Client of the control socket: how a command asks the running daemon on the same machine."""

import asyncio
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from device_app.console.control_messages import LINE_BYTES_MAX, JsonObject, send, short_path
from device_app.errors import AppError, Exit, NoDaemon

_LOG_ADVICE = "Read the daemon's log for the reason."


async def call(
    path: Path,
    verb: str,
    args: Mapping[str, object],
    *,
    on_event: Callable[[JsonObject], None] = lambda _event: None,
) -> JsonObject:
    """Ask the running daemon, and return its answer.

    Args:
        path: the control socket.
        verb: the name of the verb on the socket, for example `users-add`.
        args: its arguments, as JSON has them.
        on_event: called with each event of a verb that waits.

    Raises:
        NoDaemon: no daemon listens on this socket.
        AppError: the daemon refused or failed (in its words, with its exit code), or has exited.
    """
    reader, writer = await _connect(path)
    rows: dict[str, list[object]] = {}
    try:
        await send(writer, {"verb": verb, "args": dict(args)})
        while line := await reader.readline():
            message: JsonObject = json.loads(line)
            if message.get("event") == "rows":
                rows.setdefault(message["field"], []).extend(message["rows"])
            elif "event" in message:
                on_event(message)
            elif message["ok"]:
                result: JsonObject = message["result"]
                return result | {name: [*ahead, *result[name]] for name, ahead in rows.items()}
            else:
                code = Exit(message["exit"])
                raise AppError(message["error"], advice=message["advice"], code=code)
    except ConnectionError as error:
        raise AppError("the daemon exited before it answered", advice=_LOG_ADVICE) from error
    finally:
        writer.close()
    raise AppError("the daemon exited before it answered", advice=_LOG_ADVICE)


async def _connect(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        with short_path(path) as name:
            return await asyncio.open_unix_connection(name, limit=LINE_BYTES_MAX)
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError) as error:
        raise NoDaemon from error
    except PermissionError as error:
        raise AppError(
            "the running daemon belongs to another user", advice="Run this as that user or as root."
        ) from error
