"""ETSI's test descriptions, run against a device over a real session."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from peer.net.address import Address
from tests.interop import etsi_observe_cases  # noqa: F401  # adds its cases to CASES
from tests.interop.etsi_cases import NOT_RUN
from tests.interop.etsi_checker import CASES, Checker
from tests.kit import plugtest
from tests.kit.device import HASTY, Kit
from tests.kit.raw_client import RawClient
from tests.kit.serve import HOST

#: The identifiers of the descriptions: the last number of each group.
GROUPS = {"CORE": 31, "LINK": 9, "BLOCK": 6, "OBS": 15}


@pytest.fixture
async def kit(tmp_path: Path) -> AsyncIterator[Kit]:
    limits = replace(HASTY, ack_timeout_seconds=0.05, max_retransmit=2)
    made = Kit(tmp_path / "home", limits=limits)
    yield made
    await made.close()


@pytest.mark.usefixtures("clean_imports")
@pytest.mark.parametrize("identifier", CASES)
async def test_the_device_passes(
    kit: Kit, caplog: pytest.LogCaptureFixture, identifier: str
) -> None:
    folder = kit.home / "modules"
    folder.mkdir(parents=True)
    (folder / "etsi_plugtest.py").write_text("from tests.kit.plugtest import resources\n")
    device = await kit.device(modules=("etsi_plugtest",))
    caller = kit.known(device, "eva", "owner")
    raw = await RawClient.connect(Address(HOST, device.port(pairing=False)), caller.identity)
    await CASES[identifier](Checker(raw, plugtest.OBSERVED[-1]))
    assert not [record for record in caplog.records if record.exc_info]
    await raw.close()


def test_every_description_is_run_or_has_a_reason() -> None:
    expected = {
        f"TD_COAP_{group}_{number:02}"
        for group, last in GROUPS.items()
        for number in range(1, last + 1)
    }
    assert set(CASES) | set(NOT_RUN) == expected
    assert not set(CASES) & set(NOT_RUN)
