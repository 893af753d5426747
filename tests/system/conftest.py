"""Devices and clients as processes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.system import Stage


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    try:
        yield made
    finally:
        made.close()
