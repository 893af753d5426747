"""Everything that `handfast-device` prints and asks."""
