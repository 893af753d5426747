"""The selection of remote candidates: no check goes where only a malicious peer would send it."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from peer.remote.candidates import checkable_untrusted, is_checkable
from peer.remote.messages import CarrierOffer, is_candidate

OWN = ("192.168.1.20", "2001:db8::20")


@pytest.mark.parametrize(
    "host", ["192.0.2.1", "10.1.2.3", "100.64.0.1", "203.0.113.9", "2001:db8::1", "fd00::1"]
)
def test_addresses_of_hosts_are_checked(host: str) -> None:
    assert is_checkable(host, 1024, OWN)


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.8.9.10", "::1"),  # this machine
        *("169.254.1.1", "fe80::1"),  # a link
        *("224.0.0.251", "239.1.2.3", "ff02::fb"),  # groups
        *("255.255.255.255", "240.0.0.1", "0.0.0.0", "::"),  # no host
        *("::ffff:127.0.0.1", "::ffff:192.0.2.1", "::127.0.0.1"),  # other forms of IPv4
    ],
)
def test_other_addresses_are_not_checked(host: str) -> None:
    assert not is_checkable(host, 50000, OWN)


@pytest.mark.parametrize("port", [1, 53, 123, 443, 1023])
def test_no_check_goes_to_the_port_of_a_service(port: int) -> None:
    assert not is_checkable("192.0.2.1", port, OWN)


def test_the_loopback_and_a_link_are_checked_from_there_only() -> None:
    assert is_checkable("127.0.0.1", 5000, ("127.0.0.1",))
    assert is_checkable("169.254.3.4", 5000, ("169.254.1.1",))
    assert not is_checkable("fe80::1", 5000, ("169.254.1.1",))
    assert not is_checkable("127.0.0.1", 5000, ("169.254.1.1",))


@given(
    st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)),
    st.integers(1, 65535),
    st.lists(st.ip_addresses().map(str), max_size=3),
)
def test_no_candidate_of_a_valid_offer_raises_an_error(
    host: IPv4Address | IPv6Address, port: int, own: list[str]
) -> None:
    text = f"1 1 udp 2130706431 {host} {port} typ host"
    assume(is_candidate(text))
    kept = checkable_untrusted(CarrierOffer("abcd", "p" * 22, (text,)), own)
    assert len(kept) == is_checkable(str(host), port, own)
    assert all(is_candidate(one) for one in kept)


def test_the_others_of_an_offer_are_kept_in_a_canonical_form() -> None:
    offer = CarrierOffer(
        "abcd",
        "p" * 22,
        (
            "1 1 UDP 2130706431 127.0.0.1 50000 typ host",
            "2 1 udp 2130706430 2001:DB8:0::5 50001 typ host",
            "3 1 udp 16777215 192.0.2.5 53 typ relay raddr 0.0.0.0 rport 9",
            "4 1 udp 16777215 192.0.2.5 50002 typ relay raddr 0.0.0.0 rport 9",
        ),
    )
    assert checkable_untrusted(offer, OWN) == [
        "2 1 udp 2130706430 2001:db8::5 50001 typ host",
        "4 1 udp 16777215 192.0.2.5 50002 typ relay raddr 0.0.0.0 rport 9",
    ]
