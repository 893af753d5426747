"""Client of the control socket: how a command asks the running daemon on the same machine."""

import asyncio
import json
import os
import pwd
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from device_app.console import arguments, running
from device_app.console.console import Console
from device_app.console.control_messages import (
    JsonObject,
    Tell,
    send,
    short_path,
)
from device_app.errors import AppError, DaemonError, DaemonExited, NoDaemon
from device_app.limits import CONTROL_LINE_BYTES_MAX
from device_app.settings.paths import SERVICE_GROUP, SERVICE_RUN
from iam import files
from peer.terminal.exit_codes import ExitCode

OnRows = Callable[[list[Any]], None]
"""Gets the rows of a long list, some at a time."""

_P = ParamSpec("_P")
_AnswerT = TypeVar("_AnswerT")
_EventT = TypeVar("_EventT", bound=Mapping[str, object])


class ControlClient:
    """Asks the running daemon to do verbs of `Console`. Methods raise the errors of `call`.

    If no daemon listens on the socket at `path`, the one that runs on the store `store` is asked:
    it may have been started with another folder for its socket. If there is none either, the system
    service at the socket `service` is asked.
    """

    def __init__(
        self, path: Path, *, store: Path | None = None, service: Path | None = None
    ) -> None:
        self._path = path
        self._store = store
        self._service = service

    async def _call(
        self,
        verb: Callable[..., object],
        args: Mapping[str, object],
        on_event: Callable[[JsonObject], None] = lambda _event: None,
        on_rows: OnRows | None = None,
    ) -> JsonObject:
        name, encoded = _name_of(verb), arguments.encode(args)
        try:
            return await call(self._path, name, encoded, on_event=on_event, on_rows=on_rows)
        except NoDaemon:
            daemon = running.daemon_of(self._store) if self._store is not None else None
            if self._store is None or daemon is None:
                if self._service is None:
                    raise
                return await call(self._service, name, encoded, on_event=on_event, on_rows=on_rows)
        folder = self._store.parent
        try:
            return await call(
                daemon.socket,
                name,
                encoded,
                on_event=on_event,
                on_rows=on_rows,
                as_owner_of=folder,
            )
        except NoDaemon as error:
            raise running.unreachable(daemon) from error

    async def ask(
        self,
        verb: Callable[Concatenate[Console, _P], Awaitable[_AnswerT]],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _AnswerT:
        """Do a verb that needs the daemon, and return its answer."""
        assert not args, "verbs take keyword arguments"
        return cast(_AnswerT, await self._call(verb, kwargs))

    async def decide(self, ceremony_id: str, *, accept: bool) -> tuple[str, str]:
        """Accept or refuse a client. Return the text and the advice of an error, or empty texts."""
        try:
            await self.ask(Console.accept if accept else Console.refuse, id=ceremony_id)
        except AppError as error:
            return str(error), error.advice
        return "", ""

    async def do(
        self,
        verb: Callable[Concatenate[Console, _P], _AnswerT],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _AnswerT:
        """Do a verb that also works without a daemon, and return its answer."""
        assert not args, "verbs take keyword arguments"
        return cast(_AnswerT, await self._call(verb, kwargs))

    async def list_rows(
        self,
        verb: Callable[Concatenate[Console, _P], Mapping[str, object]],
        field: str,
        on_rows: OnRows,
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> None:
        """Do such a verb, whose answer has one long list `field`; its rows are not kept."""
        assert not args, "verbs take keyword arguments"
        answer = await self._call(verb, kwargs, on_rows=on_rows)
        on_rows(answer[field])

    async def follow(
        self,
        verb: Callable[Concatenate[Console, Tell[_EventT], _P], Awaitable[_AnswerT]],
        on_event: Callable[[_EventT], None],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _AnswerT:
        """Do a verb that tells events, and return its answer."""
        assert not args, "verbs take keyword arguments"

        def heard(event: JsonObject) -> None:
            on_event(cast(_EventT, event))

        return cast(_AnswerT, await self._call(verb, kwargs, heard))


def _name_of(verb: Callable[..., object]) -> str:
    return verb.__name__.replace("_", "-")


async def call(
    path: Path,
    verb: str,
    args: Mapping[str, object],
    *,
    on_event: Callable[[JsonObject], None] = lambda _event: None,
    on_rows: OnRows | None = None,
    as_owner_of: Path | None = None,
) -> JsonObject:
    """Ask the running daemon, and return its answer.

    Args:
        path: the control socket.
        verb: the name of the verb on the socket, for example `users-add`.
        args: its arguments, as JSON has them.
        on_event: called with each event of a verb that waits.
        on_rows: called with the rows that are sent ahead of a long answer, which then has only the
            last of them; by default they are put together.
        as_owner_of: root connects as the owner of this folder, who named the path: it leads to no
            socket that this user could not open.

    Raises:
        NoDaemon: no daemon listens on this socket.
        AppError: the daemon refused or failed (in its words, with its exit code).
        DaemonExited: the daemon has exited.
    """
    with nullcontext() if as_owner_of is None else files.acting_as_owner_of(as_owner_of):
        reader, writer = await _connect(path)
    rows: dict[str, list[object]] = {}
    try:
        await send(writer, {"verb": verb, "args": dict(args)})
        while line := await reader.readline():
            message: JsonObject = json.loads(line)
            if message.get("event") == "rows" and on_rows is not None:
                on_rows(message["rows"])
            elif message.get("event") == "rows":
                rows.setdefault(message["field"], []).extend(message["rows"])
            elif "event" in message:
                on_event(message)
            elif message["ok"]:
                result: JsonObject = message["result"]
                return result | {name: [*ahead, *result[name]] for name, ahead in rows.items()}
            else:
                raise DaemonError(
                    message["error"],
                    advice=message["advice"],
                    code=ExitCode(message["exit"]),
                    kind=message.get("kind", DaemonError.__name__),
                )
    except ConnectionError as error:
        raise DaemonExited from error
    finally:
        writer.close()
    raise DaemonExited


async def _connect(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        with short_path(path) as name:
            return await asyncio.open_unix_connection(name, limit=CONTROL_LINE_BYTES_MAX)
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError) as error:
        raise NoDaemon from error
    except PermissionError as error:
        if path.parent == SERVICE_RUN:
            raise AppError(
                f"only root and the group {SERVICE_GROUP} may use the device of this machine",
                advice=f"Run `sudo usermod -aG {SERVICE_GROUP} {_user_name()}` and log in again. "
                "Or run this with sudo.",
                code=ExitCode.DENIED,
            ) from error
        raise AppError(
            "the running daemon belongs to another user",
            advice="Run this as that user or as root.",
            code=ExitCode.DENIED,
        ) from error


def _user_name() -> str:
    """The name of the account that runs this command, for an advice."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return "NAME"
