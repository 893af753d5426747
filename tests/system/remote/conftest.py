"""A device and a client behind routers."""

from collections.abc import Iterator

import pytest

from tests.kit.namespaces import Namespaces
from tests.kit.remote_home import RemoteHome, remote_home
from tests.kit.system import Stage


@pytest.fixture
def home(stage: Stage, namespaces: Namespaces) -> Iterator[RemoteHome]:
    with remote_home(stage, namespaces) as made:
        yield made
