"""The user who opened a pairing window over the network."""

from collections.abc import Mapping
from dataclasses import dataclass

from iam.model import Subject


@dataclass(frozen=True, slots=True)
class Opener:
    """A remote opener, with the attributes of the connection it opened the window over."""

    subject: Subject
    attributes: Mapping[str, str]
