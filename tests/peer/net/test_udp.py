"""UDP sockets and addresses: arrival data, sending, ICMP errors and name resolution."""

import asyncio
import errno
import logging
import os
import socket
import struct
from pathlib import Path
from typing import Any

import pytest

from peer.errors import Malformed, PeerError, Unreachable
from peer.limits import MAX_DATAGRAM_BYTES, MAX_LOGGED_PEERS
from peer.net import linux_socket
from peer.net.address import Address, resolve
from peer.net.datagram import Datagram
from peer.net.linux_socket import open_bound
from peer.net.udp import UdpSocket
from tests.kit.server_process import free_port
from tests.kit.sockets import ScriptedSocket
from tests.kit.waiting import until

LOOPBACK = socket.if_nametoindex("lo")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (Address("192.0.2.1", 5684), "192.0.2.1:5684"),
        (Address("2001:DB8:0:0::1", 5684), "[2001:db8::1]:5684"),
        (Address("::ffff:192.0.2.1", 5684), "192.0.2.1:5684"),
        (Address("::ffff:c000:201", 5684), "192.0.2.1:5684"),
        (Address("fe80::1", 5684, LOOPBACK), "[fe80::1%lo]:5684"),
        (Address("fe80::1", 5684, 2**30), f"[fe80::1%{2**30}]:5684"),
        # a scope ID is ignored for a global address
        (Address("2001:db8::1", 1, 7), "[2001:db8::1]:1"),
    ],
)
def test_an_address_has_one_text_form(given: Address, expected: str) -> None:
    assert str(given) == expected


def test_addresses_of_the_same_peer_are_equal() -> None:
    assert Address("::FFFF:192.0.2.1", 1, 3) == Address("192.0.2.1", 1)
    assert Address("2001:db8:0::1", 1) == Address("2001:db8::1", 1, 9)
    assert Address("fe80::1", 1, 2) != Address("fe80::1", 1, 3)


@pytest.mark.parametrize(
    ("host", "port"),
    [("", 1), ("kitchen", 1), ("fe80::1%lo", 1), ("192.0.2.1", -1), ("192.0.2.1", 65536)],
)
def test_an_invalid_address_is_malformed(host: str, port: int) -> None:
    with pytest.raises(Malformed) as caught:
        Address(host, port)
    assert caught.value.advice


@pytest.mark.parametrize("bound", ["::", "127.0.0.1"])
async def test_an_ipv4_datagram_has_destination_interface_and_hop_limit(
    bound: str, sockets: Any, inbox: Any
) -> None:
    device = sockets.bind(bound, inbox)
    there = Address("127.0.0.5" if bound == "::" else "127.0.0.1", device.local_address.port)
    client = sockets.connect(there, inbox)
    assert client.send(b"hello", there)
    assert await inbox.datagram() == Datagram(
        b"hello", client.local_address, there.host, LOOPBACK, 255
    )


@pytest.mark.parametrize("bound", ["::", "::1"])
async def test_an_ipv6_datagram_has_destination_interface_and_hop_limit(
    bound: str, sockets: Any, inbox: Any
) -> None:
    device = sockets.bind(bound, inbox)
    there = Address("::1", device.local_address.port)
    client = sockets.connect(there, inbox)
    assert client.send(b"hello", there)
    assert await inbox.datagram() == Datagram(b"hello", client.local_address, "::1", LOOPBACK, 255)


async def test_the_hop_limit_is_that_of_the_received_datagram(sockets: Any, inbox: Any) -> None:
    device = sockets.bind("::", inbox)
    port = device.local_address.port
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stock:
        stock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 64)
        stock.sendto(b"four", ("127.0.0.1", port))
        assert (await inbox.datagram()).hop_limit == 64
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as stock:
        stock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 7)
        stock.sendto(b"six", ("::1", port))
        assert (await inbox.datagram()).hop_limit == 7


@pytest.mark.parametrize("pinned", [0, LOOPBACK])
async def test_an_answer_is_sent_from_the_address_of_the_request(
    pinned: int, sockets: Any, inbox: Any
) -> None:
    # A connected socket receives only from its peer, so another source would be noticed.
    device = sockets.bind("::", inbox)
    for host in ("127.0.0.77", "::1"):
        there = Address(host, device.local_address.port)
        client = sockets.connect(there, inbox)
        client.send(b"question", there)
        question = await inbox.datagram()
        assert device.send(b"answer", question.source, source=question.destination, ifindex=pinned)
        answer = await inbox.datagram()
        assert (answer.data, answer.source, answer.hop_limit) == (b"answer", there, 255)


async def test_an_icmp_error_is_reported_to_the_connected_socket(sockets: Any, inbox: Any) -> None:
    there = Address("127.0.0.1", free_port("127.0.0.1"))
    client = sockets.connect(there, inbox)
    assert client.send(b"anybody?", there)
    assert (await inbox.error()).errno == errno.ECONNREFUSED
    assert client.counters["receive-error"] == 1


async def test_an_icmp_error_found_while_sending_is_reported_too(sockets: Any, inbox: Any) -> None:
    there = Address("127.0.0.1", free_port("127.0.0.1"))
    client = sockets.connect(there, inbox)
    assert client.send(b"one", there)
    assert not client.send(b"two", there)  # the ICMP error of the first has arrived
    assert inbox.errors.empty()  # never called inside `send`
    assert (await inbox.error()).errno == errno.ECONNREFUSED
    assert client.counters["send-dropped-econnrefused"] == 1


async def test_an_icmp_error_does_not_close_the_bound_socket(sockets: Any, inbox: Any) -> None:
    device = sockets.bind("::", inbox)
    closed = Address("127.0.0.1", free_port("127.0.0.1"))
    for _ in range(3):
        assert device.send(b"to nobody", closed)
    there = Address("127.0.0.1", device.local_address.port)
    client = sockets.connect(there, inbox)
    assert client.send(b"still there?", there)
    assert (await inbox.datagram()).data == b"still there?"


async def test_a_receive_error_does_not_stop_the_reader(sockets: Any, inbox: Any) -> None:
    """An error of recvmsg, such as an ICMP error with IP_RECVERR, is reported and counted."""
    errors = [OSError(errno.EHOSTUNREACH, "no route to host")] * 2
    device = sockets.own(ScriptedSocket(errors), inbox)
    client = sockets.connect(device.local_address, inbox)
    assert client.send(b"hello", device.local_address)
    assert (await inbox.error()).errno == errno.EHOSTUNREACH
    assert (await inbox.datagram()).data == b"hello"
    assert device.counters["receive-error"] == 2


async def test_oversized_and_empty_datagrams_are_dropped_and_counted(
    sockets: Any, inbox: Any
) -> None:
    device = sockets.bind("127.0.0.1", inbox)
    client = sockets.connect(device.local_address, inbox)
    for data in (bytes(MAX_DATAGRAM_BYTES + 1), b"", bytes(MAX_DATAGRAM_BYTES)):
        assert client.send(data, device.local_address)
    assert len((await inbox.datagram()).data) == MAX_DATAGRAM_BYTES
    assert inbox.datagrams.empty()
    assert (device.counters["oversize"], device.counters["empty"]) == (1, 1)
    assert device.counters["received"] == 3


async def test_a_failing_handler_is_counted_and_logged_once_per_peer(
    sockets: Any, inbox: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def handler(datagram: Datagram) -> None:
        inbox.datagrams.put_nowait(datagram)
        raise RuntimeError("an internal error")

    device = sockets.bind("127.0.0.1", inbox, handler=handler)
    clients = [sockets.connect(device.local_address, inbox) for _ in range(3)]
    with caplog.at_level(logging.ERROR):
        for client in (*clients, *clients):  # other ports of the same host count as the same peer
            client.send(b"secret payload", device.local_address)
        for _ in range(6):
            await inbox.datagram()
    assert device.counters["handler-error"] == 6
    (record,) = caplog.records
    assert "127.0.0.1" in record.getMessage()
    assert "secret payload" not in caplog.text


async def test_many_peers_do_not_fill_the_log(
    sockets: Any, inbox: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def handler(_: Datagram) -> None:
        raise RuntimeError("an internal error")

    names = [(f"198.51.{n // 256}.{n % 256}", 5) for n in range(MAX_LOGGED_PEERS * 2)]
    device = sockets.own(
        ScriptedSocket([(1, [], 0, name) for name in names]), inbox, handler=handler
    )
    client = sockets.connect(device.local_address, inbox)
    assert client.send(b"makes the socket readable", device.local_address)
    await until(lambda: device.counters["handler-error"] > len(names))
    assert len(caplog.records) == MAX_LOGGED_PEERS


async def test_a_failing_error_handler_does_not_stop_the_reader(sockets: Any, inbox: Any) -> None:
    def on_error(error: OSError) -> None:
        inbox.errors.put_nowait(error)
        raise RuntimeError("an internal error")

    there = Address("127.0.0.1", free_port("127.0.0.1"))
    client = UdpSocket.connect(there, on_datagram=inbox.datagrams.put_nowait, on_error=on_error)
    sockets.made.append(client)
    client.send(b"anybody?", there)
    await inbox.error()
    late = sockets.bind("127.0.0.1", inbox, port=there.port)
    assert late.send(b"now", client.local_address)
    assert (await inbox.datagram()).data == b"now"
    assert client.counters["handler-error"] == 1


async def test_a_handler_may_close_the_socket(sockets: Any, inbox: Any) -> None:
    def handler(datagram: Datagram) -> None:
        inbox.datagrams.put_nowait(datagram)
        device.close()

    device = sockets.bind("127.0.0.1", inbox, handler=handler)
    client = sockets.connect(device.local_address, inbox)
    for _ in range(3):
        client.send(b"x", device.local_address)
    await inbox.datagram()
    device.close()  # a second time
    assert inbox.datagrams.empty()
    assert device.counters["handler-error"] == 0
    assert not device.send(b"x", client.local_address)
    assert device.counters["send-dropped-closed"] == 1


@pytest.mark.parametrize(
    ("data", "to", "options"),
    [
        (b"x", Address("127.0.0.1", 9), {"source": "not an address"}),
        (b"x", Address("127.0.0.1", 9), {"source": "null\0"}),
        (b"x", Address("127.0.0.1", 9), {"source": "::1"}),
        (b"x", Address("::1", 9), {"source": "127.0.0.1"}),
        (b"x", Address("127.0.0.1", 9), {"source": "203.0.113.200"}),
        (b"x", Address("127.0.0.1", 9), {"ifindex": 2**30}),
        (b"x", Address("127.0.0.1", 9), {"ifindex": 2**70}),
        (b"x", Address("::1", 9), {"ifindex": -1}),
        (bytes(70_000), Address("127.0.0.1", 9), {}),
        (b"x", Address("fe80::1", 9), {}),
        (b"x", Address("127.0.0.1", 0), {}),
        (b"x", Address("255.255.255.255", 9), {}),
    ],
)
async def test_send_never_raises(
    data: bytes, to: Address, options: dict[str, Any], sockets: Any, inbox: Any
) -> None:
    device = sockets.bind("::", inbox)
    # without a scope the kernel may still choose an interface, so only "no exception" holds
    if to.host == "fe80::1":
        device.send(data, to, **options)
        return
    assert not device.send(data, to, **options)
    assert device.counters["send-dropped"] == 1
    assert device.counters["sent"] == 0


async def test_a_connected_socket_sends_only_to_its_peer(sockets: Any, inbox: Any) -> None:
    device = sockets.bind("127.0.0.1", inbox)
    client = sockets.connect(device.local_address, inbox)
    assert not client.send(b"x", Address("127.0.0.1", 9))
    assert client.counters["send-dropped-not-the-peer"] == 1
    assert not client.send(b"x", Address("::1", 9))


async def test_an_ipv4_socket_does_not_send_ipv6(sockets: Any, inbox: Any) -> None:
    device = sockets.bind("127.0.0.1", inbox)
    assert not device.send(b"x", Address("::1", 9))
    assert device.counters["send-dropped-no-ipv6"] == 1


async def test_a_port_in_use_is_reported_with_advice(sockets: Any, inbox: Any) -> None:
    port = sockets.bind("::", inbox).local_address.port
    for host in ("::", "0.0.0.0", "127.0.0.1", "::1"):
        with pytest.raises(PeerError, match=f"port {port}") as caught:
            sockets.bind(host, inbox, port=port)
        assert "Another program" in caught.value.advice


@pytest.mark.parametrize("host", ["203.0.113.7", "2001:db8::7", "kitchen", ""])
async def test_an_address_that_cannot_be_bound_is_reported_with_advice(
    host: str, sockets: Any, inbox: Any
) -> None:
    with pytest.raises(PeerError) as caught:
        sockets.bind(host, inbox)
    assert caught.value.advice


async def test_without_ipv6_the_socket_is_bound_to_ipv4(
    sockets: Any, inbox: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = linux_socket.open_socket

    def no_ipv6(family: socket.AddressFamily) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family)

    monkeypatch.setattr(linux_socket, "open_socket", no_ipv6)
    device = sockets.bind("::", inbox)
    assert device.local_address.host == "0.0.0.0"
    there = Address("127.0.0.1", device.local_address.port)
    client = sockets.connect(there, inbox)
    client.send(b"hello", there)
    assert (await inbox.datagram()).destination == "127.0.0.1"


async def test_connecting_to_a_link_local_address_requires_an_interface(
    sockets: Any, inbox: Any
) -> None:
    with pytest.raises(Unreachable, match="without an interface") as caught:
        sockets.connect(Address("fe80::1", 5684), inbox)
    assert "%" in caught.value.advice


def test_without_a_running_event_loop_no_socket_is_opened(sockets: Any, inbox: Any) -> None:
    with pytest.raises(RuntimeError):  # a ResourceWarning would be an error here
        sockets.bind("127.0.0.1", inbox)
    with pytest.raises(RuntimeError):
        sockets.connect(Address("127.0.0.1", 9), inbox)


@pytest.mark.needs_root
@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
async def test_without_a_route_a_peer_is_unreachable(
    host: str, namespaces: Any, sockets: Any, inbox: Any
) -> None:
    with namespaces.add().inside(), pytest.raises(Unreachable, match="no route") as caught:
        sockets.connect(Address(host, 5684), inbox)
    assert caught.value.advice


async def test_host_names_and_addresses_are_resolved() -> None:
    assert await resolve("192.0.2.1", 5684) == [Address("192.0.2.1", 5684)]
    assert await resolve("::ffff:192.0.2.1", 5684) == [Address("192.0.2.1", 5684)]
    assert await resolve("fe80::1%lo", 5684) == [Address("fe80::1", 5684, LOOPBACK)]
    assert await resolve(f"fe80::1%{LOOPBACK}", 5684) == [Address("fe80::1", 5684, LOOPBACK)]
    found = await resolve("localhost", 1)
    assert found
    assert {address.host for address in found} <= {"127.0.0.1", "::1"}
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("host", ["fe80::1%no-such", "a" * 70, "x\0y", "\ud800", "1.2.3.4.5.6", ""])
async def test_a_host_that_cannot_be_resolved_is_unreachable(host: str) -> None:
    with pytest.raises(Unreachable) as caught:
        await resolve(host, 5684)
    assert caught.value.advice


@pytest.mark.needs_root
async def test_the_outgoing_interface_can_be_chosen(
    namespaces: Any, sockets: Any, inbox: Any
) -> None:
    """With two cables of the same addresses, only the interface decides which one is used."""
    device = namespaces.add()
    clients = [namespaces.add(), namespaces.add()]
    inboxes = []
    for number, client in enumerate(clients):
        namespaces.join(device, client, names=(f"eth{number}", "eth0"))
        device.ip("addr", "add", "192.0.2.1/24", "dev", f"eth{number}")
        client.ip("addr", "add", "192.0.2.2/24", "dev", "eth0")
        inboxes.append(type(inbox)())
        with client.inside():
            sockets.bind("0.0.0.0", inboxes[-1], port=7000)
    with device.inside():
        sock = sockets.bind("::", inbox)
    there = Address("192.0.2.2", 7000)
    for number, receiver in enumerate(inboxes):
        index = device.index(f"eth{number}")
        assert sock.send(b"%d" % number, there, source="192.0.2.1", ifindex=index)
        received = await receiver.datagram()
        assert (received.data, received.source.host) == (b"%d" % number, "192.0.2.1")
        assert all(other.datagrams.empty() for other in inboxes)


@pytest.mark.needs_root
@pytest.mark.parametrize(
    ("near", "far"),
    [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2"), ("fe80::1", "fe80::2")],
)
async def test_datagrams_are_delivered_both_ways_over_a_cable(
    near: str, far: str, lan: Any, sockets: Any, inbox: Any
) -> None:
    with lan.device.inside():
        device = sockets.bind("::", inbox)
    index = lan.device.index("eth0")
    there = Address(near, device.local_address.port, lan.client.index("eth0"))
    with lan.client.inside():
        client = sockets.connect(there, inbox)
    assert client.send(b"hello", there)
    question = await inbox.datagram()
    assert question == Datagram(
        b"hello", Address(far, client.local_address.port, index), near, index, 255
    )
    assert device.send(b"answer", question.source, source=question.destination, ifindex=index)
    answer = await inbox.datagram()
    assert (answer.data, answer.source, answer.hop_limit) == (b"answer", there, 255)


def test_the_layout_of_the_ancillary_data_matches_the_kernel() -> None:
    four = linux_socket.IN_PKTINFO.pack(7, bytes(4), socket.inet_aton("192.0.2.1"))
    six = linux_socket.IN6_PKTINFO.pack(socket.inet_pton(socket.AF_INET6, "::ffff:192.0.2.1"), 7)
    hops = struct.pack("@i", 3)
    assert linux_socket.arrival(((0, 8, four), (0, 2, hops))) == ("192.0.2.1", 7, 3)
    assert linux_socket.arrival(((41, 50, six), (41, 52, hops))) == ("192.0.2.1", 7, 3)
    assert linux_socket.arrival(()) == ("", 0, None)
    assert linux_socket.arrival(((1, 1, b"something else"),)) == ("", 0, None)


async def test_a_socket_tells_whether_it_is_read(sockets: Any, inbox: Any) -> None:
    read = sockets.bind("127.0.0.1", inbox)
    sender = sockets.bind("127.0.0.1", inbox)
    for number in range(3):  # those that wait are not lost
        sender.send(bytes([number]), read.local_address)
        assert read.is_reading()
    assert [(await inbox.datagram()).data for _ in range(3)] == [b"\0", b"\1", b"\2"]
    read.close()
    assert not read.is_reading()


@pytest.mark.parametrize("fault", ["no reader", "closed", "another socket", "another file"])
async def test_a_socket_that_a_fault_has_stopped_is_not_read(
    sockets: Any, inbox: Any, fault: str, tmp_path: Path
) -> None:
    sock = open_bound("127.0.0.1", 0)
    number, loop = sock.fileno(), asyncio.get_running_loop()
    read = sockets.own(sock, inbox)
    assert read.is_reading()
    with open_bound("127.0.0.1", 0) as other, (tmp_path / "file").open("wb") as file:
        if fault == "no reader":
            assert loop.remove_reader(number)
        elif fault == "closed":
            os.close(number)
        else:
            os.dup2(other.fileno() if fault == "another socket" else file.fileno(), number)
        assert not read.is_reading()
        if fault == "closed":
            os.dup2(other.fileno(), number)  # so that the end of the test closes nothing else
