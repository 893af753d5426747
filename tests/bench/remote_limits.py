"""Limits of a device and a client that no measurement of remote reach exceeds."""

from dataclasses import replace
from typing import Final

from peer.limits import DEFAULT_LIMITS
from peer.remote.limits import DEFAULT_REMOTE_LIMITS

LIMITS: Final = replace(
    DEFAULT_LIMITS,
    sessions=256,
    sessions_per_key=64,
    handshakes_per_second=1000.0,
    handshake_burst=10_000,
)
REMOTE_LIMITS: Final = replace(
    DEFAULT_REMOTE_LIMITS,
    connect_requests_per_second=1000.0,
    connect_request_burst=10_000,
    all_connect_requests_per_second=1000.0,
    all_connect_request_burst=10_000,
    remote_paths=64,
    remote_paths_per_key=64,
)
HOST: Final = "127.0.0.1"
ALPN: Final = "bench"
"""The protocol name of aioquic alone."""
