"""`make demo-remote` runs to its end."""

import sys

import pytest

from tests.kit.process import Program, environment

SECONDS = 300  # for some twenty commands, one after another
pytestmark = [
    pytest.mark.slow,
    pytest.mark.needs_root,
    pytest.mark.needs_tool("ip", "nft", "mosquitto", "turnserver", "ssh", "sshd"),
    pytest.mark.timeout(2 * SECONDS),
]


def test_the_demonstration_reaches_the_device_over_each_route_and_revokes_the_client() -> None:
    program = Program([sys.executable, "-m", "tests.system.remote.tour"], environment())
    try:
        shown = program.end(code=0, seconds=SECONDS).out
    finally:
        program.close()
    for route in ("lan", "direct", "relay"):
        assert f"\n  path   {route}: " in shown
    assert "  eth0@" in shown, "the shell has run a command"
    assert "the session has ended" in shown
    assert shown.count("(exit 3)") == 2, "neither the session nor the device is there for a user"
