"""Addresses and links go and return, under an announced device and a client that searches."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.kit.namespaces import Namespaces, add_addresses

if TYPE_CHECKING:
    from tests.kit.system import Stage

pytestmark = [pytest.mark.slow, pytest.mark.needs_root, pytest.mark.needs_tool("ip")]


def test_no_traceback_when_addresses_and_links_go_and_return(
    namespaces: Namespaces, stage: Stage
) -> None:
    there, here = namespaces.add(), namespaces.add()
    namespaces.join(there, here)
    add_addresses(there, "eth0", 1)
    add_addresses(here, "eth0", 2)
    kitchen, anna = stage.device(announced=True), stage.client("anna")
    kitchen.run_options, kitchen.port, kitchen.pairing_port = [], 5684, 5685
    kitchen.place = ("ip", "netns", "exec", there.name)
    anna.place = ("ip", "netns", "exec", here.name)
    kitchen.boot()
    watch = anna.start("discover", "--watch")
    watch.until("192.0.2.1:5684", on="out")

    for side, number in ((here, 2), (there, 1)):
        side.ip("addr", "del", f"192.0.2.{number}/24", "dev", "eth0")
        side.ip("addr", "del", f"2001:db8::{number}/64", "dev", "eth0")
        side.ip("addr", "del", f"fe80::{number}/64", "dev", "eth0")
        side.ip("link", "set", "eth0", "down")
        side.ip("link", "set", "eth0", "up")
        side.ip("addr", "add", f"192.0.2.{number + 10}/24", "dev", "eth0")
        side.await_addresses(f"192.0.2.{number + 10}")
    kitchen.until(lambda now: not now["announcement"]["trouble"])
    watch.until("192.0.2.11:5684", on="out")

    watch.send(signal.SIGINT)
    said = watch.end(code=130)
    log = kitchen.stop()
    for text in (said.out, said.err, log.out, log.err):
        assert "Traceback" not in text
        assert "zeroconf" not in text.lower()
