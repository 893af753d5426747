"""The verbs of `handfast-device`, one file a family. `device_app.cli` combines them."""
