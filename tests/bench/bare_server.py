"""pyOpenSSL's DTLS sessions with nothing above them: `bare_server.py HOST PORT CERTIFICATE KEY`.

One session for each source address, with the settings of a device that concern memory. It answers
no message: what it shows is the memory of an idle session.
"""

import socket
import sys

from OpenSSL import SSL

DTLS_1_2 = 0xFEFD
DATAGRAM = 16_384


def new_context(certificate: str, key: str) -> SSL.Context:
    """The settings of a session."""
    context = SSL.Context(SSL.DTLS_SERVER_METHOD)
    context.set_min_proto_version(DTLS_1_2)
    context.use_certificate_file(certificate)
    context.use_privatekey_file(key)
    context.set_options(SSL.OP_NO_QUERY_MTU)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    accept = SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT
    context.set_verify(accept, lambda *_any: True)
    context.set_session_id(b"bare")
    return context


def main(host: str, port: str, certificate: str, key: str) -> None:
    """Serve until the process is ended."""
    context = new_context(certificate, key)
    sessions: dict[tuple[str, int], SSL.Connection] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind((host, int(port)))
        print("ready", file=sys.stderr, flush=True)
        while True:
            datagram, source = udp.recvfrom(DATAGRAM)
            session = sessions.get(source)
            if session is None:
                session = sessions[source] = SSL.Connection(context, None)
                session.set_accept_state()
                session.set_ciphertext_mtu(1200)
            session.bio_write(datagram)
            try:
                session.recv(DATAGRAM)
            except SSL.WantReadError:
                pass
            except (SSL.ZeroReturnError, SSL.Error):
                del sessions[source]
            try:
                while True:
                    udp.sendto(session.bio_read(DATAGRAM)[:DATAGRAM], source)
            except SSL.WantReadError:
                pass


if __name__ == "__main__":
    main(*sys.argv[1:])
