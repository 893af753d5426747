"""The life of the process: signals, readiness, the question at the terminal, and beginning anew."""

import asyncio
import ctypes
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from device_app.app import App
from device_app.config import Settings
from device_app.console.verbs import ceremony_view, window_view
from device_app.errors import AppError
from device_app.notify import notify
from device_app.pairing.events import PairingEvent, PairingEventKind
from device_app.pairing.service import PairingService
from device_app.paths import Paths
from device_app.terminal import render
from device_app.terminal.questions import PersonAtTerminal
from device_app.terminal.render_pairing import closed_lines, code_lines, ended_lines, window_lines
from iam import files
from iam.errors import IamError
from peer.errors import PeerError
from peer.pairing.ceremony import State

_log = logging.getLogger("handfast.daemon")
_PR_SET_DUMPABLE = 4  # linux/prctl.h
Ready = Callable[[dict[str, Any]], None]


def protect(paths: Paths) -> None:
    """Before anything is opened: root becomes the owner of the state folder for good, and no other
    process of that user may read our memory, which holds the key (PR_SET_DUMPABLE, prctl(2)).

    Raises `AppError`.
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
        raise AppError(
            f"the daemon cannot run as the owner of {paths.state}: {error}",
            advice="Start it as that user, with a Python that this user can read.",
        ) from error


async def run(
    paths: Paths, settings: Settings, *, pair: bool, quiet: bool, on_ready: Ready
) -> None:
    """Run until SIGTERM or SIGINT; after a factory reset, again with the new identity. SIGHUP puts
    the policy files into force, or ends a daemon whose terminal has gone. `quiet`: on a terminal,
    nothing but questions."""
    stop = asyncio.Event()
    has_terminal = sys.stdin.isatty()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, _not_yet)
    while not stop.is_set():
        app = await App.start(paths, settings)
        loop.add_signal_handler(signal.SIGHUP, _hang_up, app, stop, has_terminal)
        try:
            await app.open_first_window(pair=pair)
            on_ready(app.status())
            _ask_in_place(app, quiet=quiet)
            notify(f"READY=1\nMAINPID={os.getpid()}", os.environ)
            await _either(stop, app.stopped)
            if stop.is_set():
                notify("STOPPING=1", os.environ)
        finally:
            loop.add_signal_handler(signal.SIGHUP, _not_yet)
            await app.close()
        if not app.begins_anew:
            return


def _not_yet() -> None:
    """SIGHUP while nothing is loaded, or not any more: it must not kill us."""


def _hang_up(app: App, stop: asyncio.Event, had_terminal: bool) -> None:
    """SIGHUP: somebody wants a reload; or, as it once meant, has closed the terminal."""
    if had_terminal and not sys.stdin.isatty():
        stop.set()
        return
    app.reload_soon()


async def _either(*events: asyncio.Event) -> None:
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()


def _ask_in_place(app: App, *, quiet: bool) -> None:
    """On a terminal, `run` shows and asks by itself; else `open`, `accept` and `refuse` do, and no
    code gets into anybody's log."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return

    async def decide(ceremony_id: str, accept: bool) -> None:
        try:
            app.pairing.ceremonies.decide(ceremony_id, accept=accept)
        except (PeerError, IamError) as error:
            _log.warning("%s", error)

    person = PersonAtTerminal(decide, app.identity.fingerprint)
    told: set[bytes] = set()  # the windows that are on the screen already

    def heard(news: PairingEvent) -> None:
        if news.kind is PairingEventKind.PENDING and news.ceremony is not None:
            person.pending(ceremony_view(app.pairing, news.ceremony))
        elif news.kind is PairingEventKind.DECIDED:
            person.over("accepted elsewhere")
        elif news.kind is PairingEventKind.ENDED:
            person.over("this question is void" if _has_failed(news) else "")
        if not quiet:
            _tell(_news_lines(app.pairing, news, told))

    app.pairing.events.subscribe(heard)
    if app.pairing.is_open:
        heard(PairingEvent(PairingEventKind.OPENED))


def _has_failed(news: PairingEvent) -> bool:
    return news.ceremony is not None and news.ceremony.state is not State.REGISTERED


def _news_lines(service: PairingService, news: PairingEvent, told: set[bytes]) -> list[str]:
    """What somebody at this terminal wants to know; a success is told by the log."""
    match news.kind:
        case PairingEventKind.OPENED if service.window is not None:
            lines = window_lines(window_view(service))
            is_longer = service.window.window_id in told
            told.add(service.window.window_id)
            return lines[:1] if is_longer else lines
        case PairingEventKind.DECIDED:
            return ["Accepted; the client's user is next."]
        case PairingEventKind.CODE:
            return code_lines(window_view(service))
        case PairingEventKind.ENDED if _has_failed(news) and news.ceremony and service.window:
            view = ceremony_view(service, news.ceremony)
            return ended_lines(view, failures=service.window.failures)
        case PairingEventKind.CLOSED:
            return closed_lines(news.reason)
        case _:
            return []


def _tell(lines: Sequence[str]) -> None:
    for line in lines:
        render.talk(line)
