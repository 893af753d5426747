/*
 * DTLS client of Mbed TLS: `mbedtls-tunnel HOST PORT CERTIFICATE KEY [max-fragment=512] [resume]`.
 *
 * Each read of standard input is a datagram to send, and each datagram received is one write to standard
 * output. With `resume`, it connects, closes, and resumes that session. The end of the input ends it.
 */
#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/pk.h>
#include <mbedtls/ssl.h>
#include <mbedtls/timing.h>
#include <mbedtls/x509_crt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DATAGRAM = 16384 };

static mbedtls_net_context net;
static mbedtls_ssl_context tls;
static mbedtls_ssl_config config;
static mbedtls_timing_delay_context timer;

static void check(int error, const char *step)
{
    if (error != 0) {
        fprintf(stderr, "%s: -0x%x\n", step, (unsigned) -error);
        exit(1);
    }
}

static void connect_to(const char *host, const char *port, const mbedtls_ssl_session *session)
{
    int error;
    mbedtls_net_init(&net);
    check(mbedtls_net_connect(&net, host, port, MBEDTLS_NET_PROTO_UDP), "connect");
    mbedtls_ssl_init(&tls);
    check(mbedtls_ssl_setup(&tls, &config), "setup");
    mbedtls_ssl_set_timer_cb(&tls, &timer, mbedtls_timing_set_delay, mbedtls_timing_get_delay);
    mbedtls_ssl_set_bio(&tls, &net, mbedtls_net_send, mbedtls_net_recv, mbedtls_net_recv_timeout);
    if (session != NULL) {
        check(mbedtls_ssl_set_session(&tls, session), "session");
    }
    do {
        error = mbedtls_ssl_handshake(&tls);
    } while (error == MBEDTLS_ERR_SSL_WANT_READ || error == MBEDTLS_ERR_SSL_WANT_WRITE);
    check(error, "handshake");
    fprintf(stderr, "connected: %s %s\n", mbedtls_ssl_get_version(&tls), mbedtls_ssl_get_ciphersuite(&tls));
}

static void close_connection(void)
{
    mbedtls_ssl_close_notify(&tls);
    mbedtls_ssl_free(&tls);
    mbedtls_net_free(&net);
}

static void carry(void)
{
    static unsigned char data[DATAGRAM];
    struct pollfd ready[2] = {{0, POLLIN, 0}, {net.fd, POLLIN, 0}};
    while (poll(ready, 2, -1) > 0) {
        if (ready[0].revents) {
            ssize_t size = read(0, data, sizeof data);
            if (size <= 0) {
                return;
            }
            int sent = mbedtls_ssl_write(&tls, data, (size_t) size);
            if (sent != size) {
                fprintf(stderr, "write of %zd: %d\n", size, sent);
            }
        }
        if (ready[1].revents) {
            do {
                int size = mbedtls_ssl_read(&tls, data, sizeof data);
                if (size == MBEDTLS_ERR_SSL_WANT_READ || size == MBEDTLS_ERR_SSL_TIMEOUT) {
                    break;
                }
                if (size <= 0) {
                    fprintf(stderr, "read: %d\n", size);
                    return;
                }
                if (write(1, data, (size_t) size) != size) {
                    return;
                }
            } while (mbedtls_ssl_check_pending(&tls));
        }
    }
}

int main(int count, char **arguments)
{
    mbedtls_entropy_context entropy;
    mbedtls_ctr_drbg_context random;
    mbedtls_x509_crt certificate;
    mbedtls_pk_context key;
    mbedtls_ssl_session session;
    int resume = 0, fragment = MBEDTLS_SSL_MAX_FRAG_LEN_NONE;

    if (count < 5) {
        return 2;
    }
    for (int at = 5; at < count; at++) {
        resume |= strcmp(arguments[at], "resume") == 0;
        if (strcmp(arguments[at], "max-fragment=512") == 0) {
            fragment = MBEDTLS_SSL_MAX_FRAG_LEN_512;
        }
    }
    mbedtls_entropy_init(&entropy);
    mbedtls_ctr_drbg_init(&random);
    mbedtls_x509_crt_init(&certificate);
    mbedtls_pk_init(&key);
    mbedtls_ssl_session_init(&session);
    mbedtls_ssl_config_init(&config);
    check(mbedtls_ctr_drbg_seed(&random, mbedtls_entropy_func, &entropy, NULL, 0), "seed");
    check(mbedtls_x509_crt_parse_file(&certificate, arguments[3]), "certificate");
    check(mbedtls_pk_parse_keyfile(&key, arguments[4], NULL), "key");
    check(mbedtls_ssl_config_defaults(&config, MBEDTLS_SSL_IS_CLIENT, MBEDTLS_SSL_TRANSPORT_DATAGRAM,
                                      MBEDTLS_SSL_PRESET_DEFAULT), "config");
    /* No certificate authority signs the device's key. */
    mbedtls_ssl_conf_authmode(&config, MBEDTLS_SSL_VERIFY_NONE);
    mbedtls_ssl_conf_rng(&config, mbedtls_ctr_drbg_random, &random);
    mbedtls_ssl_conf_read_timeout(&config, 100);
    check(mbedtls_ssl_conf_own_cert(&config, &certificate, &key), "own certificate");
    check(mbedtls_ssl_conf_max_frag_len(&config, (unsigned char) fragment), "max_fragment_length");

    connect_to(arguments[1], arguments[2], NULL);
    if (resume) {
        check(mbedtls_ssl_get_session(&tls, &session), "session");
        close_connection();
        connect_to(arguments[1], arguments[2], &session);
    }
    carry();
    close_connection();
    return 0;
}
