"""Output of `handfast` as text and as JSON, and questions to its user."""
