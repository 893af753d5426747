"""`python -m client_app`: the same as `handfast`."""

from client_app.cli import main

main()
