"""Bridge between devices and an MQTT broker. It needs the package `aiomqtt`.

    python3 mqtt_bridge.py --broker 127.0.0.1 kitchen:/lamp kitchen:/temperature

Each resource is observed, and each state is published, retained, on `handfast/kitchen/lamp`.
A message on `handfast/kitchen/lamp/set` is sent to the device as a PUT.

Anyone who may publish on these topics acts with the rights that the devices give to this client.
Pair the bridge as a user with a role of its own, give that role only what the bridge needs, and
restrict the topics at the broker.
"""

import argparse
import asyncio
import logging
import sys

import aiomqtt

from handfast import Client, Device, PeerError

PREFIX = "handfast"
RETRY_SECONDS = 5.0

log = logging.getLogger("mqtt_bridge")


def topic_of(alias: str, path: str) -> str:
    """Return the topic of a resource."""
    return f"{PREFIX}/{alias}{path}"


async def publish(mqtt: aiomqtt.Client, client: Client, alias: str, path: str) -> None:
    """Observe a resource indefinitely, and publish each state; connect again after a failure."""
    while True:
        try:
            device = await client.connect(alias)
            async for state in device.observe(path):
                await mqtt.publish(topic_of(alias, path), state.payload, retain=True)
        except PeerError as error:
            log.warning("%s%s: %s %s", alias, path, error, error.advice)
        await asyncio.sleep(RETRY_SECONDS)


async def obey(mqtt: aiomqtt.Client, client: Client, targets: dict[str, tuple[str, str]]) -> None:
    """Send each message on a `set` topic to its device."""
    for topic in targets:
        await mqtt.subscribe(topic)
    async for message in mqtt.messages:
        alias, path = targets[str(message.topic)]
        try:
            device: Device = await client.connect(alias)
            await device.put(path, bytes(message.payload))
        except PeerError as error:
            log.warning("PUT %s%s: %s %s", alias, path, error, error.advice)


async def bridge(broker: str, port: int, resources: list[tuple[str, str]]) -> None:
    """Run until the connection to the broker is lost."""
    targets = {f"{topic_of(alias, path)}/set": (alias, path) for alias, path in resources}
    async with (
        Client() as client,
        aiomqtt.Client(broker, port) as mqtt,
        asyncio.TaskGroup() as all_,
    ):
        for alias, path in resources:
            all_.create_task(publish(mqtt, client, alias, path))
        all_.create_task(obey(mqtt, client, targets))


def resource(text: str) -> tuple[str, str]:
    """Split `kitchen:/lamp` into the alias and the path."""
    alias, colon, path = text.partition(":")
    if not alias or not colon or not path.startswith("/"):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form DEVICE:/PATH")
    return alias, path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Bridge between devices and an MQTT broker.")
    parser.add_argument("--broker", default="127.0.0.1", help="address of the broker")
    parser.add_argument("--port", type=int, default=1883, help="port of the broker")
    parser.add_argument("resources", nargs="+", type=resource, metavar="DEVICE:/PATH")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    try:
        asyncio.run(bridge(given.broker, given.port, given.resources))
    except* aiomqtt.MqttError as errors:
        sys.exit(f"mqtt_bridge: {errors.exceptions[0]}")
    except* KeyboardInterrupt:
        pass
