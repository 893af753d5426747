"""The local control socket and its verbs, on the running daemon and on the files alone."""
