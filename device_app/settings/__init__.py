"""The configuration of the device: its files, the checks of each setting, and the limits."""
