"""Remote reach on the device: its keys, its clients, the agent in the daemon, and the self-test."""
