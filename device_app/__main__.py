"""`python -m device_app` is `handfast-device`."""

import signal
import sys


def main() -> None:
    """Run the command line."""
    if "run" in sys.argv:
        # Before the imports, which take a while: SIGHUP asks for a reload of what is not loaded
        # yet, and by default it would end the process.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    from device_app import cli  # noqa: PLC0415

    cli.main()


if __name__ == "__main__":
    main()
