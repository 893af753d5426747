/*
 * Plugin for QEMU's user-mode emulation: counts the instructions of a program in a file, `out=FILE`.
 *
 * The file holds one 64-bit number, which can be read while the program runs. The declarations are those of version 1
 * of QEMU's plugin interface (docs/devel/tcg-plugins.rst there), since Debian packages no header of it. Instructions
 * of several threads are counted without a lock, so a program with one busy thread is counted exactly.
 */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define VISIBLE __attribute__((visibility("default")))

struct qemu_plugin_tb;          /* a block of translated instructions */
enum { ADD_U64 = 0, PAGE = 4096 };

extern void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, void (*call)(uint64_t, struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int operation, void *to, uint64_t value);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);

VISIBLE int qemu_plugin_version = 1;
static uint64_t *counter;

static void translated(uint64_t id, struct qemu_plugin_tb *block)
{
    (void) id;
    qemu_plugin_register_vcpu_tb_exec_inline(block, ADD_U64, counter, qemu_plugin_tb_n_insns(block));
}

VISIBLE int qemu_plugin_install(uint64_t id, const void *info, int count, char **arguments)
{
    (void) info;
    if (count != 1 || strncmp(arguments[0], "out=", 4) != 0) {
        return 1;
    }
    int file = open(arguments[0] + 4, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (file < 0 || ftruncate(file, PAGE) != 0) {
        return 1;
    }
    counter = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (counter == MAP_FAILED) {
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
