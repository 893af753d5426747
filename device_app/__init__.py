"""The daemon of a handfast device: composition, CoAP resources, and how a board asks its user."""
