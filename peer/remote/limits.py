"""Every bound of remote reach: the limits of the protocol (docs/protocol.md §8), and internal ones.

`RemoteLimits` is passed in as an argument; `DEFAULT_REMOTE_LIMITS` is the default of such an
argument. The constants below it are fixed by the wire format, or internal to this implementation.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class RemoteLimits:
    """The limits of remote reach. Units are in the names; a name without one is a count."""

    # The device's rendezvous (protocol §10.4).
    challenge_seconds: float = 10.0  # how long an offer may use a challenge
    remote_challenges: int = 32  # challenges that no offer has used yet
    connect_requests_per_second: float = 0.5  # of one key
    connect_request_burst: int = 10  # and the burst above that rate
    all_connect_requests_per_second: float = 20.0  # of all keys together
    all_connect_request_burst: int = 40  # and the burst above that rate
    remote_paths: int = 16  # paths in all
    remote_paths_per_key: int = 4  # paths of one key
    gatherings: int = 4  # offers for which the device gathers candidates at the same time
    gathering_seconds: float = 10.0  # the longest gathering of one side
    check_seconds: float = 15.0  # from the answer until a carrier works
    relay_head_seconds: float = 0.15  # from the answer until the device checks its second carrier

    # The client's rendezvous (protocol §10.5).
    connect_request_again_seconds: float = 1.5  # a request is repeated after once and twice this
    connect_request_seconds: float = 6.0  # and when the client gives up
    offer_again_seconds: float = 2.0  # an offer is repeated after once and twice this
    offer_seconds: float = 8.0  # and when the client gives up
    remote_delay_seconds: float = 0.8  # the head start of the LAN and of known addresses

    # A path (protocol §10.6).
    relay_linger_seconds: float = 10.0  # a relay is kept this long after a direct carrier works
    path_grace_seconds: float = 60.0  # a path without a carrier lasts this long
    path_idle_seconds: float = 300.0  # and one without traffic, observations and tunnels
    probe_idle_seconds: float = 15.0  # silence after which a client sends a CoAP ping
    probe_wait_seconds: float = 3.0  # time to answer that ping

    # The broker, and what the device learns about its network.
    attach_max_seconds: float = 300.0  # the longest pause before the next attempt at a broker
    keep_alive_seconds: float = 60.0  # of the MQTT connection
    probe_seconds: float = 3600.0  # between two STUN probes of the public address

    # Tunnels.
    stream_window_bytes: int = 1_048_576  # sent ahead of the reader, per stream
    session_window_bytes: int = 4_194_304  # and the windows of all streams of a session
    small_window_bytes: int = 65_536  # the window of a stream beyond that
    streams_per_session: int = 32  # open streams of one session
    streams: int = 128  # and of the device
    tunnels_per_session: int = 8  # tunnels of one session
    dial_seconds: float = 5.0  # time for the TCP connection to a service
    stream_header_seconds: float = 5.0  # time for the header of a stream to arrive
    stream_connections: int = 64  # QUIC connections of one session, one after the other
    streams_ready_seconds: float = 10.0  # time for the QUIC handshake
    streams_ping_seconds: float = 15.0  # silence after which a client sends a QUIC PING
    streams_idle_seconds: float = 90.0  # silence after which the QUIC connection ends


DEFAULT_REMOTE_LIMITS = RemoteLimits()


# -- fixed by the wire format (docs/handfast.cddl, docs/protocol.md §10) --------------------------

PAIR_SECRET_BYTES: Final = 32
"""The secret of a device and one client key."""
PLAINTEXT_BYTES: Final = (128, 512, 1024, 2048, 4096)
"""The sizes to which a message is padded before it is sealed."""
MAX_SEALED_BYTES: Final = 4124
"""The longest sealed message: a nonce, the longest plaintext, a tag."""
MAX_CANDIDATES: Final = 12
"""Candidates of one carrier."""
MIN_CANDIDATE_CHARS: Final = 20
"""The shortest candidate attribute (RFC 8839 §5.1)."""
MAX_CANDIDATE_CHARS: Final = 160
"""The longest candidate attribute."""
MIN_UFRAG_CHARS: Final = 4
"""RFC 8839 §5.4."""
MAX_UFRAG_CHARS: Final = 32
"""An ICE user name fragment."""
MIN_PASSWORD_CHARS: Final = 22
"""RFC 8839 §5.4."""
MAX_PASSWORD_CHARS: Final = 64
"""An ICE password."""
MAX_CHALLENGE_ADDRESSES: Final = 8
"""Addresses of a device in one challenge."""
MAX_ADDRESS_CHARS: Final = 260
"""An address in the form host:port."""
MAX_REVISION: Final = 2**32 - 1
"""The revision of the remote settings has 32 bits."""
MAX_REFUSAL_SECONDS: Final = 86_400
"""The longest pause that a refusal asks for."""
MAX_GENERATION: Final = 2**32 - 1
"""The generation of the pair secrets has 32 bits."""
MAX_SETTINGS_BYTES: Final = 8192
"""The body of GET /remote."""
MAX_SERVERS: Final = 4
"""Brokers, STUN servers, or TURN servers in the remote settings."""
MAX_SERVER_URL_CHARS: Final = 260
"""The URL of a broker or a TURN server."""
MAX_USERNAME_CHARS: Final = 128
"""The user name at a broker or a TURN server."""
MAX_SERVER_PASSWORD_CHARS: Final = 256
"""The password at a broker or a TURN server."""
MAX_PREFIX_CHARS: Final = 160
"""The prefix of the topics."""
REPLAY_WINDOW_FLIGHTS: Final = 64
"""Counters of sealed flights that a receiver remembers (RFC 6347 §4.1.2.6)."""

# -- bounds of this implementation, which the protocol does not name ------------------------------

OFFER_REPEATS: Final = 4
"""Repeats of one connect request or one offer that a device answers."""
RETRY_SECONDS: Final = 2
"""After this time a client may try again that was refused because others were being answered."""
RATED_KEYS: Final = 256
"""Client keys whose rate of connect requests is remembered; the least recent one is dropped."""
STREAM_READ_BYTES: Final = 65_536
"""Bytes of a stream that a reader takes ahead of the application; twice that stops the peer."""
STREAM_UNSENT_BYTES: Final = 65_536
"""Bytes that wait to be sent on a stream before its writer has to wait."""
COPY_BYTES: Final = 65_536
"""Bytes that one step of a copy between a stream and a TCP connection reads."""
MESSAGES_PER_TURN: Final = 64
"""Messages of a broker that are processed before other tasks run."""
QUEUED_MESSAGES: Final = 64
"""Messages that wait to be sent to a broker; further ones are dropped."""
RENEWAL_PAUSE_SECONDS: Final = 1.0
"""The pause after a path could not get new carriers. It doubles with each failure."""

# -- brokers --------------------------------------------------------------------------------------

BROKER_CONNECT_SECONDS: Final = 5.0
"""Each of TCP, the handshake of TLS, and the answer to CONNECT."""
BROKER_ANSWER_SECONDS: Final = 5.0
"""The answer to SUBSCRIBE, and the arrival of a message to oneself."""
BROKER_CLOSE_SECONDS: Final = 1.0
"""Until a broker has accepted DISCONNECT; then the connection is closed."""
BROKER_THREAD_SECONDS: Final = 0.1
"""Until the thread that logs in notices that its connection was shut down."""
BROKER_INBOX_MESSAGES: Final = 64
"""Messages that were received and not yet read; newer ones are dropped."""
BROKER_TOPIC_CHARS: Final = 512
"""A message with a longer topic is dropped: the protocol has none."""
BROKER_PACKET_BYTES: Final = 262_144
"""A broker that announces a longer packet is disconnected. MQTT allows 256 MB."""
BROKER_CALLS: Final = 16
"""Calls to one broker at the same time; further ones wait."""
TOPICS_PER_PACKET: Final = 50
"""Topics in one SUBSCRIBE or UNSUBSCRIBE."""


# -- ICE ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class IceLimits:
    """The limits of one ICE connection. Units are in the names; a name without one is a count."""

    gather_seconds: float = 1.0  # for the answers of STUN servers
    gather_more_seconds: float = 0.2  # for further answers after the first
    allocate_seconds: float = 5.0  # for an allocation at a relay
    next_relay_seconds: float = 0.4  # the head start of a relay over the next one in the list
    local_addresses: int = 8  # of this machine; with 12 remote ones less than 100 pairs (RFC 8445)
    peer_reflexive: int = 4  # source addresses of checks that the peer did not announce
    early_datagrams: int = 32  # received before `connect` returns
    consent_seconds: float = 5.0  # between two consent checks (RFC 7675 §5.1)
    consent_repeats: int = 3  # of a consent check that is not answered
    consent_lost_seconds: float = 30.0  # without an answer, the connection is lost
    close_seconds: float = 2.5  # to give an allocation back
    relay_sends: int = 16  # datagrams that wait for a channel at a relay
    relay_buffer_bytes: int = 262_144  # datagrams that wait for a slow TCP connection to a relay


DEFAULT_ICE_LIMITS = IceLimits()

CHANNEL_REFRESH_SECONDS: Final = 240
"""A channel at a relay is refreshed with the next datagram after this time.

aioice waits 500 seconds. A permission lasts 300 (RFC 8656 §9), and not every relay prolongs it with
the channel.
"""
LEAST_CANDIDATE_PORT: Final = 1024
"""No check is sent to a lower port, where other services listen."""
BUSY_REPEATS: Final = 3
"""A client tries again so often that a device refuses because it is busy."""
BUSY_SECONDS: Final = 5
"""And only if the device tells it to try again within this time."""
