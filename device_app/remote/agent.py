"""The agent of remote reach as its device uses it."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from peer.fingerprint import Fingerprint
from peer.remote.agent_needs import AgentNeeds
from peer.remote.pair_keys import PairKeys

if TYPE_CHECKING:  # they need packages of the extra `remote`
    from peer.net.server import CoapsServer
    from peer.remote.agent_view import AgentSettings, AgentView


class Agent(Protocol):
    """The part of `RemoteAgent` that the service uses."""

    async def apply(self, settings: "AgentSettings | None", /) -> None:
        """Begin with these settings, or stop."""

    def set_clients(self, clients: Mapping[Fingerprint, PairKeys], /) -> None:
        """Listen for these client keys only."""

    def end_client(self, key: Fingerprint, /) -> None:
        """End the paths of a key at once."""

    def view(self) -> "AgentView":
        """Return the state."""

    async def close(self) -> None:
        """End all paths, and disconnect."""


MakeAgent = Callable[["CoapsServer", AgentNeeds], Agent]
"""Makes the agent of a regular port. Raises `RemoteTrouble` if a package is not installed."""
