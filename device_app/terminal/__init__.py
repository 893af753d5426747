"""What `handfast-device` prints and asks."""
