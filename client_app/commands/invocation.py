"""One run of the command line: what verbs get from the shared options.

Modules that use the network are slow to import, so they are imported when a verb needs them.
"""

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from client_app.home import Home
from client_app.terminal.screen import Screen
from peer.errors import UsageError

if TYPE_CHECKING:
    from datetime import timedelta

    from client_app.client import Client
    from client_app.known_devices import DeviceBook
    from client_app.remote_settings import RemoteBook


@dataclass(slots=True)
class Invocation:
    """One run of the command line: the values of the shared options, and the screen."""

    screen: Screen
    json: bool = False
    quiet: bool = False
    verbose: int = 0
    folder: str = ""
    interfaces: tuple[str, ...] = ()
    via: str = ""
    """The routes to use, separated by commas; empty for all."""
    raw: bool = field(default=False)
    device: str = field(default="")
    """The DEVICE argument of a group of verbs."""
    timeout: float | None = None
    """The seconds that the verb may take, None for the limits of its steps."""
    began: float = field(default_factory=time.monotonic)
    options: dict[str, str] = field(default_factory=dict)
    """The options of the verb, by the names of the fields that they fill."""

    def seconds_left(self, default: float | None = None) -> float | None:
        """Return the seconds that are left of `--timeout`, or the default without that option."""
        if self.timeout is None:
            return default
        from client_app.deadline import SecondsLeft  # noqa: PLC0415 - only with this option

        left = self.began + self.timeout - time.monotonic()
        return SecondsLeft(max(0.0, left), stated=self.timeout)

    @property
    def home(self) -> Home:
        """The folder of this client's files."""
        return Home.at(self.folder)

    @property
    def book(self) -> "DeviceBook":
        """The file of paired devices; uses no network."""
        from client_app.known_devices import DeviceBook  # noqa: PLC0415 - see above

        return DeviceBook(self.home.devices)

    @property
    def remote_book(self) -> "RemoteBook":
        """The file of settings for reaching devices from other networks; uses no network."""
        from client_app.remote_settings import RemoteBook  # noqa: PLC0415 - see above

        return RemoteBook(self.home.remote)

    def only_device(self) -> str:
        """The alias of the only paired device. Raises `UsageError` if there is not exactly one."""
        aliases = [one.alias for one in self.book.all()]
        if not aliases:
            raise UsageError(
                "no DEVICE is given, and no devices are paired yet",
                advice="Run `handfast pair` to add one.",
            )
        if len(aliases) > 1:
            raise UsageError(
                f"this client is paired with {len(aliases)} devices, and no DEVICE is given",
                advice=f"Give one of them: {', '.join(aliases)}.",
            )
        return aliases[0]

    def knows(self, text: str) -> bool:
        """Whether a text is the alias, the ID or the fingerprint of a paired device."""
        return self.book.has(text)

    def draw_qr(self, text: str) -> None:
        """Print the QR code of a text to stderr, or say why it does not fit."""
        from peer.terminal import qr  # noqa: PLC0415 - only needed for QR codes

        try:
            self.screen.draw("\n".join(qr.stderr_lines(text)))
        except UsageError as error:
            self.screen.warn(f"{error}. {error.advice}")

    def client(self) -> "Client":
        """Create a client; use it in `async with`."""
        from client_app.client import Client  # noqa: PLC0415 - see above

        return Client(
            home=self.home.folder, interfaces=self.interfaces or None, via=self.via or None
        )

    async def agreed_to_times(
        self,
        *,
        begin: "float | timedelta | None" = None,
        end: "float | timedelta | None",
        yes: bool,
    ) -> None:
        """Ask for confirmation if a time has passed, by the clock of this machine.

        Raises as `agreed` does.
        """
        from client_app.clock import wall_clock  # noqa: PLC0415 - see above
        from peer.terminal.durations import past_times  # noqa: PLC0415 - see above

        if past := past_times(wall_clock(), begin=begin, end=end):
            await self.agreed(f"{past} Continue?", yes=yes)

    async def agreed(self, question: str, *, yes: bool) -> None:
        """Ask for confirmation, unless `--yes` is given.

        Raises `UsageError` without a terminal, `Declined` if the answer is no.
        """
        from client_app.errors import Declined  # noqa: PLC0415 - see above
        from peer.terminal.text import on_one_line  # noqa: PLC0415 - see above

        if yes:
            return
        if not self.screen.can_ask:
            raise UsageError(
                "this command needs a terminal to ask for confirmation",
                advice="Give --yes to run it without confirmation.",
            )
        if not await self.screen.ask(f"{on_one_line(question)} [yes/no]"):
            raise Declined("nothing was changed")
