"""Fixtures: a broker and a relay on loopback, each for all tests of a file."""

from collections.abc import Iterator

import pytest

from tests.kit.brokers import RunningBroker, mosquitto
from tests.kit.relays import RunningRelay, coturn


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    with mosquitto(tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRelay]:
    with coturn(tmp_path_factory.mktemp("relay")) as running:
        yield running
