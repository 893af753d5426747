"""The life of the process: signals, readiness, the question at the terminal, and beginning anew."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from device_app import render
from device_app.app import App
from device_app.config import Settings
from device_app.confirm.terminal import PersonAtTerminal
from device_app.errors import ConfigError
from device_app.notify import notify
from device_app.pairing_terms import News, NewsKind
from device_app.places import Places
from device_app.verbs import ceremony_view, window_view
from iam.errors import IamError
from peer.errors import PeerError

_log = logging.getLogger("handfast.daemon")
Ready = Callable[[dict[str, Any]], None]


async def run(places: Places, settings: Settings, *, pair: bool, on_ready: Ready) -> None:
    """Run until SIGTERM or SIGINT; after a factory reset, again with the new identity. SIGHUP puts
    the policy files into force."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, _not_yet)
    while not stop.is_set():
        app = await App.start(places, settings)
        loop.add_signal_handler(signal.SIGHUP, _reload, app)
        try:
            await app.open_first_window(pair=pair)
            _ask_in_place(app)
            on_ready(app.status())
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


def _reload(app: App) -> None:
    with contextlib.suppress(ConfigError):  # told in the log, in `status` and in the trail
        app.policies.reload()


async def _either(*events: asyncio.Event) -> None:
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()


def _ask_in_place(app: App) -> None:
    """On a terminal, `run` asks by itself; otherwise `accept` and `refuse` do."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return

    async def decide(ceremony_id: str, accept: bool) -> None:
        try:
            app.door.decide(ceremony_id, accept=accept)
        except (PeerError, IamError) as error:
            _log.warning("%s", error)

    person = PersonAtTerminal(decide, app.identity.fingerprint)

    def heard(news: News) -> None:
        if news.kind is NewsKind.PENDING and news.ceremony is not None:
            person.pending(ceremony_view(app.door, news.ceremony))
        elif news.kind in {NewsKind.OPENED, NewsKind.CODE}:
            for line in render.code_lines(window_view(app.door)):
                render.talk(line)
        elif news.kind is NewsKind.DECIDED:
            person.over("answered; the client is next")
        elif news.kind is NewsKind.ENDED and news.ceremony is not None:
            person.over(f"this pairing is over: {news.ceremony.state.value.lower()}")

    app.door.watch(heard)
