/*
 * Load generator for CoAP servers: `coap-load HOST PORT MODE [name=value ...]`, results as one JSON object a line.
 *
 * The generator spends as little time per request as it can, so that the server is what it measures: a request is
 * bytes prepared once, in which only the Message ID and the token change, and a response is compared with the request
 * that it answers. It speaks DTLS 1.2 through the public API of OpenSSL, or plain UDP. It never sends a request with a
 * token or a Message ID of a request in progress, and it ends with status 1 at the first response that is not the
 * expected one. A request without a response is sent again after two seconds (RFC 7252 section 4.2); `retransmitted`
 * counts these, and a measurement that has any says nothing about the server.
 *
 * MODE
 *   requests    `count` requests, at most `window` of them in progress on each of `sessions` sessions
 *   observe     one observer on each of `sessions` sessions; a further session changes the resource `count` times with
 *               PUT, alternating `body` and `other`, and waits each time until all observers have been notified
 *   handshakes  `count` full handshakes one after another; each session is closed at once
 *   hellos      `count` ClientHellos without a cookie, `window` at a time; each is answered by a HelloVerifyRequest
 *   hold        opens `sessions` sessions, prints `{"open": N}`, and closes them when standard input ends; with
 *               `rounds`, it does so as many times, once for each line of standard input
 *
 * Security: `keys=FOLDER` (client certificates 0.crt, 1.crt ... and keys 0.key ..., used in turn by the sessions),
 * `psk=IDENTITY:KEY`, or neither for plain UDP. The certificate of the server is not verified: nothing secret is sent.
 *
 * Requests: `path=/hello?query`, `method=GET`, `accept=N`, `format=N` (Content-Format), `observe=N`, `block2=N` (the
 * option's number, 6 is the first block of 1024 bytes), `size=N` bytes of payload or `body=TEXT`, `code=2.05` (what
 * every response must have; any success by default), `seconds=N` (an end before `count`), `gap=N` microseconds between
 * two requests, `slots=1` (the token of a request is its place in the window, for Observe).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    WINDOW = 256,               /* the largest window */
    MESSAGE = 1400,             /* the longest request */
    DATAGRAM = 16384,           /* the longest response */
    TOKEN = 4,                  /* bytes of a token */
    KEYS = 64,                  /* the most client keys */
    RETRY_SECONDS = 2,          /* before a request is sent again */
    CLOSING_NANOSECONDS = 2000000, /* pause between two sessions that end */
    ATTEMPTS = 10,              /* without any response, before giving up */
};
enum { CON = 0, NON = 1, ACK = 2, RST = 3 };
enum { OBSERVE = 6, URI_PATH = 11, CONTENT_FORMAT = 12, URI_QUERY = 15, ACCEPT = 17, BLOCK2 = 23 };

struct slot {
    double sent;                /* 0 if no request is in progress */
    uint16_t message_id;
    uint32_t token;
};

struct session {
    int socket;
    SSL *tls;                   /* NULL with plain UDP */
    struct slot slots[WINDOW];
    uint16_t message_id;
    uint32_t token;
    long in_progress;
    long notified;
};

static const char *host, *port, *mode, *keys_folder, *psk, *path = "/", *method = "GET", *body, *other, *expected;
static const char *ciphers = "ECDHE-ECDSA-AES128-GCM-SHA256";
static long count = 1000, window = 1, sessions = 1, accept_format = -1, content_format = -1, observe = -1, block2 = -1,
            size, rounds = 1, gap, slots, limit_seconds = 3600;
static unsigned char request[MESSAGE];
static size_t request_bytes;
static SSL_CTX *contexts[KEYS];
static int contexts_made;
static long retransmitted, codes[256], latencies_kept;
static float *latencies;        /* microseconds */
static double began;            /* when the measured part began */

static void fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

static void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "coap-load: ");
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    ERR_print_errors_fp(stderr);
    exit(1);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double) time.tv_sec + 1e-9 * (double) time.tv_nsec;
}

/* ------------------------------------------------------------------------------------------------- messages */

static size_t add_option(unsigned char *at, int *last, int number, const void *value, size_t length)
{
    int delta = number - *last;
    size_t used = 0;
    *last = number;
    at[used++] = (unsigned char) ((delta < 13 ? delta : 13) << 4 | (length < 13 ? length : 13));
    if (delta >= 13) {
        at[used++] = (unsigned char) (delta - 13);
    }
    if (length >= 13) {
        at[used++] = (unsigned char) (length - 13);
    }
    memcpy(at + used, value, length);
    return used + length;
}

static size_t add_number(unsigned char *at, int *last, int number, long value)
{
    unsigned char bytes[2] = {(unsigned char) (value >> 8), (unsigned char) value};
    size_t zeros = value > 255 ? 0 : value > 0 ? 1 : 2;
    return value < 0 ? 0 : add_option(at, last, number, bytes + zeros, 2 - zeros);
}

static size_t add_segments(unsigned char *at, int *last, int number, const char *text, size_t length, char separator)
{
    size_t used = 0, start = 0;
    for (size_t here = 0; here <= length; here++) {
        if (here == length || text[here] == separator) {
            if (here > start) {
                used += add_option(at + used, last, number, text + start, here - start);
            }
            start = here + 1;
        }
    }
    return used;
}

/* Write a request with Message ID 0 and token 0 to `out`; return its length. */
static size_t build(unsigned char *out, const char *verb, long observation, const char *text, long text_bytes)
{
    static const char *const METHODS[] = {"", "GET", "POST", "PUT", "DELETE"};
    int code = 0, last = 0;
    size_t used = 4 + TOKEN, plain = strcspn(path, "?");
    while (++code < 5 && strcmp(METHODS[code], verb) != 0) {
    }
    if (code == 5 || strlen(path) + (size_t) text_bytes + 64 > MESSAGE) {
        fail("a request cannot be built from method %s and path %s", verb, path);
    }
    memset(out, 0, used);
    out[0] = 0x40 | CON << 4 | TOKEN;
    out[1] = (unsigned char) code;
    used += add_number(out + used, &last, OBSERVE, observation);
    used += add_segments(out + used, &last, URI_PATH, path, plain, '/');
    used += add_number(out + used, &last, CONTENT_FORMAT, text_bytes ? content_format : -1);
    if (path[plain]) {
        used += add_segments(out + used, &last, URI_QUERY, path + plain + 1, strlen(path + plain + 1), '&');
    }
    used += add_number(out + used, &last, ACCEPT, accept_format);
    used += add_number(out + used, &last, BLOCK2, block2);
    if (text_bytes) {
        out[used++] = 0xff;
        for (long at = 0; at < text_bytes; at++) {
            out[used++] = (unsigned char) (text ? text[at] : 'x');
        }
    }
    return used;
}

static void put16(unsigned char *at, uint16_t value)
{
    at[0] = (unsigned char) (value >> 8);
    at[1] = (unsigned char) value;
}

static void put32(unsigned char *at, uint32_t value)
{
    put16(at, (uint16_t) (value >> 16));
    put16(at + 2, (uint16_t) value);
}

static uint32_t get32(const unsigned char *at)
{
    return (uint32_t) at[0] << 24 | (uint32_t) at[1] << 16 | (uint32_t) at[2] << 8 | at[3];
}

/* ------------------------------------------------------------------------------------------------- sessions */

static unsigned int psk_client(SSL *tls, const char *hint, char *identity, unsigned int identity_bytes,
                               unsigned char *key, unsigned int key_bytes)
{
    const char *colon = strchr(psk, ':');
    size_t name = (size_t) (colon - psk), secret = strlen(colon + 1);
    (void) tls, (void) hint;
    if (name >= identity_bytes || secret > key_bytes) {
        return 0;
    }
    memcpy(identity, psk, name);
    identity[name] = 0;
    memcpy(key, colon + 1, secret);
    return (unsigned int) secret;
}

static SSL_CTX *new_context(void)
{
    SSL_CTX *context = SSL_CTX_new(DTLS_client_method());
    SSL_CTX_set_min_proto_version(context, DTLS1_2_VERSION);
    SSL_CTX_set_max_proto_version(context, DTLS1_2_VERSION);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);
    if (!SSL_CTX_set_cipher_list(context, psk ? "PSK-AES128-CCM8:@SECLEVEL=0" : ciphers)) {
        fail("no cipher suite %s", ciphers);
    }
    return context;
}

static void make_contexts(void)
{
    char file[1024];
    if (psk) {
        if (!strchr(psk, ':')) {
            fail("psk=%s is not IDENTITY:KEY", psk);
        }
        contexts[contexts_made++] = new_context();
        SSL_CTX_set_psk_client_callback(contexts[0], psk_client);
    }
    while (keys_folder && contexts_made < KEYS) {
        SSL_CTX *context;
        snprintf(file, sizeof file, "%s/%d.crt", keys_folder, contexts_made);
        if (access(file, R_OK) != 0) {
            break;
        }
        context = new_context();
        int ok = SSL_CTX_use_certificate_file(context, file, SSL_FILETYPE_PEM);
        snprintf(file, sizeof file, "%s/%d.key", keys_folder, contexts_made);
        if (!ok || SSL_CTX_use_PrivateKey_file(context, file, SSL_FILETYPE_PEM) != 1) {
            fail("cannot read %s", file);
        }
        contexts[contexts_made++] = context;
    }
    if (keys_folder && !contexts_made) {
        fail("no 0.crt in %s", keys_folder);
    }
}

static void set_timeout(int fd, long seconds)
{
    struct timeval wait = {.tv_sec = seconds};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
}

static int connected_socket(struct sockaddr_storage *server, socklen_t *length)
{
    struct addrinfo hints = {.ai_socktype = SOCK_DGRAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV}, *found;
    if (getaddrinfo(host, port, &hints, &found) != 0) {
        fail("%s and %s are not an address and a port", host, port);
    }
    int fd = socket(found->ai_family, SOCK_DGRAM, 0);
    if (fd < 0 || connect(fd, found->ai_addr, found->ai_addrlen) != 0) {
        fail("cannot connect to %s port %s: %s", host, port, strerror(errno));
    }
    memcpy(server, found->ai_addr, found->ai_addrlen);
    *length = found->ai_addrlen;
    freeaddrinfo(found);
    set_timeout(fd, RETRY_SECONDS);
    return fd;
}

static void open_session(struct session *session, long number)
{
    struct sockaddr_storage server;
    socklen_t length;
    double until = now() + ATTEMPTS * RETRY_SECONDS;
    int done;

    session->socket = connected_socket(&server, &length);
    session->message_id = (uint16_t) (number * 7919 + getpid());
    if (!contexts_made) {
        return;
    }
    BIO *datagrams = BIO_new_dgram(session->socket, BIO_NOCLOSE);
    BIO_ctrl(datagrams, BIO_CTRL_DGRAM_SET_CONNECTED, 0, &server);
    session->tls = SSL_new(contexts[number % contexts_made]);
    SSL_set_options(session->tls, SSL_OP_NO_QUERY_MTU);
    DTLS_set_link_mtu(session->tls, MESSAGE);
    SSL_set_bio(session->tls, datagrams, datagrams);
    while ((done = SSL_connect(session->tls)) != 1) {
        int error = SSL_get_error(session->tls, done);
        if ((error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) || now() > until) {
            fail("the handshake of session %ld failed", number);
        }
    }
    set_timeout(session->socket, RETRY_SECONDS);
}

static void close_session(struct session *session)
{
    if (session->tls) {
        SSL_shutdown(session->tls);
        SSL_free(session->tls);
        session->tls = NULL;
    }
    close(session->socket);
}

static void send_message(struct session *session, const unsigned char *message, size_t bytes)
{
    long sent = session->tls ? SSL_write(session->tls, message, (int) bytes)
                             : (long) send(session->socket, message, bytes, 0);
    if (sent != (long) bytes) {
        fail("a message of %zu bytes cannot be sent: %s", bytes, strerror(errno));
    }
}

/* Return the length of the next message, or 0 if none arrives in time (or at once, if the socket does not block). */
static size_t receive_message(struct session *session, unsigned char *message)
{
    long got = session->tls ? SSL_read(session->tls, message, DATAGRAM)
                            : (long) recv(session->socket, message, DATAGRAM, 0);
    if (got > 0) {
        return (size_t) got;
    }
    if (session->tls && SSL_get_error(session->tls, (int) got) == SSL_ERROR_WANT_READ) {
        return 0;
    }
    if (errno == EAGAIN || errno == EINTR) {
        return 0;
    }
    fail("the server ended the session: %s", strerror(errno));
}

/* ------------------------------------------------------------------------------------------------- requests */

static void send_slot(struct session *session, struct slot *slot, unsigned char *bytes, size_t length)
{
    put16(bytes + 2, slot->message_id);
    put32(bytes + 4, slot->token);
    send_message(session, bytes, length);
}

static void send_next(struct session *session, struct slot *slot, unsigned char *bytes, size_t length)
{
    slot->message_id = session->message_id++;
    slot->token = slots ? (uint32_t) (slot - session->slots) : session->token++;
    slot->sent = now();
    session->in_progress++;
    send_slot(session, slot, bytes, length);
}

static void acknowledge(struct session *session, const unsigned char *message)
{
    unsigned char empty[4] = {0x40 | ACK << 4, 0, message[2], message[3]};
    send_message(session, empty, sizeof empty);
}

static int is_expected(unsigned char code)
{
    char text[8];
    snprintf(text, sizeof text, "%d.%02d", code >> 5, code & 31);
    return expected ? strcmp(expected, text) == 0 : code >> 5 == 2;
}

/* Compare a message with the requests in progress; return the slot that it ends, or NULL for an empty ACK. */
static struct slot *answered(struct session *session, const unsigned char *message, size_t bytes)
{
    int type = message[0] >> 4 & 3;
    if (bytes < 4 || message[0] >> 6 != 1 || type == RST) {
        fail("the server sent a Reset, or no CoAP message");
    }
    if (type == ACK && message[1] == 0) {
        return NULL;
    }
    if ((message[0] & 15) != TOKEN || bytes < 4 + TOKEN) {
        fail("a response has a token of %d bytes", message[0] & 15);
    }
    uint16_t message_id = (uint16_t) (message[2] << 8 | message[3]);
    uint32_t token = get32(message + 4);
    for (long at = 0; at < window; at++) {
        struct slot *slot = &session->slots[at];
        if (slot->sent != 0 && slot->token == token && (type != ACK || slot->message_id == message_id)) {
            if (!is_expected(message[1])) {
                fail("a response has the code %d.%02d: %.*s", message[1] >> 5, message[1] & 31,
                     (int) (bytes - 4 - TOKEN), (const char *) message + 4 + TOKEN);
            }
            if (type == CON) {
                acknowledge(session, message);
            }
            codes[message[1]]++;
            if (latencies_kept < count) {
                latencies[latencies_kept++] = (float) (1e6 * (now() - slot->sent));
            }
            slot->sent = 0;
            session->in_progress--;
            return slot;
        }
    }
    if (retransmitted == 0) {
        fail("a response belongs to no request");
    }
    return NULL;
}

static void send_again(struct session *session)
{
    for (long at = 0; at < window; at++) {
        if (session->slots[at].sent != 0 && now() - session->slots[at].sent > RETRY_SECONDS) {
            retransmitted++;
            send_slot(session, &session->slots[at], request, request_bytes);
        }
    }
}

static void set_blocking(struct session *all, long number, int blocking)
{
    for (long at = 0; at < number; at++) {
        int flags = fcntl(all[at].socket, F_GETFL);
        fcntl(all[at].socket, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK);
    }
}

static void wait_for_gap(double from)
{
    double left = from + 1e-6 * (double) gap - now();
    if (gap && left > 0) {
        struct timespec pause = {.tv_sec = (long) left, .tv_nsec = (long) (1e9 * (left - (double) (long) left))};
        nanosleep(&pause, NULL);
    }
}

/* Send `count` requests over all sessions; return the number of responses. */
static long run_requests(struct session *all)
{
    static unsigned char message[DATAGRAM];
    struct pollfd ready[sessions];
    long sent = 0, done = 0, silent = 0;
    double until = now() + (double) limit_seconds;

    for (long at = 0; at < sessions; at++) {
        ready[at] = (struct pollfd){all[at].socket, POLLIN, 0};
    }
    set_blocking(all, sessions, sessions == 1);
    for (long slot = 0; slot < window; slot++) {
        for (long at = 0; at < sessions && sent < count; at++, sent++) {
            send_next(&all[at], &all[at].slots[slot], request, request_bytes);
        }
    }
    while (done < sent) {
        long before = done;
        if (sessions > 1) {
            poll(ready, (nfds_t) sessions, RETRY_SECONDS * 1000);
        }
        for (long at = 0; at < sessions; at++) {
            struct session *session = &all[at];
            size_t bytes;
            if (sessions > 1 && !(ready[at].revents & POLLIN)) {
                continue;
            }
            while (session->in_progress && (bytes = receive_message(session, message)) > 0) {
                struct slot *slot = answered(session, message, bytes);
                if (slot == NULL) {
                    continue;
                }
                done++;
                if (sent < count && now() < until) {
                    wait_for_gap(now());
                    send_next(session, slot, request, request_bytes);
                    sent++;
                }
            }
        }
        silent = done > before ? 0 : silent + 1;
        if (silent > ATTEMPTS) {
            fail("no response for %d seconds", ATTEMPTS * RETRY_SECONDS);
        }
        for (long at = 0; silent && at < sessions; at++) {
            send_again(&all[at]);
        }
    }
    return done;
}

/* Wait until every observer has as many notifications as changes were made, and acknowledge them. */
static void await_notifications(struct session *observers, long wanted)
{
    static unsigned char message[DATAGRAM];
    struct pollfd ready[sessions];
    for (long at = 0; at < sessions; at++) {
        ready[at] = (struct pollfd){observers[at].socket, POLLIN, 0};
    }
    for (;;) {
        long missing = 0;
        for (long at = 0; at < sessions; at++) {
            struct session *session = &observers[at];
            size_t bytes;
            while (session->notified < wanted && (bytes = receive_message(session, message)) > 0) {
                if (get32(message + 4) != 0 || !is_expected(message[1])) {
                    fail("a notification has another token, or the code %d.%02d", message[1] >> 5, message[1] & 31);
                }
                session->notified++;
                if ((message[0] >> 4 & 3) == CON) {
                    acknowledge(session, message);
                }
            }
            missing += session->notified < wanted;
        }
        if (!missing) {
            return;
        }
        if (poll(ready, (nfds_t) sessions, ATTEMPTS * RETRY_SECONDS * 1000) == 0) {
            fail("%ld observers were not notified", missing);
        }
    }
}

static long run_observers(struct session *observers)
{
    static unsigned char change[2][MESSAGE], message[DATAGRAM];
    struct session *changer = &observers[sessions];
    size_t bytes, change_bytes[2];
    if (body == NULL || other == NULL || (request_bytes = build(request, "GET", 0, NULL, 0)) == 0) {
        fail("observe needs body= and other=, the two values of the resource");
    }
    change_bytes[0] = build(change[0], "PUT", -1, body, (long) strlen(body));
    change_bytes[1] = build(change[1], "PUT", -1, other, (long) strlen(other));
    for (long at = 0; at < sessions; at++) {
        send_next(&observers[at], &observers[at].slots[0], request, request_bytes);
        while ((bytes = receive_message(&observers[at], message)) == 0 || !answered(&observers[at], message, bytes)) {
        }
    }
    latencies_kept = 0;
    memset(codes, 0, sizeof codes);
    set_blocking(observers, sessions, 0);
    puts("{\"observers\": true}");
    fflush(stdout);
    if (getchar() == EOF) {     /* the harness notes the CPU time of the server, then writes a line */
        exit(0);
    }
    began = now();
    for (long at = 0; at < count; at++) {
        send_next(changer, &changer->slots[0], change[at & 1], change_bytes[at & 1]);
        while ((bytes = receive_message(changer, message)) == 0 || !answered(changer, message, bytes)) {
        }
        await_notifications(observers, at + 1);
    }
    return count * sessions;
}

/* ----------------------------------------------------------------------------------------------- handshakes */

static long run_handshakes(void)
{
    struct session session;
    for (long at = 0; at < count; at++) {
        double begin = now();
        memset(&session, 0, sizeof session);
        open_session(&session, at);
        latencies[latencies_kept++] = (float) (1e6 * (now() - begin));
        close_session(&session);
    }
    return count;
}

static long run_hellos(void)
{
    static unsigned char hello[MESSAGE], message[DATAGRAM];
    struct sockaddr_storage server;
    socklen_t length;
    SSL *tls = SSL_new(contexts[0]);
    BIO *out = BIO_new(BIO_s_mem());
    long sent = 0, done = 0, silent = 0;
    int bytes, fd = connected_socket(&server, &length);

    SSL_set_options(tls, SSL_OP_NO_QUERY_MTU);
    DTLS_set_link_mtu(tls, MESSAGE);
    SSL_set_bio(tls, BIO_new(BIO_s_mem()), out);
    SSL_connect(tls);
    bytes = BIO_read(out, hello, sizeof hello);
    while (done < count) {
        while (sent < count && sent - done < window) {
            if (send(fd, hello, (size_t) bytes, 0) != bytes) {
                fail("a ClientHello cannot be sent: %s", strerror(errno));
            }
            sent++;
        }
        ssize_t got = recv(fd, message, sizeof message, 0);
        if (got > 13 && message[0] == 22 && message[13] == 3) {
            done++;
            silent = 0;
        } else if (got > 0 || ++silent > ATTEMPTS) {
            fail("a ClientHello was not answered by a HelloVerifyRequest");
        } else {
            retransmitted += sent - done;
            sent = done;
        }
    }
    SSL_free(tls);
    return done;
}

/* ----------------------------------------------------------------------------------------------- the command */

static struct session *new_sessions(long number)
{
    struct session *all = calloc((size_t) number, sizeof *all);
    for (long at = 0; at < number; at++) {
        open_session(&all[at], at);
    }
    return all;
}

static void run_hold(void)
{
    for (long round = 0; round < rounds; round++) {
        double begin = now();
        struct session *all = new_sessions(sessions);
        int read;
        printf("{\"open\": %ld, \"seconds\": %.6f}\n", sessions, now() - begin);
        fflush(stdout);
        while ((read = getchar()) != '\n' && read != EOF) {
        }
        for (long at = 0; at < sessions; at++) {
            /* Many alerts at once overflow the buffer of the server's socket: it would keep those sessions. */
            struct timespec pause = {.tv_nsec = CLOSING_NANOSECONDS};
            close_session(&all[at]);
            nanosleep(&pause, NULL);
        }
        free(all);
        printf("{\"closed\": %ld}\n", sessions);
        fflush(stdout);
    }
}

static int ascending(const void *one, const void *two)
{
    float first = *(const float *) one, second = *(const float *) two;
    return (first > second) - (first < second);
}

static float percentile(double share)
{
    long at = (long) (share * (double) (latencies_kept - 1) + 0.5);
    return latencies_kept ? latencies[at] : 0;
}

static void print_result(long done, double seconds, const char *suite)
{
    qsort(latencies, (size_t) latencies_kept, sizeof *latencies, ascending);
    printf("{\"mode\": \"%s\", \"count\": %ld, \"seconds\": %.6f, \"rate\": %.1f, \"retransmitted\": %ld, ", mode, done,
           seconds, (double) done / seconds, retransmitted);
    printf("\"p50\": %.1f, \"p99\": %.1f, \"max\": %.1f, \"suite\": \"%s\", \"codes\": {", percentile(0.5),
           percentile(0.99), percentile(1), suite);
    const char *separator = "";
    for (int code = 0; code < 256; code++) {
        if (codes[code]) {
            printf("%s\"%d.%02d\": %ld", separator, code >> 5, code & 31, codes[code]);
            separator = ", ";
        }
    }
    printf("}}\n");
}

static void set_number(long *to, const char *text)
{
    char *end;
    *to = strtol(text, &end, 10);
    if (*text == 0 || *end != 0 || *to < 0) {
        fail("%s is not a number", text);
    }
}

static void read_arguments(int number, char **arguments)
{
    struct { const char *name; const char **text; long *value; } known[] = {
        {"keys", &keys_folder, NULL}, {"psk", &psk, NULL}, {"ciphers", &ciphers, NULL}, {"path", &path, NULL},
        {"method", &method, NULL}, {"body", &body, NULL}, {"other", &other, NULL}, {"code", &expected, NULL},
        {"count", NULL, &count}, {"window", NULL, &window}, {"sessions", NULL, &sessions}, {"size", NULL, &size},
        {"accept", NULL, &accept_format}, {"format", NULL, &content_format}, {"observe", NULL, &observe},
        {"block2", NULL, &block2}, {"rounds", NULL, &rounds}, {"gap", NULL, &gap}, {"slots", NULL, &slots},
        {"seconds", NULL, &limit_seconds},
    };
    if (number < 4) {
        fail("usage: coap-load HOST PORT requests|observe|handshakes|hellos|hold [name=value ...]");
    }
    host = arguments[1], port = arguments[2], mode = arguments[3];
    for (int at = 4; at < number; at++) {
        size_t length = strcspn(arguments[at], "="), one;
        for (one = 0; one < sizeof known / sizeof *known; one++) {
            if (arguments[at][length] && strlen(known[one].name) == length &&
                strncmp(arguments[at], known[one].name, length) == 0) {
                break;
            }
        }
        if (one == sizeof known / sizeof *known) {
            fail("%s is no setting", arguments[at]);
        } else if (known[one].text) {
            *known[one].text = arguments[at] + length + 1;
        } else {
            set_number(known[one].value, arguments[at] + length + 1);
        }
    }
    if (window < 1 || window > WINDOW || sessions < 1 || count < 1) {
        fail("window is from 1 to %d, sessions and count at least 1", WINDOW);
    }
}

int main(int number, char **arguments)
{
    long done = 0;
    const char *suite = "none";
    struct session *all;

    read_arguments(number, arguments);
    make_contexts();
    latencies = calloc((size_t) count, sizeof *latencies);
    request_bytes = build(request, method, observe, body, body ? (long) strlen(body) : size);
    began = now();
    if (strcmp(mode, "hold") == 0) {
        run_hold();
        return 0;
    } else if (strcmp(mode, "handshakes") == 0 && contexts_made) {
        done = run_handshakes();
    } else if (strcmp(mode, "hellos") == 0 && contexts_made) {
        done = run_hellos();
    } else if (strcmp(mode, "requests") == 0 || strcmp(mode, "observe") == 0) {
        int observing = mode[0] == 'o';
        all = new_sessions(sessions + observing);
        suite = all[0].tls ? SSL_get_cipher_name(all[0].tls) : suite;
        began = now();
        done = observing ? run_observers(all) : run_requests(all);
        double end = now();
        for (long at = 0; at < sessions + observing; at++) {
            close_session(&all[at]);
        }
        print_result(done, end - began, suite);
        return 0;
    } else {
        fail("%s is no mode, or it needs keys= or psk=", mode);
    }
    print_result(done, now() - began, suite);
    return 0;
}
