"""The two documents of the protocol: docs/protocol.md and docs/handfast.cddl."""

import pytest

from tests.kit.documents import DOCS, Cddl, ProtocolDocument


@pytest.fixture(scope="session")
def cddl() -> Cddl:
    return Cddl((DOCS / "handfast.cddl").read_text())


@pytest.fixture(scope="session")
def protocol() -> ProtocolDocument:
    return ProtocolDocument((DOCS / "protocol.md").read_text())
