"""A wheel of this project, installed without extras."""

import pytest

from tests.kit.distribution import Environment, build


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The environment that `pip install handfast` makes."""
    return Environment(
        tmp_path_factory.mktemp("environment"), build("wheel", tmp_path_factory.mktemp("wheel"))
    )
