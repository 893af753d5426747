"""The shared core: keys, DTLS, CoAP over it, pairing. Knows nothing of users or roles."""
