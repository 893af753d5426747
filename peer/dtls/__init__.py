"""Sans-I/O DTLS 1.2 on OpenSSL: datagrams in, datagrams and plaintext out. No socket, no clock."""
