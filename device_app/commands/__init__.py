"""The verbs of `handfast-device`, one file per family. `device_app.cli` puts them together."""
