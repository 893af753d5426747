"""Devices and clients as processes."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.kit.namespaces import Namespaces
from tests.kit.system import Stage


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def namespaces() -> Iterator[Namespaces]:
    with closing(Namespaces()) as made:
        yield made
