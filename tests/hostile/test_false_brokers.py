"""A broker, or a host in its place, that misbehaves: passwords, memory and time of the client."""

import asyncio
import gc
from pathlib import Path

import pytest

from peer.net.tasks import cancel_all
from peer.remote import mqtt_client
from peer.remote.broker import Broker
from peer.remote.errors import BrokerError, ServerFailure
from peer.remote.limits import BROKER_PACKET_BYTES
from tests.kit.false_brokers import FalseBroker, accept_client, false_broker, read_to_the_end
from tests.kit.waiting import skip_time, until

FOLLOWING = bytes.fromhex("30090003") + b"a/blast"
"""A valid message after a malformed packet."""


async def connect(broker: FalseBroker, *, pin: bytes | None = None) -> None:
    async with Broker.connect(broker.server(pin=pin)):
        pass


@pytest.mark.parametrize("pin", [b"\x01" * 32, b""], ids=["another pin", "no pin"])
async def test_a_broker_with_another_key_receives_no_byte_after_tls(
    tmp_path: Path, pin: bytes
) -> None:
    async def record(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            broker.received += data

    async with false_broker(tmp_path, record) as broker:
        with pytest.raises(BrokerError):
            await connect(broker, pin=pin)
        await asyncio.sleep(0)
        await until(lambda: broker.ended == broker.connections)
    assert broker.received == b""


async def test_a_password_is_sent_after_the_right_key_only(tmp_path: Path) -> None:
    """The test above would also pass if nothing was ever sent."""

    async def record(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        broker.received += await reader.read(65536)
        writer.close()

    async with false_broker(tmp_path, record) as broker:
        task = asyncio.ensure_future(connect(broker))
        await until(lambda: b"a password" in broker.received)
        await cancel_all([task])


@pytest.mark.parametrize("announced", [BROKER_PACKET_BYTES + 1, 2**28 - 1])
async def test_a_packet_that_is_far_too_long_ends_the_connection(
    tmp_path: Path, announced: int
) -> None:
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accept_client(reader, writer)
        await reader.read(2)
        length = bytearray()
        left = announced
        while left:
            length.append(left % 128 | (0x80 if left >= 128 else 0))
            left //= 128
        writer.write(b"\x30" + bytes(length) + bytes(1000))
        await read_to_the_end(reader)

    async with false_broker(tmp_path, flood) as broker:
        async with Broker.connect(broker.server()) as client:
            await client.publish("a/b", b"")
            with pytest.raises(BrokerError):
                await anext(client.messages())
        await until(lambda: broker.ended == 1)


@pytest.mark.parametrize(
    "packet",
    [
        b"\x30\x05\x00\x03a/#x",  # a wildcard in a topic
        b"\x30\x05\x00\x03\xff\xfe\xfdx",  # a topic that is not UTF-8
        b"\x30\x05\x00\x00abc",  # no topic
        b"\x30\x02\xff\xff",  # a topic that is longer than the packet
        b"\x90\x03\x00\x63\x00",  # an answer to no subscription
        b"\x20\x02\x00\x00",  # CONNACK again
        b"\xb0\x02\x00\x63",
        b"\x40\x02\x00\x01",
        b"\xf0\x00",
        b"\x30\xff\xff\xff\xff\x7f",  # five bytes of length
    ],
    ids=lambda packet: packet.hex(),
)
async def test_malformed_packets_are_ignored_or_end_the_connection(
    tmp_path: Path, packet: bytes
) -> None:
    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accept_client(reader, writer)
        await reader.read(2)  # so that the client has read CONNACK
        writer.write(packet + FOLLOWING)
        writer.close()

    async with false_broker(tmp_path, send) as broker, Broker.connect(broker.server()) as client:
        await client.publish("a/b", b"")
        received: list[tuple[str, bytes]] = []
        with pytest.raises(BrokerError):
            await _read_all(client, received)
    assert received in ([], [("a/b", b"last")])


async def test_a_broker_that_accepts_and_leaves_is_noticed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Both may arrive in one turn, and aiomqtt forgets the second."""

    async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accept_client(reader, writer)

    async with false_broker(tmp_path, leave) as broker:
        for _ in range(5):
            with pytest.raises(BrokerError):  # either may raise
                async with Broker.connect(broker.server()) as client:
                    await anext(client.messages())
    gc.collect()  # asyncio reports an error that no one has retrieved when it deletes the future
    assert [one for one in caplog.messages if "Mqtt" in one] == []


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (2, ServerFailure.REFUSED),  # the client identifier
        (3, ServerFailure.UNREACHABLE),  # not available now
        (4, ServerFailure.REFUSED),  # user name or password
        (5, ServerFailure.REFUSED),  # not authorized
        (99, ServerFailure.REFUSED),
    ],
)
async def test_each_answer_to_a_log_in_has_a_reason(
    tmp_path: Path, code: int, reason: ServerFailure
) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(2)
        writer.write(b"\x20\x02\x00" + bytes([code]))
        await writer.drain()
        await read_to_the_end(reader)

    async with false_broker(tmp_path, refuse) as broker:
        with pytest.raises(BrokerError) as caught:
            await connect(broker)
    assert caught.value.reason is reason
    assert "a password" not in str(caught.value)


async def test_a_broker_that_refuses_the_version_of_mqtt_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """paho-mqtt reports no answer then; aiomqtt keeps it from trying an older version."""
    monkeypatch.setattr(mqtt_client, "BROKER_ANSWER_SECONDS", 3600.0)
    monkeypatch.setattr(mqtt_client, "BROKER_CONNECT_SECONDS", 3600.0)

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(2)
        writer.write(b"\x20\x02\x00\x01")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with false_broker(tmp_path, refuse) as broker:
        task = asyncio.ensure_future(connect(broker))
        await until(lambda: broker.ended)
        with pytest.raises(BrokerError):
            await task
    assert broker.connections == 1


async def test_a_broker_that_never_answers_is_given_up(tmp_path: Path) -> None:
    async def stay_silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await read_to_the_end(reader)

    async with false_broker(tmp_path, stay_silent) as broker:
        task = asyncio.ensure_future(connect(broker))
        await until(lambda: broker.connections)
        skip_time(60)
        with pytest.raises(BrokerError) as caught:
            await task
    assert caught.value.reason is ServerFailure.UNREACHABLE


async def test_a_broker_that_ends_the_connection_before_it_answers_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """aiomqtt would wait for an answer."""
    monkeypatch.setattr(mqtt_client, "BROKER_ANSWER_SECONDS", 3600.0)
    monkeypatch.setattr(mqtt_client, "BROKER_CONNECT_SECONDS", 3600.0)

    async def leave(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read(2)

    async with false_broker(tmp_path, leave) as broker:
        with pytest.raises(BrokerError, match="ended the connection") as caught:
            await connect(broker)
    assert caught.value.reason is ServerFailure.UNREACHABLE
    gc.collect()
    assert [one for one in caplog.messages if "Mqtt" in one] == []


@pytest.mark.parametrize("has_tls", [True, False], ids=["before CONNACK", "in the handshake"])
async def test_a_connection_attempt_can_be_cancelled_at_any_step(
    tmp_path: Path, has_tls: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread is in a blocking call then. It must not delay the end of a command."""
    monkeypatch.setattr(mqtt_client, "BROKER_CONNECT_SECONDS", 3600.0)

    async def stay_silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await read_to_the_end(reader)

    async with false_broker(tmp_path, stay_silent, has_tls=has_tls) as broker:
        task = asyncio.ensure_future(connect(broker))
        await until(lambda: broker.connections)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: broker.ended == 1)
        await asyncio.get_running_loop().shutdown_default_executor()


async def test_a_broker_that_reads_nothing_does_not_delay_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt_client, "BROKER_CLOSE_SECONDS", 0.05)

    async def accept_only(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accept_client(reader, writer)
        release = asyncio.Event()
        waiting.append(release)
        await release.wait()

    waiting: list[asyncio.Event] = []
    async with false_broker(tmp_path, accept_only) as broker:
        async with Broker.connect(broker.server()) as client:
            publishing = asyncio.ensure_future(_publish_until_it_fails(client))
            await asyncio.sleep(0.05)
            assert not publishing.done()
            skip_time(60)
        with pytest.raises(BrokerError):
            await publishing
        for release in waiting:
            release.set()
        await until(lambda: broker.ended == 1)


async def _read_all(client: Broker, received: list[tuple[str, bytes]]) -> None:
    async for message in client.messages():
        received.append(message)  # noqa: PERF401  # what came before the error counts


async def _publish_until_it_fails(client: Broker) -> None:
    while True:
        await client.publish("a/b", bytes(65536))
        await asyncio.sleep(0)
