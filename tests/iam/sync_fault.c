/* Preloaded into a process: fsync and fdatasync fail where a test wants it. Nothing is taken back
   that was written before, as on a disk whose cache gives out. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>

static int skip = 0, left = 0;

/* From now on `before` calls succeed, then `times` calls fail. */
void arm(int before, int times) { skip = before; left = times; }

static int fails(void) {
  if (left == 0) return 0;
  if (skip > 0) { skip--; return 0; }
  left--;
  errno = EIO;
  return 1;
}

int fsync(int fd) {
  int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
  return fails() ? -1 : real(fd);
}

int fdatasync(int fd) {
  int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
  return fails() ? -1 : real(fd);
}
