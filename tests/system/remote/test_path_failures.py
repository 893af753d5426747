"""Each failure of a path in docs/failures.toml, provoked in network namespaces."""

from __future__ import annotations

import tomllib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.kit.nat_lab import Nat
from tests.kit.remote_home import RemoteHome
from tests.kit.tls_files import tls_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [
    pytest.mark.slow,
    pytest.mark.needs_root,
    pytest.mark.needs_tool("ip", "nft", "mosquitto", "turnserver"),
]

TABLE: Final = tomllib.loads(Path("docs/failures.toml").read_text("utf-8"))["path_failure"]


@contextmanager
def broker_stopped(home: RemoteHome) -> Iterator[None]:
    home.broker.process.stop()
    yield
    home.broker.process.start()


@contextmanager
def broker_has_another_key(home: RemoteHome) -> Iterator[None]:
    files = home.broker.tls.certificate, home.broker.tls.key
    before = [one.read_bytes() for one in files]
    home.broker.process.stop()
    tls_files(files[0].parent, home.broker.host)
    home.broker.process.start()
    yield
    home.broker.process.stop()
    for file, content in zip(files, before, strict=True):
        file.write_bytes(content)
    home.broker.process.start()
    home.attached()


@contextmanager
def device_stopped(home: RemoteHome) -> Iterator[None]:
    home.device.stop()
    yield
    home.boot(Nat.CONE)


@contextmanager
def user_removed(home: RemoteHome) -> Iterator[None]:
    other = home.stage.client("mia")
    home.device.ask("users-add", wish={"name": "mia", "role": "owner", "keys": [other.fingerprint]})
    home.device.ask("users-remove", name="anna")
    yield


@contextmanager
def no_network(home: RemoteHome) -> Iterator[None]:
    home.lab.client.host.ip("link", "set", "eth0", "down")
    yield
    home.lab.move_away(Nat.CONE)


@contextmanager
def no_settings(home: RemoteHome) -> Iterator[None]:
    home.client.run("remote", "kitchen", "--forget")
    yield


PROVOCATIONS: Final[dict[str, Callable[..., Any]]] = {
    one.__name__: one
    for one in (
        broker_stopped,
        broker_has_another_key,
        device_stopped,
        no_network,
        user_removed,  # those after it find neither the user
        no_settings,  # nor the settings
    )
}


def test_each_failure_of_a_path_has_its_message_and_its_advice(home: RemoteHome) -> None:
    rows = {row["id"]: row for row in TABLE}
    assert rows.keys() == PROVOCATIONS.keys()
    home.lab.move_away(Nat.CONE)
    for name, provocation in PROVOCATIONS.items():
        row = rows[name]
        with provocation(home):
            done = home.client.start("get", "kitchen", "/hello", "--via", "direct,relay").end()
        says = row["says"].replace(":8883", f":{home.broker.port}")
        assert done.code == row["exit"], done
        assert says in done.err, done
        assert row["next"] in done.err, done
