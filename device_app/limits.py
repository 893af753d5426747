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

# The service manager (`notify`, `watchdog`).
NOTIFY_SECONDS: Final = 1.0  # that a change of the state waits for the manager to take it
NOTIFY_STATUS_CHARACTERS: Final = 512  # of a status; systemd takes 4096 bytes in all
WATCHDOG_TURNS: Final = 2  # in the time after which the service manager kills the daemon
STORE_LOAD_BYTES_PER_SECOND: Final = 131_072  # that a small board reads at least
STORE_LOAD_SECONDS_SPARE: Final = 30.0

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

# Tunnels (`settings.tunnel`, `resources.tunnel_service`).
TUNNEL_SERVICES_MAX: Final = 64  # services of one device
TUNNEL_NAME_CHARACTERS_MAX: Final = 64  # of a service
TUNNEL_SPARE_SECONDS: Final = 5.0  # that a dialled connection waits for its stream

# Handlers of applications (`modules.handlers`).
HOLDING_SECONDS: Final = 0.1  # that a handler may hold the event loop before the log names it
FAULT_CHARACTERS: Final = 200  # of the text of an exception, in the log
FAULTS_REMEMBERED: Final = 64  # faults of one resource that are logged once each

# Policies (`access.policies`).
POLICY_WARNINGS_LOGGED: Final = 20  # at a reload; `policy check` prints all
POLICY_PARTS_FREED: Final = 512  # objects of a replaced set in one turn of the event loop

# Work beside the event loop (`collector`).
BACKGROUND_SWITCH_SECONDS: Final = 0.0005  # that a thread computes while the loop waits for it
YOUNG_COLLECTION_SECONDS: Final = 0.002  # between two collections of what the thread has made

# Decisions (`access.authority`).
SUBJECTS_REMEMBERED: Final = 1_024  # keys with access whose subject is remembered

# Requests of users (`access.fields`, `access.invitations`).
LABEL_CHARACTERS_MAX: Final = 64  # of the name of a key, and of a user's longer name
INVITE_ADDRESSES_MAX: Final = 6  # in a token, which has to fit a QR code

# Events that others cause (`access.event_budget`).
REFUSAL_REPEAT_SECONDS: Final = 10.0  # refusals of one kind and source are one event in this time
REFUSAL_SOURCES_MAX: Final = 256  # sources that are remembered, and kinds of their refusals
WINDOW_EVENTS: Final = 10  # that one opened window, and those who pair through it, may cause

# Remote reach (`remote`).
REMOTE_KEY_FILE_BYTES_MAX: Final = 1024  # of `remote.key`
PASSWORD_FILE_BYTES_MAX: Final = 1024  # of the first line of a file
REMOTE_EVENT_BURST: Final = 20  # events about brokers at once
REMOTE_EVENTS_PER_HOUR: Final = 12  # and after that
REMOTE_ABSENT_SECONDS: Final = 60.0  # without a broker, before `health` reports it
SELF_TEST_CONNECT_SECONDS: Final = 5.0  # TCP, and TLS with a server
SELF_TEST_DIAL_SECONDS: Final = 5.0  # TCP with a service of tunnels
SELF_TEST_HEARD_SECONDS: Final = 5.0  # for a message to itself
SELF_TEST_FOREIGN_SECONDS: Final = 1.0  # for a message that should not come
RETRY_REMOTE_SECONDS: Final = 60  # Max-Age of a 5.03 of /remote

# Announcements of this device's ID by other hosts (`access.elsewhere`).
ELSEWHERE_SECONDS: Final = 3600.0  # between two events, and until `status` forgets a host
ELSEWHERE_ADDRESSES: Final = 4  # hosts that `status` shows

# Device time (`access.clock`).
CLOCK_BEHIND_SECONDS: Final = 120.0  # a system clock that was set back by so little is believed
CLOCK_JUMP_SECONDS: Final = 366 * 86_400.0  # a longer jump ahead is reported
CLOCK_KEEP_SECONDS: Final = 600.0  # between two times that the floor is offered to the store
EXPIRY_CHECK_SECONDS: Final = 60.0  # between two checks of access periods; the clock may be set
EXPIRY_TURNS_SPARE: Final = 64  # begins and ends of access that changes have replaced

# The control socket (`console.control_messages`, `console.control_access`).
CONTROL_REQUEST_BYTES_MAX: Final = 65_536  # one request of a command
CONTROL_REFUSAL_SECONDS: Final = 1.0  # that a refused client has for its request, before the answer
PEER_GROUPS_BYTES: Final = 1_024  # of a client's groups, 4 for each; Python reads no more at once
CONTROL_ROWS_BYTES: Final = 65_536  # the rows of a long list in one line
DAEMON_START_SECONDS: Final = 3.0  # that a command waits for a daemon that starts or restarts
DAEMON_START_POLL_SECONDS: Final = 0.05
CONTROL_LINE_BYTES_MAX: Final = 16_777_216  # any line; one of this length is a single row

# The state of the device (`console.device_state`, `console.state_tracker`).
REFUSED_SHOWN_SECONDS: Final = 60.0  # that a refused attempt is the state of the device
PAIRED_SHOWN_SECONDS: Final = 3.0  # and a success
WATCH_PROBLEMS_SECONDS: Final = 5.0  # between two looks for problems while a command watches
WATCH_RECONNECT_SECONDS: Final = 0.5  # between two attempts to reach a daemon that has exited

# Answers of the console.
STATUS_USERS_MAX: Final = 256  # users that `status` lists; it counts all
EVENTS_SHOWN: Final = 100  # events that `events` shows by default
AUDIT_PAGE_EVENTS: Final = 100  # events that a follower gets before other tasks take their turn
NABTO_FILE_BYTES_MAX: Final = 4_194_304  # a file of Nabto Edge that is imported

# Backups (`console.sealed_backup`, `console.passphrases`, `console.settings_files`).
PASSPHRASE_CHARACTERS_MIN: Final = 12
PASSPHRASE_FILE_BYTES_MAX: Final = 4096  # of its first line
SCRYPT_COST: Final = 1 << 15  # N: 32 MiB with r = 8, which a small board has
SCRYPT_BLOCKS: Final = 8  # r
SCRYPT_PARALLEL: Final = 3  # p: three times the work without more memory
SCRYPT_SALT_BYTES: Final = 16
SCRYPT_COST_MAX: Final = 1 << 17  # that a backup may ask for
SCRYPT_MEMORY_BYTES_MAX: Final = 1 << 27  # likewise: 128 · N · r
SCRYPT_WORK_BYTES_MAX: Final = 1 << 30  # 128 · N · r · p
SEALED_KEY_BYTES_MAX: Final = 1024  # in a backup of the former format
SEALED_BACKUP_BYTES_MAX: Final = 1 << 28  # 100,000 users with eight keys each
BACKUP_HEADER_BYTES_MAX: Final = 1024
BACKUP_TIME_MAX: Final = 1 << 53  # seconds since 1970, in the header of a backup
BACKUP_MODULES_MAX: Final = 1024  # names of modules
BACKUP_SETTINGS_FILES_MAX: Final = 1024  # files of settings, and files of policies
BACKUP_BYTES_MAX: Final = 1 << 30  # of a copy to restore
BACKUP_USERS_SHOWN: Final = 256  # users that `restore` lists on a terminal
BACKUP_TRIES: Final = 20  # while the daemon changes the store
BACKUP_PAUSE_SECONDS: Final = 0.05  # between two of them
