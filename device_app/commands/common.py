"""The values of the shared options, and how a verb reaches the device."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import click

from device_app.commands.outcome import put_error
from device_app.console import offline, running
from device_app.console.answers import FingerprintAnswer
from device_app.console.console import Console
from device_app.console.control_client import ControlClient, OnRows
from device_app.console.control_messages import Tell
from device_app.console.offline import OfflineConsole
from device_app.console.views import StatusAnswer
from device_app.errors import AppError, NoDaemon, NoDevice
from device_app.limits import (
    DAEMON_START_POLL_SECONDS,
    DAEMON_START_SECONDS,
    USERS_PAGE_DEFAULT,
)
from device_app.settings.paths import SERVICE_STATE, Paths
from device_app.terminal import output
from device_app.terminal.reader_watch import while_read
from iam.errors import IamError, StoreBusy
from peer.errors import PeerError
from peer.identity import Fingerprint
from peer.terminal import prompts
from peer.terminal.durations import past_times
from peer.terminal.wire_words import in_typed_words, options_by_field

_P = ParamSpec("_P")
_AnswerT = TypeVar("_AnswerT")
F = TypeVar("F", bound=Callable[..., object] | click.Command)
_EventT = TypeVar("_EventT", bound=Mapping[str, object])


@dataclass(slots=True)
class CommandLine:
    """The values of the shared options, and the device that they name."""

    paths: Paths
    as_json: bool
    verbosity: int
    offline: OfflineConsole = field(init=False)

    def __post_init__(self) -> None:
        self.offline = OfflineConsole(self.paths, warn=output.warning)

    @property
    def client(self) -> ControlClient:
        """The client of the daemon's control socket."""
        return ControlClient(
            self.paths.socket, store=self.paths.store, service=self.paths.service_socket
        )

    def ask(
        self,
        verb: Callable[Concatenate[Console, _P], Awaitable[_AnswerT]],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _AnswerT:
        """Do a verb that needs the running daemon. Raises `NoDaemon` without one."""
        return self._while_starting(lambda: asyncio.run(self.client.ask(verb, *args, **kwargs)))

    def follow(
        self,
        verb: Callable[Concatenate[Console, Tell[_EventT], _P], Awaitable[_AnswerT]],
        on_event: Callable[[_EventT], None],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _AnswerT:
        """Do a verb that tells events, until it answers.

        Raises:
            NoDaemon: no daemon runs.
            ReaderGone: the reader of standard output has closed it.
        """
        return self._while_starting(
            lambda: asyncio.run(while_read(self.client.follow(verb, on_event, *args, **kwargs)))
        )

    def do(
        self,
        verb: Callable[Concatenate[Console, _P], _AnswerT],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _AnswerT:
        """Do a verb: the running daemon does it, or without one, this process on the files."""

        def attempt() -> _AnswerT:
            try:
                return asyncio.run(self.client.do(verb, *args, **kwargs))
            except NoDaemon:
                if running.is_between(self.paths.store):
                    raise
                return self.offline.run(verb, *args, **kwargs)

        return self._while_starting(attempt)

    def list_rows(
        self,
        verb: Callable[Concatenate[Console, _P], Mapping[str, object]],
        field: str,
        on_rows: OnRows,
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> None:
        """Do a verb as `do`; pass on the rows of its list `field` as they come."""

        def attempt() -> None:
            try:
                asyncio.run(self.client.list_rows(verb, field, on_rows, *args, **kwargs))
            except NoDaemon:
                if running.is_between(self.paths.store):
                    raise
                answer = self.offline.run(verb, *args, **kwargs)
                rows = answer[field]
                assert isinstance(rows, Iterable)
                left = iter(rows)
                while page := list(islice(left, USERS_PAGE_DEFAULT)):
                    on_rows(page)

        self._while_starting(attempt)

    def _while_starting(self, attempt: Callable[[], _AnswerT]) -> _AnswerT:
        """Try again while another process holds the store: a daemon that starts, or a command.

        A daemon starts again after `restore` and `reset`, and the next command of a script follows
        at once.
        """
        until = time.monotonic() + DAEMON_START_SECONDS
        while True:
            try:
                return attempt()
            except (NoDaemon, StoreBusy):
                if time.monotonic() > until or not running.is_expected(self.paths.store):
                    raise
            time.sleep(DAEMON_START_POLL_SECONDS)

    def identity(self) -> FingerprintAnswer:
        """Return the device's name and fingerprint: from its files, or from the system service."""
        if self.paths.service_socket is None:
            return offline.fingerprint(self.paths)
        status = self.do(Console.status)
        found = Fingerprint.parse(status["fingerprint"])
        return {
            "name": status["name"],
            "id": status["id"],
            "fingerprint": found.hex,
            "grouped": found.grouped,
            "ni": found.ni,
        }

    def note_own_files(self) -> None:
        """Say that a verb is about the user's own files, if the device is a system service."""
        if self.paths.service_socket is not None and has_service():
            self.message(
                f"This is about a device of your user, in {self.paths.state}. For the device of "
                "this machine, which is a service, use sudo."
            )

    def require_own_files(self) -> None:
        """Raise `NoDevice` if the device is a system service: its files are not this user's."""
        if self.paths.service_socket is not None and has_service():
            raise NoDevice(self.paths.state)

    def daemon_status(self) -> StatusAnswer:
        """Return the status of the running daemon. Raises `NoDaemon` without one."""
        return asyncio.run(self.client.do(Console.status))

    def now(self) -> float:
        """Return the device's time, by which access begins and ends: seconds since 1970."""
        return self.do(Console.clock)["now"]

    def show(self, answer: Mapping[str, object], lines: Callable[[], Sequence[str]]) -> None:
        """Print an answer: as JSON with --json, else as lines."""
        if self.as_json:
            output.json_line(answer)
        else:
            output.lines(lines())

    def message(self, text: str) -> None:
        """Print a message to stderr, unless --quiet is given."""
        if self.verbosity >= 0:
            output.message(text)

    def confirm_times(
        self,
        *,
        begin: float | timedelta | None = None,
        end: float | timedelta | None,
        yes: bool,
    ) -> None:
        """Ask for confirmation if a time has passed, by the device's time; see `confirm`."""
        if (begin or end) and (past := past_times(self.now(), begin=begin, end=end)):
            self.confirm(past, yes=yes)

    def report(self, error: AppError | PeerError | IamError, *, about: str = "") -> None:
        """Print an error to stderr, and continue; `about` begins its message."""
        put_error(error, as_json=self.as_json, about=about)

    @staticmethod
    def confirm(consequence: str, *, yes: bool) -> None:
        """Ask for confirmation, unless --yes is given.

        Raises:
            AppError: the person declined.
            click.UsageError: there is no terminal to ask.
        """
        if yes:
            return
        if not output.can_confirm():
            raise click.UsageError("This needs a terminal to ask for confirmation. Or give --yes.")
        output.message(consequence)
        if not prompts.ask_yes_or_no("Continue?"):
            raise AppError("nothing was changed")


def yes_option(function: F) -> F:
    """--yes: do not ask for confirmation."""
    return click.option("--yes", is_flag=True, help="Do not ask for confirmation.")(function)


def use_options(ctx: click.Context) -> None:
    """Combine the shared options given here with those given before the verb."""
    home: Path | None = ctx.params.pop("home")
    as_json, quiet = ctx.params.pop("as_json"), ctx.params.pop("quiet")
    verbosity = -1 if quiet else ctx.params.pop("verbose")
    ctx.params.pop("verbose", None)
    before = ctx.find_object(CommandLine)
    if before is not None:
        as_json = as_json or before.as_json
        verbosity = verbosity or before.verbosity
    if before is None or home is not None:
        paths = Paths.of(home, os.environ, root=os.geteuid() == 0)
    else:
        paths = before.paths
    ctx.obj = CommandLine(paths, as_json, verbosity)


def has_service() -> bool:
    """Return whether the device of this machine is a system service, running or not."""
    return SERVICE_STATE.is_dir()


def name_service(error: AppError | PeerError, paths: Paths) -> None:
    """Say in an error that there is no device of the user that the machine has one."""
    if paths.service_socket is None or not has_service():
        return
    if isinstance(error, NoDaemon):
        error.advice = (
            "Start the service of this machine: `sudo systemctl start handfast-device`. For a "
            "device of your own, run `handfast-device init` first."
        )
    elif isinstance(error, NoDevice):
        error.advice = (
            "That is a folder of your user. The device of this machine is a service with files of "
            "its own: use sudo. For a device of your own, run `handfast-device init` first."
        )


def name_options(error: AppError | PeerError, params: Sequence[click.Parameter]) -> None:
    """Name the options of a command in its error, instead of the fields that they fill."""
    message, advice = in_typed_words(str(error), error.advice, options_by_field(params))
    if message != str(error):
        error.args, error.advice = (message,), advice
