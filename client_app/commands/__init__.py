"""The verbs of `handfast`, one per module. Each returns a value, which `render` prints."""
