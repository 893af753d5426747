"""Bounds of the client: how much it keeps, and how long it waits.

The bounds of the protocol are in `peer.limits`.
"""

from typing import Final

from client_app.deadline import DefaultSeconds
from peer.limits import DEFAULT_LIMITS

# Discovery.
DISCOVERY_SECONDS: Final = 3.0  # one search on the LAN
DISCOVERY_DELAY_SECONDS: Final = 0.3  # head start of the stored addresses of a device
DISCOVERY_SETTLE_SECONDS: Final = 0.5  # announcements of a device that are shown as one change
PORT_DISCOVERY_SECONDS: Final = 1.0  # search for the regular port of a device that did not state it
ADVERTS: Final = 1024  # different announcements that one search keeps
SHARED_ID_SECONDS: Final = 5.0  # two devices that announce one ID within this time exist at once
SHARED_ID_STARTS: Final = 8  # starts of devices with one ID that a search remembers
SHARED_ID_ADDRESSES: Final = 8  # addresses that the notice of them lists
LISTED_DEVICES: Final = 16  # devices that an error lists

# Connections.
ATTEMPT_DELAY_SECONDS: Final = 0.25  # Connection Attempt Delay (RFC 8305 §5)
STATED_ADDRESSES: Final = 32  # addresses to try that no announcement named
SILENT_ATTEMPT_SECONDS: Final = 2.0  # silence after which an announced address counts as blocked
REPORTED_FAILURES: Final = 4  # failed addresses that an error lists
DIAGNOSIS_SECONDS: Final = 6.0  # one address in `doctor`: a ClientHello and two retransmissions

# Reaching a device from another network.
REMOTE_FETCH_SECONDS: Final = 3.0  # fetching the settings after a pairing
REMOTE_LINGER_SECONDS: Final = 0.25  # how long the end of a command waits for them, if due
REMOTE_NOTED_SECONDS: Final = 3_600  # age at which settings that are the same are stored again
REMOTE_RETRY_SECONDS: Final = 3_600  # after which a device that gave no settings is asked again
REMOTE_SETTINGS_BYTES: Final = 8_192  # the settings of one device, encoded
REMOTE_NUMBER: Final = 1 << 48  # a time or a revision in the file of settings
REMOTE_FILE_BYTES: Final = 16 << 20  # the file with the settings of all devices
REMOTE_ADDRESSES: Final = 8  # addresses that a device sends over the broker, to try as well
BROKER_CHECK_SECONDS: Final = 5.0  # a name or a TCP port of a broker, in `doctor`

# Calls. Each is the default of a `timeout`.
CONNECT_SECONDS: Final = DefaultSeconds(60.0)  # a search, and a session; a slow path takes long
REQUEST_SECONDS: Final = DefaultSeconds(30.0)  # a request, its queue, a new session, all blocks
LIST_SECONDS: Final = DefaultSeconds(120.0)  # a list, which may take many blocks

# Requests.
BUSY_REPEATS: Final = 1  # repeats of a request that a busy device has refused (4.29, 5.03)
PATHS_PARSED: Final = 128  # paths of requests whose segments are remembered
REQUEST_PING_SECONDS: Final = 5.0  # silence while a response is due until a ping
RESPONSE_BODY_BYTES: Final = DEFAULT_LIMITS.answer_body_bytes  # a CBOR body that is decoded
SILENT_SECONDS: Final = 10.0  # a session silent for this long is pinged before it is used
SESSION_RETRY_SECONDS: Final = 30.0  # the longest wait after one of them
SESSION_REFUSALS: Final = 5  # refusals of a session until the request fails with that error
PROBE_SECONDS: Final = 4.0  # the answer to a ping: one lost datagram and its retransmission
PATH_PROBE_SECONDS: Final = 8.0  # and over a path, which may be getting new carriers
PATH_GRACE_SECONDS: Final = 75.0  # while something is awaited; a path without carriers ends at 60
PROBE_ROUND_TRIPS: Final = 3  # round trips that it may take, if that is longer
OBSERVE_PING_SECONDS: Final = 15.0  # silence in an observation until a ping (RFC 8085 §3.5)
OBSERVE_GRACE_SECONDS: Final = 3.0  # time after a notification's Max-Age until a ping
OBSERVE_PAUSE_MAX_SECONDS: Final = 30.0  # the longest pause between two attempts to continue
OBSERVE_JITTER: Final = 0.5  # a pause is longer by this share at most, at random
OBSERVE_STABLE_SECONDS: Final = 30.0  # an observation that lasted so long is continued at once
EVENTS: Final = 50  # events that are read if no number is given
EVENTS_PAGE: Final = 100  # events that a device returns at a time
USERS_PAGE: Final = 100  # users that are asked for at a time

# Names.
ID_SYMBOLS_LEAST: Final = 4  # an alias of this length must not begin the ID of another device

# Pairing.
PAIRING_POLL_SECONDS: Final = 1.0  # between two requests for the state of a pairing
PAIRING_RECONNECTS: Final = 3  # replacements of a session that ends before the pairing starts
TARGET_CHARACTERS: Final = 253  # a host name (RFC 1035 §2.3.4)
INPUT_BYTES: Final = 4096  # a typed invite, label or code; an invite has 619 characters at most
PICTURE_HEAD_BYTES: Final = 1024  # the beginning of a picture file, which tells its kind
LISTED_RESOURCES: Final = 1000  # resources of a device that are listed
PICTURE_FRAMES: Final = 16  # images of an animated picture that are searched
PICTURE_BYTES: Final = 32 << 20  # a picture of a label or an invite

# The terminal.
SHOWN_AFTER_SECONDS: Final = 1.0  # a longer wait is shown
TURN_SECONDS: Final = 0.25  # and its line drawn again
LEAST_ALARM_SECONDS: Final = 0.001  # 0 would set no alarm

# The file of paired devices.
KEY_FILE_BYTES: Final = 65_536  # a private key to import
ALIAS_CHARACTERS_QUOTED: Final = 40  # of an alias or a field, in the error about a file
DEVICES_FILE_BYTES: Final = 16 << 20  # room for more than 10,000 devices
LOCK_SECONDS: Final = 5.0  # a writer waits this long for another one

# `handfast demo`.
DEMO_STEP_SECONDS: Final = 30.0  # one command
DEMO_STOP_SECONDS: Final = 5.0  # the end of a process after each signal

COPY_PLACES: Final = 4  # addresses of a device at which `doctor` looks for a copy of it
COPY_ROUNDS: Final = 2  # of the comparison of two devices with one key, by their session tickets

# Tunnels.
LOOPBACK: Final = "127.0.0.1"  # where a tunnel listens unless another address is given
STREAM_PINGS: Final = 3  # signs of life of a device that does not answer on a stream
COPIED_BYTES: Final = 65_536  # between a stream and standard input and output, at a time
