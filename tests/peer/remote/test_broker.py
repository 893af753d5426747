"""Connections to brokers: Mosquitto and NATS, over TLS with a pin."""

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from peer.remote.broker import Broker
from peer.remote.errors import BrokerError, ServerFailure
from peer.remote.limits import BROKER_INBOX_MESSAGES, MAX_SEALED_BYTES
from peer.remote.mqtt_client import Inbox, log_out
from peer.remote.settings import Server
from peer.secret import Secret
from tests.kit.brokers import RunningBroker, mosquitto, nats
from tests.kit.server_process import free_port
from tests.kit.waiting import until

pytestmark = pytest.mark.needs_tool("mosquitto", "mosquitto_passwd", "nats-server")

TOPIC = "hf1/home/d/abc"


@pytest.fixture(scope="module", params=[mosquitto, nats], ids=["mosquitto", "nats"])
def broker(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningBroker]:
    with request.param(tmp_path_factory.mktemp("broker")) as running:
        yield running


async def failure(server: Server) -> BrokerError:
    with pytest.raises(BrokerError) as caught:
        async with Broker.connect(server):
            pass
    return caught.value


async def test_a_message_reaches_the_subscribers_of_its_topic(broker: RunningBroker) -> None:
    async with Broker.connect(broker.server()) as device, Broker.connect(broker.server()) as client:
        await device.subscribe([TOPIC, "hf1/home/d/other"])
        await client.publish(TOPIC, b"\x00sealed\xff")
        messages = device.messages()
        assert await anext(messages) == (TOPIC, b"\x00sealed\xff")
        await device.unsubscribe([TOPIC])
        await client.publish(TOPIC, b"not any more")
        await client.publish("hf1/home/d/other", b"the last")
        assert await anext(messages) == ("hf1/home/d/other", b"the last")


async def test_many_topics_are_subscribed_and_left(broker: RunningBroker) -> None:
    topics = [f"hf1/home/d/{number}" for number in range(120)]
    async with Broker.connect(broker.server()) as device:
        await device.subscribe(topics)
        messages = device.messages()
        for topic in (topics[0], topics[60], topics[119]):
            await device.publish(topic, topic.encode())
            assert await anext(messages) == (topic, topic.encode())
        await device.unsubscribe(topics)


async def test_a_connection_hears_itself(broker: RunningBroker) -> None:
    async with Broker.connect(broker.server()) as device:
        await device.subscribe([TOPIC])
        assert 0 < await device.hears_itself("hf1/home/e/own") < 5
        await device.publish(TOPIC, b"the test message is not among the messages")
        assert (await anext(device.messages()))[0] == TOPIC


async def test_a_topic_of_another_account_is_not_heard(broker: RunningBroker) -> None:
    """NATS refuses the subscription; Mosquitto grants it, and delivers nothing."""
    async with Broker.connect(broker.server()) as device:
        with pytest.raises(BrokerError) as caught:
            await device.hears_itself("hf1/neighbour/e/x", wait_seconds=0.2)
    assert caught.value.reason in {ServerFailure.NOT_HEARD, ServerFailure.REFUSED}
    assert caught.value.advice


class Answering:
    """A client of aiomqtt whose answers come together with a cancellation, which it drops.

    So does `asyncio.wait_for` of Python 3.11, with which aiomqtt waits.
    """

    def __init__(self, answer: object) -> None:
        self.is_asked = asyncio.Event()
        self._answer = answer

    async def _answered(self, *_args: object, **_options: object) -> object:
        if self.is_asked.is_set():  # what cleans up is not cancelled
            return ()
        self.is_asked.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer

    publish = subscribe = unsubscribe = __aexit__ = _answered


@pytest.mark.parametrize("answer", [(), aiomqtt.MqttError("gone")], ids=["answer", "error"])
@pytest.mark.parametrize(
    "use",
    [
        lambda client: Broker(client, Inbox(1), "it").publish(TOPIC, b"x"),
        lambda client: Broker(client, Inbox(1), "it").subscribe([TOPIC]),
        lambda client: Broker(client, Inbox(1), "it").unsubscribe([TOPIC]),
        lambda client: Broker(client, Inbox(1), "it").hears_itself(TOPIC),
        log_out,
    ],
    ids=["publish", "subscribe", "unsubscribe", "hears_itself", "log_out"],
)
async def test_no_cancellation_is_lost_while_a_broker_answers(
    use: Callable[[Any], Coroutine[Any, Any, object]], answer: object
) -> None:
    client = Answering(answer)
    task = asyncio.create_task(use(client))
    await client.is_asked.wait()
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()


async def test_another_account_receives_none_of_the_messages(broker: RunningBroker) -> None:
    async with (
        Broker.connect(broker.server()) as device,
        Broker.connect(broker.server("neighbour")) as other,
    ):
        for topic in ("hf1/home/#", "#", TOPIC):
            with contextlib.suppress(BrokerError):  # NATS refuses, Mosquitto does not deliver
                await other.subscribe([topic])
        await other.subscribe(["hf1/neighbour/d/x"])
        await device.hears_itself("hf1/home/e/own")
        await device.publish(TOPIC, b"secret")
        await device.hears_itself("hf1/home/e/own")  # so the broker has delivered it
        await other.publish("hf1/neighbour/d/x", b"own")
        assert await anext(other.messages()) == ("hf1/neighbour/d/x", b"own")


async def test_a_wrong_password_is_refused(broker: RunningBroker) -> None:
    server = broker.server()
    wrong = Server(server.url, "home", Secret("wrong"), server.pin)
    error = await failure(wrong)
    assert error.reason is ServerFailure.REFUSED
    assert "wrong" not in str(error)


async def test_another_key_than_the_pinned_one_is_refused(broker: RunningBroker) -> None:
    assert (await failure(broker.server(pin=b"\x01" * 32))).reason is ServerFailure.PIN_MISMATCH


async def test_without_a_pin_a_trusted_certificate_is_required(broker: RunningBroker) -> None:
    error = await failure(broker.server(pin=b""))
    assert error.reason is ServerFailure.TLS_FAILED
    assert "certificate" in str(error)


async def test_without_a_pin_a_certificate_of_a_trusted_authority_is_accepted(
    broker: RunningBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(broker.tls.certificate))
    async with Broker.connect(broker.server(pin=b"")) as device:
        await device.hears_itself("hf1/home/e/own")


async def test_two_connections_of_one_account_do_not_end_each_other(broker: RunningBroker) -> None:
    async with Broker.connect(broker.server()) as one, Broker.connect(broker.server()) as two:
        await one.hears_itself("hf1/home/e/1")
        await two.hears_itself("hf1/home/e/2")
        await one.hears_itself("hf1/home/e/1")


async def test_a_long_message_is_dropped_and_a_full_inbox_keeps_the_first_ones(
    broker: RunningBroker,
) -> None:
    async with Broker.connect(broker.server()) as device, Broker.connect(broker.server()) as other:
        await device.subscribe([TOPIC])
        await other.publish(TOPIC, bytes(MAX_SEALED_BYTES + 1))
        await other.publish(TOPIC, bytes(MAX_SEALED_BYTES))
        for number in range(BROKER_INBOX_MESSAGES + 10):
            await other.publish(TOPIC, b"%d" % number)
        await until(lambda: device.dropped == 12)
        messages = device.messages()
        assert await anext(messages) == (TOPIC, bytes(MAX_SEALED_BYTES))
        for number in range(BROKER_INBOX_MESSAGES - 1):
            assert await anext(messages) == (TOPIC, b"%d" % number)


async def test_the_end_of_the_broker_ends_the_messages(tmp_path: Path) -> None:
    with mosquitto(tmp_path) as broker:
        async with Broker.connect(broker.server()) as device:
            await device.subscribe([TOPIC])
            reading = asyncio.ensure_future(anext(device.messages()))
            await asyncio.sleep(0)
            broker.process.stop()
            with pytest.raises(BrokerError, match="was lost"):
                await reading
            with pytest.raises(BrokerError):
                await device.publish(TOPIC, b"too late")
        broker.process.start()
        async with Broker.connect(broker.server()) as device:
            await device.hears_itself("hf1/home/e/own")


async def test_a_broker_that_falls_silent_is_noticed_by_the_keep_alive(tmp_path: Path) -> None:
    with mosquitto(tmp_path) as broker:
        async with Broker.connect(broker.server(), keep_alive=1) as device:
            os.kill(broker.process.pid, signal.SIGSTOP)
            with pytest.raises(BrokerError, match="was lost"):
                await anext(device.messages())


async def test_a_websocket_is_used_with_the_same_pin(tmp_path: Path) -> None:
    with nats(tmp_path) as broker:
        server = broker.websocket_server()
        async with Broker.connect(server) as device:
            await device.hears_itself("hf1/home/e/own")
        other = Server(server.url, server.username, server.password, b"\x01" * 32)
        assert (await failure(other)).reason is ServerFailure.PIN_MISMATCH


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
async def test_a_broker_that_is_not_there_is_unreachable(host: str) -> None:
    error = await failure(Server(f"mqtts://{host}:{free_port('127.0.0.1')}"))
    assert error.reason is ServerFailure.UNREACHABLE
    assert error.exit_code == 3


async def test_an_error_names_the_address_of_the_broker() -> None:
    assert "[::1]:1" in str(await failure(Server("mqtts://[::1]:1")))


async def test_nothing_is_logged_and_no_password_is_in_an_error(
    broker: RunningBroker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with Broker.connect(broker.server()) as device:
        await device.hears_itself("hf1/home/e/own")
    assert [one for one in caplog.records if one.name.startswith("peer")] == []
