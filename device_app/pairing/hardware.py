"""The hardware that the pairing methods of a board need, by its configuration.

display   a screen or a terminal where the window is opened: shown codes, six digits
label     printed by `handfast-device label`: a QR code with a token, and a code to type
button    a press opens a window in which the first client pairs, with nothing to compare
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """The parts that a board has."""

    display: bool = True
    label: bool = True
    button: bool = False
