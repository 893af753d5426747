"""Output of services and tunnels, as text and as JSON.

Importing this module registers the types with `render`; only the verbs that need it import it.
"""

from client_app.models import OpenTunnel, Services
from client_app.terminal.render import NEXT_STEPS, as_text
from peer.terminal.text import on_one_line

NEXT_STEPS[Services] = (
    "No services: the device offers you none. Its owner adds them in [tunnel.services]."
)


@as_text.register
def _(value: Services) -> str:
    return "\n".join(map(on_one_line, value.services))


@as_text.register
def _(value: OpenTunnel) -> str:
    host = f"[{value.host}]" if ":" in value.host else value.host
    return f"{on_one_line(value.service)} {host}:{value.port}"
