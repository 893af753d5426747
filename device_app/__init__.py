"""The device's daemon: composition, CoAP resources, and how a board asks its user."""
