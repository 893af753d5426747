"""Status of the agent of remote reach."""

from typing import TYPE_CHECKING

from device_app.remote.views import BrokerStateView, RemotePathView, RemoteView
from iam.model import State

if TYPE_CHECKING:  # it needs packages of the extra `remote`
    from peer.remote.agent_view import AgentView, BrokerView, PathView


def view_of(found: "AgentView", users: State, *, clients: int, trouble: str) -> RemoteView:
    """Return the state of an agent.

    Args:
        found: the state as the agent has it.
        users: who has the keys of its paths.
        clients: how many keys can connect.
        trouble: what `health` reports, empty if there is nothing.
    """
    public = found.network.public_address
    return {
        "state": found.state.value,
        "since_seconds": round(found.since_seconds, 1),
        "why": found.why,
        "trouble": trouble,
        "broker": found.broker,
        "brokers": [_broker_view(one) for one in found.brokers],
        "public_address": str(public) if public is not None else "",
        "udp": found.network.has_udp,
        "clients": clients,
        "paths": [_path_view(one, users) for one in found.paths],
        "counters": dict(sorted(found.counters.items())),
    }


def _broker_view(one: "BrokerView") -> BrokerStateView:
    return {
        "url": one.url,
        "state": one.state.value,
        "since_seconds": round(one.since_seconds, 1),
        "why": one.why,
    }


def _path_view(one: "PathView", users: State) -> RemotePathView:
    user = users.user_of(one.key.hex)
    return {
        "user": None if user is None else user.name,
        "fingerprint": one.key.hex,
        "path": one.route.value if one.is_live else "",
        "address": str(one.address),
        "live": one.is_live,
        "age_seconds": round(one.age_seconds, 1),
    }
