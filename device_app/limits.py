"""Bounds of the daemon and its command line, beside those of `peer.limits` and `iam.limits`.

The limits that an operator can set are in `device_app.settings.limits`.
"""

from typing import Final

# The configuration.
CONFIG_FILE_BYTES: Final = 1_048_576  # of one file
SETTING_SECONDS_MAX: Final = 1e9  # of a time that has no range of its own

# The log (`logs`).
LOG_BURST_RECORDS: Final = 5  # log records of one source line per period; more are only counted
LOG_PERIOD_SECONDS: Final = 10.0
LOG_SOURCE_LINES: Final = 256  # source lines whose records are counted
LOG_TAIL_BYTES: Final = 1_048_576  # that `logs` reads from the end of a file

# The pairing port (`pairing.port`).
SILENCE_SPARE_SECONDS: Final = 30.0  # beyond a person's time, before a silent session ends

# Resources.
RETRY_PAIRING_SECONDS: Final = 5  # Max-Age of a 5.03 or 4.29 on the pairing port
RETRY_WINDOW_SECONDS: Final = 30  # Max-Age of a 5.03 of /iam/window
BOARD_UPDATE_SECONDS: Final = 5.0  # between two readings of an observed /board
EVENTS_MAX: Final = 100  # events in one answer of /events
EVENTS_DEFAULT: Final = 50  # and without `last`
EVENT_ANSWERS_CACHED: Final = 8  # encoded answers of /events, until there is a new event
USERS_PAGE_MAX: Final = 256  # users in one page of /iam/users
USERS_PAGE_DEFAULT: Final = 100  # and without `count`
USERS_UNPAGED_MAX: Final = 4_096  # users in an answer to a request without queries
PATH_SEGMENT_BYTES: Final = 255  # of an application's resource (RFC 7252 table 4)
QUOTED_QUERY_CHARACTERS: Final = 20  # of an unknown query, in the error that names it
QUOTED_ACTION_CHARACTERS: Final = 80  # of a text that is no action, in the error
QUOTED_ANSWER_CHARACTERS: Final = 80  # of an ID that names no ceremony, in the error

# Handlers of applications (`modules.handlers`).
HOLDING_SECONDS: Final = 0.1  # that a handler may hold the event loop before the log names it
FAULT_CHARACTERS: Final = 200  # of the text of an exception, in the log
FAULTS_REMEMBERED: Final = 64  # faults of one resource that are logged once each

# Policies (`access.policies`).
POLICY_WARNINGS_LOGGED: Final = 20  # at a reload; `policy check` prints all

# Decisions (`access.authority`).
SUBJECTS_REMEMBERED: Final = 1_024  # keys with access whose subject is remembered

# Requests of users (`access.fields`, `access.invitations`).
LABEL_CHARACTERS_MAX: Final = 64  # of the name of a key, and of a user's longer name
INVITE_ADDRESSES_MAX: Final = 6  # in a token, which has to fit a QR code

# Events that others cause (`access.event_budget`).
REFUSAL_REPEAT_SECONDS: Final = 10.0  # refusals of one kind and source are one event in this time
REFUSAL_SOURCES_MAX: Final = 256  # sources that are remembered, and kinds of their refusals
WINDOW_EVENTS: Final = 10  # that one opened window, and those who pair through it, may cause

# Announcements of this device's ID by other hosts (`access.elsewhere`).
ELSEWHERE_SECONDS: Final = 3600.0  # between two events, and until `status` forgets a host
ELSEWHERE_ADDRESSES: Final = 4  # hosts that `status` shows

# Device time (`access.clock`).
CLOCK_BEHIND_SECONDS: Final = 120.0  # a system clock that was set back by so little is believed
CLOCK_JUMP_SECONDS: Final = 366 * 86_400.0  # a longer jump ahead is reported
CLOCK_KEEP_SECONDS: Final = 600.0  # between two times that the floor is offered to the store
EXPIRY_CHECK_SECONDS: Final = 60.0  # between two checks of access periods; the clock may be set

# The control socket (`console.control_messages`).
CONTROL_REQUEST_BYTES_MAX: Final = 65_536  # one request of a command
CONTROL_ROWS_BYTES: Final = 65_536  # the rows of a long list in one line
DAEMON_START_SECONDS: Final = 3.0  # that a command waits for a daemon that starts or restarts
DAEMON_START_POLL_SECONDS: Final = 0.05
CONTROL_LINE_BYTES_MAX: Final = 16_777_216  # any line; one of this length is a single row

# Answers of the console.
STATUS_USERS_MAX: Final = 256  # users that `status` lists; it counts all
EVENTS_SHOWN: Final = 100  # events that `events` shows by default
AUDIT_PAGE_EVENTS: Final = 100  # events that a follower gets before other tasks take their turn
NABTO_FILE_BYTES_MAX: Final = 4_194_304  # a file of Nabto Edge that is imported

# Backups (`console.backup`, `console.sealed_key`).
PASSPHRASE_CHARACTERS_MIN: Final = 12
PASSPHRASE_FILE_BYTES_MAX: Final = 4096  # of its first line
SCRYPT_COST: Final = 1 << 15  # N: 32 MiB with r = 8, which a small board has
SCRYPT_BLOCKS: Final = 8  # r
SCRYPT_PARALLEL: Final = 3  # p: three times the work without more memory
SCRYPT_SALT_BYTES: Final = 16
SCRYPT_MEMORY_BYTES_MAX: Final = 1 << 28  # that a backup may ask for: 128 · N · r
SCRYPT_WORK_BYTES_MAX: Final = 1 << 30  # 128 · N · r · p
SEALED_KEY_BYTES_MAX: Final = 1024
BACKUP_BYTES_MAX: Final = 1 << 30  # of a copy to restore
BACKUP_TRIES: Final = 20  # while the daemon changes the store
BACKUP_PAUSE_SECONDS: Final = 0.05  # between two of them
