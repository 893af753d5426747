"""Import of what Nabto Edge's IAM module writes: its configuration and its state, both JSON.

`read_config` returns roles and policies, `read_state` users with their keys. Both list in `notes`
what could not be imported, each with "FILE:LINE: path", and reject an invalid file. Nothing is
stored here, and no password, token or message address leaves this package: not as a value, not in a
note, not in an error.

A key keeps its meaning: Nabto's fingerprint is SHA-256 over the public key as SubjectPublicKeyInfo,
as is handfast's. A client that keeps its P-256 key is recognised at once.
"""

from iam.nabto.config import Imported, read_config
from iam.nabto.state import ImportedState, read_state

__all__ = ["Imported", "ImportedState", "read_config", "read_state"]
