"""`python -m client_app`: the same as `handfast`."""

import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # while modules are imported, Ctrl-C is silent
    from client_app.cli import main

    signal.signal(signal.SIGINT, signal.default_int_handler)
else:
    from client_app.cli import main

main()
