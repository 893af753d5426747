"""The state of remote reach as `status`, `remote` and `--json` have it. No view has a secret."""

from typing import TypedDict


class BrokerStateView(TypedDict):
    """The connection with one broker; `why` is the reason slug if it is not attached."""

    url: str
    state: str
    since_seconds: float
    why: str


class RemotePathView(TypedDict):
    """A path of a client: `path` is `direct` or `relay`, or empty before the first carrier."""

    user: str | None
    fingerprint: str
    path: str
    address: str
    live: bool
    age_seconds: float


class RemoteView(TypedDict):
    """Remote reach.

    `state` is `off` without a broker in the settings, `stopped` without a daemon, `trouble` if it
    cannot work before a person has done something, and otherwise the state of the best broker:
    `connecting`, `attached` or `waiting`. `why` is a reason slug, and `trouble` says it in a
    sentence with advice. `udp` is null before the network was probed. `clients` counts the keys
    that can connect.
    """

    state: str
    since_seconds: float
    why: str
    trouble: str
    broker: str
    brokers: list[BrokerStateView]
    public_address: str
    udp: bool | None
    clients: int
    paths: list[RemotePathView]
    counters: dict[str, int]


class SelfTestStep(TypedDict):
    """A step of `remote test`: its name, its server or service, its result, what to do next.

    `result` is `ok`, `failed` or `skipped`.
    """

    step: str
    target: str
    result: str
    detail: str
    advice: str


def plain_view(state: str, *, why: str = "", trouble: str = "") -> RemoteView:
    """Return the view of a device that is at no broker."""
    return {
        "state": state,
        "since_seconds": 0.0,
        "why": why,
        "trouble": trouble,
        "broker": "",
        "brokers": [],
        "public_address": "",
        "udp": None,
        "clients": 0,
        "paths": [],
        "counters": {},
    }
