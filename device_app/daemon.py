"""The daemon process: signals, readiness, questions at its terminal, and restarts after a reset."""

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from typing import assert_never

from device_app.app import App
from device_app.console.pairing_console import ceremony_view, window_view
from device_app.console.reloader import report_passed_over
from device_app.console.views import StatusAnswer
from device_app.errors import OwnerError
from device_app.pairing.events import PairingEvent, PairingEventKind
from device_app.pairing.service import PairingService
from device_app.process import collector
from device_app.process.log_destination import SYSTEMD_JOURNAL, own_log
from device_app.process.notify import ServiceManager
from device_app.process.watchdog import Watchdog
from device_app.settings.config import Settings
from device_app.settings.paths import Paths
from device_app.terminal import output
from device_app.terminal.questions import TerminalQuestions
from device_app.terminal.render_pairing import closed_lines, code_lines, failed_lines, window_lines
from iam import files
from iam.errors import IamError
from peer.errors import PeerError
from peer.pairing.ceremony import State

_log = logging.getLogger("handfast.daemon")
_PR_SET_DUMPABLE = 4  # linux/prctl.h
Ready = Callable[[StatusAnswer], None]


def protect(paths: Paths) -> None:
    """Drop root's rights for those of the owner of the state folder, and hide the memory.

    The memory holds the device's key, so other processes of that user may not read it
    (PR_SET_DUMPABLE, prctl(2)). Call this before anything is opened.

    Raises:
        OwnerError: the daemon cannot run as that owner.
    """
    try:
        if (owner := files.other_owner(paths.state)) is not None:
            if not paths.run.exists():
                paths.run.mkdir(mode=0o700)
                os.chown(paths.run, owner.st_uid, owner.st_gid, follow_symlinks=False)
            files.become_owner_of(paths.state)
            if not os.access(os.__file__, os.R_OK):
                raise PermissionError(f"that user cannot read this Python, {os.__file__}")
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")
    except OSError as error:
        raise OwnerError(
            f"the daemon cannot run as the owner of {paths.state}: {error.strerror or error}",
            advice="Start it as that user, with a Python that this user can read.",
        ) from error


async def run(
    paths: Paths, settings: Settings, *, pair: bool, quiet: bool, on_ready: Ready
) -> None:
    """Run until SIGTERM or SIGINT, and start again after a factory reset.

    SIGHUP reloads the policy files; if it comes because the terminal was closed, it ends the run.

    Args:
        paths: the folders of the daemon.
        settings: the configuration.
        pair: open a pairing window at the start.
        quiet: show nothing but questions on the terminal.
        on_ready: called with the status whenever the device is ready.
    """
    report_passed_over(paths)
    stop = asyncio.Event()
    manager = ServiceManager(os.environ)
    # Events belong where the log is: a daemon on a terminal leaves the journal alone.
    systemd_journal = SYSTEMD_JOURNAL if own_log()["kind"] == "journal" else None
    has_terminal = sys.stdin.isatty()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, _ignore_hang_up)
    while not stop.is_set():
        app = await App.start(paths, settings, manager=manager, systemd_journal=systemd_journal)
        loop.add_signal_handler(signal.SIGHUP, _hang_up, app, stop, has_terminal)
        try:
            await app.open_first_window(pair=pair)
            on_ready(app.status())
            _attend_pairing(app, quiet=quiet)
            summary = app.device_status.summary
            manager.ready(summary())
            watchdog = Watchdog(manager, is_serving=app.server.is_serving, summary=summary)
            with collector.settled(), contextlib.closing(watchdog), contextlib.ExitStack() as ends:
                report = partial(_report_change, manager, summary)
                ends.callback(app.pairing.events.subscribe(report))
                await _first_of(stop, app.was_reset)
            if stop.is_set():
                manager.stopping()
            else:
                manager.reloading()  # until the next device is ready
        finally:
            loop.add_signal_handler(signal.SIGHUP, _ignore_hang_up)
            await app.close()


def _report_change(
    manager: ServiceManager, summary: Callable[[], str], _event: PairingEvent
) -> None:
    """Keep the status true without a wait for the next turn of the watchdog."""
    manager.changed(summary())


def _ignore_hang_up() -> None:
    """Do nothing while there is no device to reload; by default SIGHUP ends the process."""


def _hang_up(app: App, stop: asyncio.Event, had_terminal: bool) -> None:
    if had_terminal and not sys.stdin.isatty():
        stop.set()
        return
    app.reloader.schedule()


async def _first_of(*events: asyncio.Event) -> None:
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()


def _attend_pairing(app: App, *, quiet: bool) -> None:
    """Show pairing on the terminal and ask there, if the daemon runs on one.

    Otherwise `open`, `accept` and `refuse` do, and no code is written to a log file.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return

    async def decide(ceremony_id: str, accept: bool) -> None:
        try:
            app.pairing.ceremonies.decide(ceremony_id, accept=accept)
        except (PeerError, IamError) as error:
            _log.warning("%s", error)

    questions = TerminalQuestions(decide, app.identity.fingerprint)
    shown_windows: set[bytes] = set()

    def show(event: PairingEvent) -> None:
        if event.kind is PairingEventKind.PENDING and event.ceremony is not None:
            questions.ask(ceremony_view(app.pairing, event.ceremony))
        elif event.kind is PairingEventKind.DECIDED:
            questions.end("accepted elsewhere")
        elif event.kind is PairingEventKind.ENDED:
            questions.end("this client is no longer waiting" if _has_failed(event) else "")
        if not quiet and (lines := _event_lines(app.pairing, event, shown_windows)):
            with questions.interrupted():
                for line in lines:
                    output.message(line)

    app.pairing.events.subscribe(show)
    if app.pairing.is_open:
        show(PairingEvent(PairingEventKind.OPENED))


def _has_failed(event: PairingEvent) -> bool:
    return event.ceremony is not None and event.ceremony.state is not State.REGISTERED


def _event_lines(
    service: PairingService, event: PairingEvent, shown_windows: set[bytes]
) -> list[str]:
    """Return the lines for an event; a success is in the log already."""
    window = service.window
    match event.kind:
        case PairingEventKind.OPENED if window is not None:
            lines = window_lines(window_view(service))
            is_extended = window.window_id in shown_windows
            shown_windows.add(window.window_id)
            return ["The window that is open was extended.", lines[0]] if is_extended else lines
        case PairingEventKind.DECIDED:
            return ["Accepted. Waiting for the client's user."]
        case PairingEventKind.CODE:
            return code_lines(window_view(service))
        case PairingEventKind.ENDED if _has_failed(event) and event.ceremony and window:
            view = ceremony_view(service, event.ceremony)
            return failed_lines(view, failures=window.failures)
        case PairingEventKind.CLOSED:
            return closed_lines(event.reason)
        case (
            PairingEventKind.OPENED
            | PairingEventKind.PENDING
            | PairingEventKind.ENDED
            | PairingEventKind.GONE
        ):
            return []
        case _:
            assert_never(event.kind)
