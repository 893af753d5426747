"""Numbers and queries of requests: no notation exceeds the limit, and no query is ignored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_app.access.fields import time_field
from device_app.resources.payloads import whole_number_untrusted
from peer.errors import Malformed

if TYPE_CHECKING:
    from tests.kit.device import Device, Kit


@settings(max_examples=500, database=None, derandomize=True)
@given(st.text(max_size=40) | st.text("0123456789", max_size=40), st.integers(0, 2**63))
def test_a_number_of_a_query_is_decimal_and_within_its_limit(text: str, most: int) -> None:
    number = whole_number_untrusted(text, most=most)
    if number is None:
        plain = text != "" and set(text) <= set("0123456789") and text == str(int(text))
        assert not (plain and int(text) <= most)
        return
    assert 0 <= number <= most
    assert text.lstrip("0") == str(number).lstrip("0")
    assert len(text) <= len(str(most))


@pytest.mark.parametrize("zeros", [1, 17, 18, 19, 20, 100])
def test_leading_zeros_do_not_circumvent_the_limit(zeros: int) -> None:
    assert whole_number_untrusted("0" * zeros + "101", most=100) is None
    assert whole_number_untrusted("9" * zeros + "99", most=100) is None


@pytest.mark.parametrize("moment", [10**400, -(10**400), float("inf"), float("nan"), 1e300, True])
def test_a_time_that_is_no_date_is_malformed(moment: object) -> None:
    with pytest.raises(Malformed):
        time_field({"not_after": moment}, "not_after")


async def test_the_plain_form_rejects_unknown_and_repeated_queries(
    kit: Kit, device: Device
) -> None:
    await device.open()
    caller = kit.caller(device)
    for query in ("name=a&name=b", "name=a&role=owner", "role=owner", "name", "nam=a"):
        refused = await caller.pair_ask("POST", f"/pair?{query}")
        assert (refused.code, refused.reason) == ("4.00", "malformed"), query
    assert device.app.pairing.ceremonies.pending() is None
