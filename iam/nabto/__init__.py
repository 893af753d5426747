"""Import of what Nabto Edge's IAM module writes: its configuration and its state, both JSON.

`read_config` makes a rulebook of ours (roles and policies), `read_state` the users with their keys.
Both say in `notes` what could not be carried, each with "FILE:LINE: path", and refuse a file that
is not what it says it is. Nothing is stored here, and no password, token or message address leaves
this room: not as a value, not in a note, not in an error.

A key keeps its meaning: Nabto's fingerprint is SHA-256 over the public key as SubjectPublicKeyInfo,
and so is ours. A client that brings its P-256 key along is known at once.
"""

from iam.nabto.config import Imported, read_config
from iam.nabto.state import ImportedState, read_state

__all__ = ["Imported", "ImportedState", "read_config", "read_state"]
