"""Bounds of the daemon and its command line, beside those of `peer.limits` and `iam.limits`.

The limits that an operator can set are in `device_app.limit_settings`.
"""

from typing import Final

# The configuration.
CONFIG_FILE_BYTES: Final = 1_048_576  # of one file
SETTING_SECONDS_MAX: Final = 1e9  # of a time that has no range of its own
