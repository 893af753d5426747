"""The verbs of `handfast`, one a file. Each returns a value; `render` shows it."""
