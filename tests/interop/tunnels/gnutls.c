/*
 * DTLS client of GnuTLS: `gnutls-tunnel HOST PORT CERTIFICATE KEY [max-fragment=512] [resume]`.
 *
 * Each read of standard input is a datagram to send, and each datagram received is one write to standard
 * output, where `gnutls-cli` writes single bytes. With `resume`, it connects, closes, and resumes that session.
 * The end of the input ends it.
 */
#include <arpa/inet.h>
#include <gnutls/dtls.h>
#include <gnutls/gnutls.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { DATAGRAM = 16384 };

static gnutls_certificate_credentials_t credentials;
static gnutls_session_t tls;
static int udp, fragment;

static void check(int error, const char *step)
{
    if (error < 0) {
        fprintf(stderr, "%s: %s\n", step, gnutls_strerror(error));
        exit(1);
    }
}

static void connect_to(const struct sockaddr_in *server, const gnutls_datum_t *session)
{
    int error;
    udp = socket(AF_INET, SOCK_DGRAM, 0);
    if (connect(udp, (const struct sockaddr *) server, sizeof *server) != 0) {
        perror("connect");
        exit(1);
    }
    check(gnutls_init(&tls, GNUTLS_CLIENT | GNUTLS_DATAGRAM), "init");
    check(gnutls_set_default_priority(tls), "priority");
    /* Without a call that verifies: no certificate authority signs the device's key. */
    check(gnutls_credentials_set(tls, GNUTLS_CRD_CERTIFICATE, credentials), "credentials");
    if (fragment) {
        check((int) gnutls_record_set_max_size(tls, 512), "max_fragment_length");
    }
    if (session != NULL) {
        check(gnutls_session_set_data(tls, session->data, session->size), "session");
    }
    gnutls_transport_set_int(tls, udp);
    do {
        error = gnutls_handshake(tls);
    } while (error < 0 && !gnutls_error_is_fatal(error));
    check(error, "handshake");
    fprintf(stderr, "connected: %s resumed=%d\n", gnutls_session_get_desc(tls), gnutls_session_is_resumed(tls));
}

static void close_connection(void)
{
    gnutls_bye(tls, GNUTLS_SHUT_WR);
    gnutls_deinit(tls);
    close(udp);
}

static void carry(void)
{
    static unsigned char data[DATAGRAM];
    struct pollfd ready[2] = {{0, POLLIN, 0}, {udp, POLLIN, 0}};
    while (poll(ready, 2, -1) > 0) {
        if (ready[0].revents) {
            ssize_t size = read(0, data, sizeof data);
            if (size <= 0) {
                return;
            }
            ssize_t sent = gnutls_record_send(tls, data, (size_t) size);
            if (sent != size) {
                fprintf(stderr, "write of %zd: %zd\n", size, sent);
            }
        }
        if (ready[1].revents) {
            do {
                ssize_t size = gnutls_record_recv(tls, data, sizeof data);
                if (size == GNUTLS_E_AGAIN || size == GNUTLS_E_INTERRUPTED) {
                    break;
                }
                if (size <= 0) {
                    fprintf(stderr, "read: %zd\n", size);
                    return;
                }
                if (write(1, data, (size_t) size) != size) {
                    return;
                }
            } while (gnutls_record_check_pending(tls) > 0);
        }
    }
}

int main(int count, char **arguments)
{
    struct sockaddr_in server = {.sin_family = AF_INET};
    gnutls_datum_t session;
    int resume = 0;

    if (count < 5) {
        return 2;
    }
    for (int at = 5; at < count; at++) {
        resume |= strcmp(arguments[at], "resume") == 0;
        fragment |= strcmp(arguments[at], "max-fragment=512") == 0;
    }
    inet_pton(AF_INET, arguments[1], &server.sin_addr);
    server.sin_port = htons((unsigned short) atoi(arguments[2]));
    check(gnutls_certificate_allocate_credentials(&credentials), "credentials");
    check(gnutls_certificate_set_x509_key_file(credentials, arguments[3], arguments[4], GNUTLS_X509_FMT_PEM), "key");

    connect_to(&server, NULL);
    if (resume) {
        check(gnutls_session_get_data2(tls, &session), "session");
        close_connection();
        connect_to(&server, &session);
    }
    carry();
    close_connection();
    return 0;
}
