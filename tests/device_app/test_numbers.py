"""Numbers and queries from outside: no form of one passes its bound, and none is passed over."""

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


@settings(max_examples=500, deadline=None, database=None, derandomize=True)
@given(st.text(max_size=40) | st.text("0123456789", max_size=40), st.integers(0, 2**63))
def test_a_number_of_a_query_is_decimal_and_within_its_bound(text: str, most: int) -> None:
    number = whole_number_untrusted(text, most=most)
    if number is None:
        plain = text != "" and set(text) <= set("0123456789") and text == str(int(text))
        assert not (plain and int(text) <= most)
        return
    assert 0 <= number <= most
    assert text.lstrip("0") == str(number).lstrip("0")
    assert len(text) <= len(str(most))


@pytest.mark.parametrize("zeros", [1, 17, 18, 19, 20, 100])
def test_zeros_in_front_do_not_hide_digits(zeros: int) -> None:
    assert whole_number_untrusted("0" * zeros + "101", most=100) is None
    assert whole_number_untrusted("9" * zeros + "99", most=100) is None


@pytest.mark.parametrize("moment", [10**400, -(10**400), float("inf"), float("nan"), 1e300, True])
def test_a_time_beyond_all_dates_is_malformed(moment: object) -> None:
    with pytest.raises(Malformed):
        time_field({"not_after": moment}, "not_after")


async def test_the_plain_form_takes_one_query_and_passes_over_no_other(
    kit: Kit, device: Device
) -> None:
    await device.open()
    caller = kit.caller(device)
    for query in ("name=a&name=b", "name=a&role=owner", "role=owner", "name", "nam=a"):
        refused = await caller.pair_ask("POST", f"/pair?{query}")
        assert (refused.code, refused.reason) == ("4.00", "malformed"), query
    assert device.app.pairing.ceremonies.pending() is None
