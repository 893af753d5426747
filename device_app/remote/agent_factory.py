"""Makes the agent of remote reach with real brokers and carriers. It needs the extra `remote`."""

import importlib.util
from typing import TYPE_CHECKING, Final

from device_app.remote.master_key import RemoteTrouble, TroubleReason

if TYPE_CHECKING:
    from device_app.remote.agent import Agent
    from peer.net.server import CoapsServer
    from peer.remote.agent_needs import AgentNeeds

_PACKAGES: Final = ("aioice", "aiomqtt")
INSTALL_ADVICE: Final = (
    "Install the extra `remote` where handfast is installed: `pip install 'handfast[remote]'`. "
    "Then start the daemon again."
)


def not_installed(error: ImportError) -> RemoteTrouble:
    """Return the error about a package of the extra that cannot be imported."""
    return RemoteTrouble(
        f"a package for remote reach is not installed ({error.name or error})",
        advice=INSTALL_ADVICE,
        reason=TroubleReason.NOT_INSTALLED,
    )


def import_extra() -> None:
    """Import the packages of the extra. Raises `RemoteTrouble` if one is not installed."""
    try:
        from peer.remote import network  # noqa: F401, PLC0415 - the extra, and slow to import
    except ImportError as error:
        raise not_installed(error) from error


def missing_package() -> str:
    """Return the name of a package of the extra that is not installed; none is imported."""
    return next((one for one in _PACKAGES if importlib.util.find_spec(one) is None), "")


def create_agent(server: "CoapsServer", needs: "AgentNeeds") -> "Agent":
    """Make an agent for the clients of a server. Raises `RemoteTrouble` without the extra."""
    import_extra()
    from peer.remote import network  # noqa: PLC0415 - the extra, and slow to import

    return network.create_agent(server, needs)
