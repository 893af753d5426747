"""The parsers of pyroute2 are loaded without the rest of it, and an application still gets all."""

from __future__ import annotations

import subprocess
import sys

from pyroute2.netlink.rtnl.marshal import MarshalRtnl

from peer.net.netlink_messages import TableParser
from tests.kit.imports import without_coverage

ALONE = """
import sys
from peer.net.interfaces import kernel_table
assert kernel_table().by_index
loaded = [name for name in sys.modules if name.partition(".")[0] == "pyroute2"]
assert loaded == [], loaded
assert not {"unittest", "multiprocessing", "pickle"} & sys.modules.keys()
import multiprocessing
assert multiprocessing.Process is not None
import pyroute2
assert pyroute2.IPRoute is not None
assert kernel_table().by_index
"""
AFTER = """
import pyroute2
from peer.net import netlink_messages
assert netlink_messages.nlmsg is pyroute2.netlink.nlmsg
from peer.net.interfaces import kernel_table
assert kernel_table().by_index
"""


def run(script: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=without_coverage(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_tables_are_read_without_the_library_and_an_application_may_import_it() -> None:
    run(ALONE)


def test_a_library_that_is_loaded_already_is_used() -> None:
    run(AFTER)


def test_the_messages_are_parsed_by_the_classes_of_the_library() -> None:
    for number, message in TableParser.msg_map.items():
        assert message.__name__ == MarshalRtnl.msg_map[number].__name__
