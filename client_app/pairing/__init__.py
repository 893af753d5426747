"""Pairing from the client's side: the target, the method, one attempt, and invites."""
