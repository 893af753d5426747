"""The settings below `[remote]`: checks, defaults and contradictions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from device_app.errors import ConfigError
from device_app.settings import config
from device_app.settings.remote import RemoteOptions

if TYPE_CHECKING:
    from pathlib import Path

PIN = "ab" * 32
HOME = '[remote]\nbrokers = ["mqtts://broker.example"]\nusername = "kitchen"\n'


def load(tmp_path: Path, text: str) -> RemoteOptions:
    file = tmp_path / "device.toml"
    file.write_text(text)
    return config.load([file]).remote


def test_remote_reach_is_off_without_a_broker(tmp_path: Path) -> None:
    assert not load(tmp_path, "").is_on
    assert not load(tmp_path, "[remote]\n").is_on


def test_every_setting_of_remote_reach_is_read(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        HOME
        + f'broker_pin = "{PIN}"\npassword_file = "broker.password"\nprefix = "hf1/home"\n'
        + 'stun = ["relay.example", "[2001:db8::1]:3479"]\nturn = ["turns:relay.example"]\n'
        + 'turn_username = "k"\nturn_password_file = "/run/turn"\n'
        + f'turn_pin = ["{PIN}"]\nrelay = false\n',
    )
    assert found == RemoteOptions(
        brokers=("mqtts://broker.example",),
        broker_pin=(bytes.fromhex(PIN),),
        username="kitchen",
        password_file="broker.password",
        prefix="hf1/home",
        stun=("relay.example:3478", "[2001:db8::1]:3479"),
        turn=("turns:relay.example",),
        turn_username="k",
        turn_password_file="/run/turn",
        turn_pin=(bytes.fromhex(PIN),),
        relay=False,
    )
    assert found.relays == ()
    assert found.is_on


def test_the_prefix_is_that_of_the_account_by_default(tmp_path: Path) -> None:
    assert load(tmp_path, HOME).topic_prefix == "hf1/kitchen"
    assert load(tmp_path, HOME + 'prefix = "a/b"\n').topic_prefix == "a/b"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('brokers = ["mqtt://broker.example"]', "remote.brokers has to be a list such as"),
        ('brokers = ["192.0.2.1"]', "'192.0.2.1' does not begin with mqtts:// or wss://"),
        ('brokers = ["mqtts://a:port"]', "or has no valid host and port"),
        ('brokers = ["https://broker.example"]', "remote.brokers has to be a list such as"),
        ('brokers = ["mqtts://anna:secret@broker.example"]', "has a URL with an account"),
        ('brokers = ["mqtts://a", "wss://b", "wss://c", "wss://d", "wss://e"]', "4 servers"),
        ('brokers = "mqtts://broker.example"', "has to be a list of text"),
        ('brokers = ["wss://a", "wss://a"]', "names a server twice"),
        ('broker_pin = "ab"', "remote.broker_pin is not valid"),
        ("broker_pin = 7", "remote.broker_pin has to be a list of text"),
        ('username = ""', "remote.username has to be text"),
        ('username = "a\\nb"', "remote.username has to be printable"),
        ('prefix = "hf1/#"', "remote.prefix has to be levels"),
        ('prefix = "/hf1"', "remote.prefix has to be levels"),
        ('stun = ["relay.example:0"]', "remote.stun has to be a list such as"),
        ('turn = ["relay.example"]', "remote.turn has to be a list such as"),
        ('turn = ["turns:relay.example?transport=udp"]', "remote.turn has to be a list such as"),
        ("relay = 1", "remote.relay has to be true or false"),
        ('password = "secret"', "no setting 'remote.password'"),
    ],
)
def test_a_wrong_value_is_an_error_with_its_line(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(ConfigError, match=r"device\.toml:3: ") as caught:
        load(tmp_path, f"[remote]\n\n{line}\n")
    assert words in str(caught.value)
    assert "secret@" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('[remote]\nusername = "k"\n', 2, "username has no effect without remote.brokers"),
        (HOME + 'turn_username = "k"\n', 4, "turn_username has no effect without remote.turn"),
        (
            '[remote]\nbrokers = ["wss://b"]\nprefix = "p"\npassword_file = "f"\n',
            4,
            "password_file has no effect without remote.username",
        ),
        ('[remote]\nbrokers = ["wss://b"]\n', 2, "brokers needs remote.username"),
        (HOME.replace("kitchen", "a/b"), 3, "username cannot be a part of a topic"),
        (HOME + 'turn = ["turn:relay.example"]\n', 4, "turn needs remote.turn_username"),
        (HOME + f'broker_pin = ["{PIN}", "{PIN}"]\n', 4, "has 2 pins for 1 servers"),
    ],
)
def test_settings_that_contradict_each_other_are_an_error_with_a_line(
    tmp_path: Path, text: str, line: int, words: str
) -> None:
    with pytest.raises(ConfigError, match=rf"device\.toml:{line}: ") as caught:
        load(tmp_path, text)
    assert words in str(caught.value)
