/*
 * DTLS client of wolfSSL: `wolfssl-tunnel HOST PORT CERTIFICATE KEY [max-fragment=512] [resume]`.
 *
 * Each read of standard input is a datagram to send, and each datagram received is one write to standard
 * output. With `resume`, it connects, closes, and resumes that session. The end of the input ends it.
 */
#include <wolfssl/options.h>
#include <wolfssl/ssl.h>

#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { DATAGRAM = 16384 };

static WOLFSSL_CTX *context;
static WOLFSSL *tls;
static int udp;
static unsigned char fragment;

static void check(int success, const char *step)
{
    if (success != WOLFSSL_SUCCESS) {
        fprintf(stderr, "%s: %d\n", step, tls ? wolfSSL_get_error(tls, success) : success);
        exit(1);
    }
}

static void connect_to(struct sockaddr_in *server, WOLFSSL_SESSION *session)
{
    udp = socket(AF_INET, SOCK_DGRAM, 0);
    if (connect(udp, (struct sockaddr *) server, sizeof *server) != 0) {
        perror("connect");
        exit(1);
    }
    tls = wolfSSL_new(context);
    check(wolfSSL_dtls_set_peer(tls, server, sizeof *server), "peer");
    check(wolfSSL_set_fd(tls, udp), "fd");
    if (fragment != 0) {
        check(wolfSSL_UseMaxFragment(tls, fragment), "max_fragment_length");
    }
    if (session != NULL) {
        check(wolfSSL_set_session(tls, session), "session");
    }
    check(wolfSSL_connect(tls), "handshake");
    fprintf(stderr, "connected: %s %s resumed=%d\n", wolfSSL_get_version(tls), wolfSSL_get_cipher_name(tls),
            wolfSSL_session_reused(tls));
}

static void close_connection(void)
{
    wolfSSL_shutdown(tls);
    wolfSSL_free(tls);
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
            if (wolfSSL_write(tls, data, (int) size) != size) {
                fprintf(stderr, "write of %zd: %d\n", size, wolfSSL_get_error(tls, -1));
            }
        }
        if (ready[1].revents) {
            do {
                int size = wolfSSL_read(tls, data, sizeof data);
                if (size <= 0) {
                    fprintf(stderr, "read: %d\n", wolfSSL_get_error(tls, size));
                    return;
                }
                if (write(1, data, (size_t) size) != size) {
                    return;
                }
            } while (wolfSSL_pending(tls) > 0);
        }
    }
}

int main(int count, char **arguments)
{
    struct sockaddr_in server = {.sin_family = AF_INET};
    WOLFSSL_SESSION *session;
    int resume = 0;

    if (count < 5) {
        return 2;
    }
    for (int at = 5; at < count; at++) {
        resume |= strcmp(arguments[at], "resume") == 0;
        if (strcmp(arguments[at], "max-fragment=512") == 0) {
            fragment = WOLFSSL_MFL_2_9;
        }
    }
    inet_pton(AF_INET, arguments[1], &server.sin_addr);
    server.sin_port = htons((unsigned short) atoi(arguments[2]));
    wolfSSL_Init();
    context = wolfSSL_CTX_new(wolfDTLSv1_2_client_method());
    check(wolfSSL_CTX_use_certificate_file(context, arguments[3], WOLFSSL_FILETYPE_PEM), "certificate");
    check(wolfSSL_CTX_use_PrivateKey_file(context, arguments[4], WOLFSSL_FILETYPE_PEM), "key");
    /* No certificate authority signs the device's key. */
    wolfSSL_CTX_set_verify(context, WOLFSSL_VERIFY_NONE, NULL);
    if (resume) {
        check(wolfSSL_CTX_UseSessionTicket(context), "ticket");
    }

    connect_to(&server, NULL);
    if (resume) {
        session = wolfSSL_get1_session(tls);
        close_connection();
        connect_to(&server, session);
    }
    carry();
    close_connection();
    return 0;
}
