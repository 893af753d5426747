"""The version of the installed distribution, read when this module is imported.

Reading it takes 15 ms, so the module is imported at first use.
"""

from importlib.metadata import PackageNotFoundError, version
from typing import Final


def _version() -> str:
    try:
        return version("handfast")
    except PackageNotFoundError:  # a source tree
        return ""


VERSION: Final = _version()
"""The version; empty if no distribution is installed."""
