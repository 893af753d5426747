"""`python -m device_app` is `handfast-device`."""

from device_app.cli import main

main()
