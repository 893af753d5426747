"""`python -m device_app` is `handfast-device`."""

import signal
import sys


def main() -> None:
    """Run the command line."""
    if "run" in sys.argv:
        # Before the imports, which take a while: SIGHUP asks for a reload of what is not loaded
        # yet, and by default it would end the process.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports is silent
    from device_app import cli  # noqa: PLC0415

    signal.signal(signal.SIGINT, before)
    cli.main()


if __name__ == "__main__":
    main()
