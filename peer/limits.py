"""Every bound of `peer`: the limits of the protocol (docs/protocol.md §8), and internal ones.

`Limits` has what the protocol states. It is passed in as an argument; `DEFAULT_LIMITS` is the
default of such an argument. The constants below it are internal to this implementation.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of the protocol. Units are in the names; a name without one is a count."""

    # The pairing window (protocol §4).
    window_seconds: float = 120.0  # how long a window stays open
    window_max_seconds: float = 900.0  # the longest window
    first_boot_window_seconds: float = 300.0  # the window of a board that has no owner yet
    window_linger_seconds: float = 10.0  # the port stays open this long after a success
    window_failures: int = 3  # failed ceremonies that close the window
    step_seconds: float = 60.0  # time of a program for one protocol step
    person_seconds: float = 120.0  # time of a user to answer
    backoff_after: int = 10  # failures since the last success that start the back-off
    backoff_base_seconds: float = 30.0  # the first back-off; doubles each time
    backoff_max_seconds: float = 86_400.0  # the longest back-off
    printed_code_failures: int = 20  # consecutive failures that disable a printed code

    # Sessions (protocol §8).
    half_open: int = 64  # half-open handshakes
    half_open_reserve: int = 16  # of these, for addresses from which a known key connected
    half_open_kept_seconds: float = 0.5  # before: evicted only for a network that has fewer
    known_hosts: int = 256  # addresses remembered from which a known key connected
    handshake_seconds: float = 60.0  # the longest handshake
    handshake_again_seconds: float = 4.0  # time after which a client starts another handshake
    handshake_attempts: int = 4  # handshakes of a client with one address at the same time
    connect_seconds: float = 20.0  # a client waits this long for a session
    resumable_sessions: int = 32  # devices whose last session a client remembers for resumption
    unpaired_sessions: int = 16  # established sessions of unknown keys
    unpaired_kept_seconds: float = 1.0  # before: evicted only for a network that has fewer
    unpaired_idle_seconds: float = 30.0  # idle time of such a session
    sessions: int = 64  # established sessions in all
    session_idle_seconds: float = 86_400.0  # idle time of any other session
    sessions_per_key: int = 8  # sessions of one key; a new one replaces only one that is not in use
    session_unused_seconds: float = 60.0  # idle time after which it may, without an observation
    session_probe_seconds: float = 5.0  # time to answer a ping, before a session counts as dead
    refused_sessions: int = 8  # sessions that are only told that there are too many
    refused_seconds: float = 10.0  # how long each of them lasts
    session_reserve: int = 4  # sessions of `sessions` that only the highest priority may use
    handshakes_per_second: float = 20.0  # per source address, after a valid cookie
    handshake_burst: int = 50  # and the burst above that rate
    handshake_port_share: float = 0.2  # a factor of both, for one port of an address
    handshake_network_share: float = 4.0  # a factor of both, for a network (/24 or /64)
    handshake_total_share: float = 10.0  # a factor of both, for all sources together
    rate_sources: int = 1024  # sources remembered for that rate, at each of these levels
    handshake_amplification: float = 8.0  # bytes sent in a half-open handshake, per byte received
    cookie_key_seconds: float = 60.0  # the life of a cookie key; the previous one stays valid

    # Messages.
    payload_mtu: int = 1200  # bytes of UDP payload that are sent
    message_bytes: int = 1472  # a received CoAP message: the UDP payload of an Ethernet frame
    message_options: int = 64  # and its options
    message_option_bytes: int = 1024  # and their length, with their numbers
    request_body_bytes: int = 65_536  # a reassembled request body on the regular port
    unpaired_body_bytes: int = 1_024  # and of an unknown key: the token of an invite
    answer_body_bytes: int = 1_048_576  # a response that a client accepts, in blocks or not
    pairing_body_bytes: int = 4_096  # and on the pairing port
    block_assemblies: int = 8  # half-received bodies, and half-sent responses, of one session
    block_bytes: int = 262_144  # and their bytes; the newest is stored whatever its size
    dedup_window: int = 256  # Message IDs remembered per session (RFC 7252 §4.5)
    dedup_bytes: int = 131_072  # and the memory for them: requests and answers
    ack_timeout_seconds: float = 1.5  # ACK_TIMEOUT (RFC 7252 §4.8), doubled with each repeat
    max_retransmit: int = 6  # MAX_RETRANSMIT: two more than in the RFC, for lossy radio links
    exchange_seconds: float = 247.0  # EXCHANGE_LIFETIME (RFC 7252 §4.8.2)
    announced_addresses: int = 64  # addresses that a client tries because they were announced
    announced_addresses_each: int = 8  # and of one advert
    requests_per_session: int = 32  # requests in progress of one session
    observations_per_session: int = 32  # observations of one session
    observations_per_key: int = 32  # observations of one key over all its sessions
    cbor_depth: int = 32  # nesting of received CBOR
    json_depth: int = 32  # and of received JSON
    name_max: int = 64  # characters of a name that a client proposes


DEFAULT_LIMITS = Limits()


# -- bounds of this implementation, which the protocol does not name ------------------------------

PARSED_ADDRESSES: Final = 1024
"""IP addresses whose canonical text is cached."""
REMEMBERED_CERTIFICATES: Final = 64
"""Certificates whose fingerprints are remembered; the oldest is dropped."""
REMEMBERED_CERTIFICATE_BYTES: Final = 1024
"""A longer certificate is read each time. One of handfast has about 400 bytes."""
EVICTION_CANDIDATES: Final = 64
"""Holders of a full table that are looked at for one newcomer: all of them, with the default
limits. In a larger table the next newcomer looks at the next ones."""
HANDSHAKE_MESSAGE_BYTES: Final = 2**14
"""A handshake message of a peer, in any number of fragments; a longer one is dropped."""
MAX_DATAGRAM_BYTES: Final = 13 + 2**14 + 2048
"""The largest DTLS 1.2 record (RFC 6347 §4.1). A longer datagram is dropped and counted."""
DATAGRAMS_PER_WAKE_UP: Final = 64
"""Datagrams that a socket reads before other tasks run."""
SINGLE_DATAGRAMS: Final = 8
"""Wake-ups with one datagram each, after which a socket looks for a second one."""
SOCKET_MEMORIES: Final = 256
"""Addresses and kinds of arrival of which the parsed form is cached; the oldest is dropped."""
MAX_LOGGED_PEERS: Final = 256
"""Peers whose failing datagrams are logged; further failures are only counted."""

LOCALITY_TABLE_SECONDS: Final = 2.0
"""The oldest table of interfaces by which a datagram may count as local."""
LOCALITY_DOUBT_SECONDS: Final = 0.25
"""The oldest table by which one may count as not local: an address may be new. It also bounds how
often datagrams from elsewhere make the device read the table."""
LOCALITY_VERDICTS: Final = 256
"""Verdicts that are remembered until the table is read again."""
INTERFACE_DEPTH: Final = 8
"""Interfaces stacked on each other that are followed; as in the kernel (MAX_NEST_DEV)."""
NETLINK_SECONDS: Final = 1.0
"""How long the kernel may take to answer."""
NETLINK_DUMPS: Final = 3
"""Attempts to read a table that changes meanwhile."""
NETLINK_ROUTES: Final = 256
"""Routes of the main table. If it has more, none of them makes a prefix on-link: reading and
comparing them would take too long."""
ON_LINK_BITS: Final = 8
"""The shortest prefix that can be on-link. A shorter one is a default route or a part of one."""
CONNECT_ROUND_TRIPS: Final = 8
"""Round trips that a client waits for a session, if that is longer than `connect_seconds`: the four
of a handshake with its cookie, and as many for lost datagrams."""
FREEING_SECONDS: Final = 3.0
"""A client that is closed waits so long for its relays and brokers to be given back."""
SESSIONS_JUDGED_PER_STEP: Final = 256
"""Sessions that are looked at in one turn of the event loop when rights have changed."""
SESSIONS_ENDED_PER_STEP: Final = 8
"""Sessions that are ended in one turn of the event loop when rights have changed."""
TIMER_FLOOR_SECONDS: Final = 0.001
"""The shortest timer of a handshake: one that fires early is set again, but not in a busy loop."""
DEDUP_WHOLE_BYTES: Final = 256
"""A longer request is remembered as its digest."""
PARSED_OPTIONS: Final = 256
"""Parsed option sequences of plain requests that a server remembers."""
PARSED_OPTIONS_BYTES: Final = 128
"""The longest option sequence that is remembered."""
ENCODED_ANSWERS: Final = 64
"""Encoded answers to plain requests that a server remembers."""
ENCODED_ANSWER_BYTES: Final = 256
"""The longest encoded answer that is remembered."""
COAP_OVERHEAD_BYTES: Final = 100
"""Header, token and options of a message with a block, approximately."""

MAX_ADVERTS: Final = 256
"""Service names that a search remembers; the oldest is dropped."""
MAX_ALIKE_RECORDS: Final = 4
"""DNS records of one name and type that are cached, except addresses."""
MAX_HOST_ADDRESSES: Final = 32
"""Addresses of one host that are cached."""
MAX_ADVERT_ADDRESSES: Final = 16
"""Addresses of one device that are announced on one link, or taken from an announcement."""
MAX_MULTICAST_LINKS: Final = 20
"""Links on which a device is announced or searched for: the number of IPv4 groups that a socket can
join on Linux (net.ipv4.igmp_max_memberships)."""
MAX_LEGACY_TTL_SECONDS: Final = 10
"""The TTL in an answer to a resolver that does not listen on port 5353 (RFC 6762 §6.7)."""
MAX_TXT_BYTES: Final = 1024
"""A longer TXT record is not parsed."""
MAX_TXT_KEYS: Final = 32
"""Entries of a TXT record."""
MAX_DEVICE_NAME_CHARS: Final = 64
"""An announced device name."""
MAX_TTL_SECONDS: Final = 4500
"""The TTL that RFC 6762 §10 recommends for most records; a longer one is shortened to it."""
MAX_DNS_QUESTIONS: Final = 64
"""A message with more questions is dropped."""
MAX_DNS_RECORDS: Final = 256
"""A message with more records is dropped."""
MAX_RESOLVING: Final = 16
"""Devices asked for missing records at the same time, so that a flood of names causes no flood of
questions."""
RESOLVE_SECONDS: Final = 3.0
"""How long a search asks for the missing records of a device."""
ADDRESS_SETTLE_SECONDS: Final = 1.0
"""Changes of addresses within this time are announced together."""
MULTICAST_RETRY_SECONDS: Final = 5.0
"""When multicast DNS that failed is tried again. The pause doubles with each failure."""
MULTICAST_RETRY_MAX_SECONDS: Final = 300.0
"""The longest pause before multicast DNS that failed is tried again."""
ANNOUNCEMENT_REPEAT_SECONDS: Final = 1.2
"""When an announcement is repeated (RFC 6762 §8.3)."""
DUPLICATE_QUESTION_SECONDS: Final = 600.0
"""Between two questions of a device for its own name, which a copy of the device answers."""
DUPLICATE_CHECK_SECONDS: Final = 10.0
"""Between two checks of packets that seem to come from a copy of the device."""
DUPLICATE_OWN_ADDRESSES: Final = 1024
"""Own addresses that a device remembers after they have changed."""

BODY_BEGIN_SECONDS: Final = 0.25
"""How long the next notification waits for the client to fetch the second block of the last one."""
BODY_PAUSE_SECONDS: Final = 3.0
"""And for each further block: one lost datagram and its retransmission."""
EMPTY_ACK_SECONDS: Final = 0.01
"""A request that is not answered by then is acknowledged by an empty message (RFC 7252 §5.2.2)."""
PARALLEL_EMPTY_ACK_SECONDS: Final = 0.001
"""The same while the session has other requests in progress."""
SHARED_STATES: Final = 8
"""Renderings of one resource that are kept for other observers, until its next change."""
NOTIFICATION_IDS: Final = 8
"""Message IDs of an observation's last notifications, by which a client may reject it."""
ETAG_BYTES: Final = 8
"""The longest ETag (RFC 7252 §5.10.6)."""
NOTIFICATION_ORDER_SECONDS: Final = 128.0
"""Time after which a client takes any notification for newer than the last one (RFC 7641 §3.4)."""
OBSERVER_SILENT_SECONDS: Final = 30.0
"""A session that is silent for longer is ended if its key has too many observations."""
BODY_FETCHES: Final = 5
"""Attempts of a client to fetch the body of one notification."""
SESSION_RETRY_SECONDS: Final = 10
"""Max-Age of a refused session: after that, sessions that do not answer a ping have been found."""
RETRY_SECONDS: Final = 5
"""Max-Age of a 4.29 response: when a retry may succeed (RFC 8516)."""
MAX_PROBLEM_TEXT_BYTES: Final = 450
"""Each text of an error response that is sent: the response is one datagram, never in blocks."""
MAX_PROBLEM_TEXT_CHARS: Final = 500
"""Each text of an error response that a client keeps."""
RANDOM_SCALAR_DRAWS: Final = 64
"""Draws of one random scalar; each is out of range with a probability of 2^-32."""
MAX_ARMOURED_SYMBOLS: Final = 2048
"""The text of a label or an invite, with blanks; an invite has 619 symbols."""
MAX_LINKS: Final = 40
"""Symbolic links that lead to one file; Linux follows as many (path_resolution(7))."""
MAX_FINGERPRINT_CHARACTERS: Final = 1024
"""The text of a fingerprint, with separators and a prefix; it has 64 digits."""
MAX_COUNTED_FAILURES: Final = 1_000_000
"""Failed pairing attempts that a record counts; more change nothing."""
MAX_INVITE_ADDRESSES: Final = 6
"""Addresses in one invite."""
MAX_INVITE_ROLE_CHARS: Final = 64
"""The role in an invite."""
MAX_NAME_MARKS_IN_A_ROW: Final = 4
"""Combining marks on one letter of a name; no script needs more."""
