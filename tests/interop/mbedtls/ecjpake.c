/*
 * J-PAKE of Mbed TLS behind a pipe: `mbedtls-ecjpake client|server PASSWORD`.
 *
 * One command a line, one answer a line, bytes in hex:
 *
 *     write-one          -> our round one         read-one BYTES -> ok
 *     write-two          -> our round two         read-two BYTES -> ok
 *     derive             -> the premaster secret
 *
 * A step that the library refuses is answered with `refused CODE`, its error code in hex.
 */
#include <mbedtls/ctr_drbg.h>
#include <mbedtls/ecjpake.h>
#include <mbedtls/entropy.h>
#include <stdio.h>
#include <string.h>

enum { ROUND = 1024 };

static mbedtls_ecjpake_context exchange;
static mbedtls_ctr_drbg_context drbg;
static mbedtls_entropy_context entropy;

static void answer(int error, const unsigned char *data, size_t size)
{
    if (error != 0) {
        printf("refused %x", (unsigned) -error);
    } else if (data == NULL) {
        printf("ok");
    } else {
        for (size_t at = 0; at < size; at++) {
            printf("%02x", data[at]);
        }
    }
    printf("\n");
    fflush(stdout);
}

static size_t bytes_of(const char *hex, unsigned char *data)
{
    size_t size = 0;
    unsigned value;
    while (size < ROUND && sscanf(hex + 2 * size, "%2x", &value) == 1) {
        data[size++] = (unsigned char) value;
    }
    return size;
}

static int run_command(const char *command, const char *hex)
{
    unsigned char data[ROUND];
    size_t size = 0;
    int error;

    if (strcmp(command, "read-one") == 0) {
        size = bytes_of(hex, data);
        answer(mbedtls_ecjpake_read_round_one(&exchange, data, size), NULL, 0);
        return 1;
    }
    if (strcmp(command, "read-two") == 0) {
        size = bytes_of(hex, data);
        answer(mbedtls_ecjpake_read_round_two(&exchange, data, size), NULL, 0);
        return 1;
    }
    if (strcmp(command, "write-one") == 0) {
        error = mbedtls_ecjpake_write_round_one(&exchange, data, sizeof data, &size,
                                                mbedtls_ctr_drbg_random, &drbg);
    } else if (strcmp(command, "write-two") == 0) {
        error = mbedtls_ecjpake_write_round_two(&exchange, data, sizeof data, &size,
                                                mbedtls_ctr_drbg_random, &drbg);
    } else if (strcmp(command, "derive") == 0) {
        error = mbedtls_ecjpake_derive_secret(&exchange, data, sizeof data, &size,
                                              mbedtls_ctr_drbg_random, &drbg);
    } else {
        return 0;
    }
    answer(error, data, size);
    return 1;
}

int main(int count, char **arguments)
{
    char line[2 * ROUND + 32], command[16], hex[2 * ROUND + 1];

    if (count != 3) {
        fprintf(stderr, "usage: %s client|server PASSWORD\n", arguments[0]);
        return 2;
    }
    mbedtls_ecjpake_init(&exchange);
    mbedtls_entropy_init(&entropy);
    mbedtls_ctr_drbg_init(&drbg);
    if (mbedtls_ctr_drbg_seed(&drbg, mbedtls_entropy_func, &entropy, NULL, 0) != 0 ||
        mbedtls_ecjpake_setup(&exchange,
                              strcmp(arguments[1], "client") == 0 ? MBEDTLS_ECJPAKE_CLIENT
                                                                  : MBEDTLS_ECJPAKE_SERVER,
                              MBEDTLS_MD_SHA256, MBEDTLS_ECP_DP_SECP256R1,
                              (const unsigned char *) arguments[2], strlen(arguments[2])) != 0) {
        fprintf(stderr, "%s: the library cannot be set up\n", arguments[0]);
        return 1;
    }
    while (fgets(line, sizeof line, stdin) != NULL) {
        hex[0] = '\0';
        if (sscanf(line, "%15s %2048s", command, hex) < 1 || !run_command(command, hex)) {
            fprintf(stderr, "%s: no such command: %s", arguments[0], line);
            return 2;
        }
    }
    return 0;
}
