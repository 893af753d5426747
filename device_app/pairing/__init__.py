"""The pairing window on this device: service, port, stored record, and the board's methods."""
