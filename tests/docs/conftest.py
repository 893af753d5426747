"""The two documents of the protocol."""

import pytest

from tests.kit.documents import DOCS, Cddl, Paper


@pytest.fixture(scope="session")
def cddl() -> Cddl:
    return Cddl((DOCS / "handfast.cddl").read_text())


@pytest.fixture(scope="session")
def paper() -> Paper:
    return Paper((DOCS / "protocol.md").read_text())
