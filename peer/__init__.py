"""The shared core: keys, DTLS, CoAP over DTLS, and pairing. It has no users, roles or policies."""
