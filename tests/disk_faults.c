/* A disk that fails or a process that dies at the n-th call, for one folder; see tests/disk.py.
 *
 * Loaded before libc (LD_PRELOAD), so it sees every library's calls. FAULT_BELOW names the folder,
 * FAULT_CALLS the calls that count, such as "write,fsync,rename", FAULT_AT which of them fails
 * (from 1), FAULT_HOW the error number, or "kill", or "torn": half of the write, then kill.
 * FAULT_STAYS=1 makes every later one fail, too. FAULT_LOG, a file elsewhere, gets a line a call.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static char below[PATH_MAX], calls[256], how[16];
static long at;
static int stays, journal = -1;
static atomic_long counted;

void disk_faults_arm(void) {
    const char *folder = getenv("FAULT_BELOW"), *which = getenv("FAULT_CALLS");
    const char *n = getenv("FAULT_AT"), *error = getenv("FAULT_HOW"), *log = getenv("FAULT_LOG");
    snprintf(below, sizeof below, "%s", folder ? folder : "");
    snprintf(calls, sizeof calls, ",%s,", which ? which : "");
    snprintf(how, sizeof how, "%s", error ? error : "5");
    at = n ? atol(n) : 0;
    stays = getenv("FAULT_STAYS") != NULL;
    atomic_store(&counted, 0);
    if (log) journal = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND, 0644);
}

__attribute__((constructor)) static void begin(void) { disk_faults_arm(); }

static int inside(const char *path) {
    return below[0] && path && strncmp(path, below, strlen(below)) == 0;
}

static const char *path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    path[n < 0 ? 0 : n] = 0;
    return path;
}

static void note(const char *call, const char *one, const char *two) {
    char line[2 * PATH_MAX + 64];
    int n = snprintf(line, sizeof line, "%s\t%s\t%s\n", call, one, two ? two : "");
    if (journal >= 0) syscall(SYS_write, journal, line, n);
}

/* 0: go on; else the error number with which the call is to fail, or -1 for half a write. */
static int verdict(const char *call, const char *one, const char *two) {
    char word[32];
    if (!inside(one) && !inside(two)) return 0;
    snprintf(word, sizeof word, ",%s,", call);
    if (strstr(calls, word) == NULL) return note(call, one, two), 0;
    long n = atomic_fetch_add(&counted, 1) + 1;
    if (at == 0 || (stays ? n < at : n != at)) return note(call, one, two), 0;
    if (strcmp(how, "kill") == 0) raise(SIGKILL);
    if (strcmp(how, "torn") == 0) return strcmp(call, "write") == 0 ? -1 : (raise(SIGKILL), 0);
    return atoi(how);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAIL(code) do { int e = (code); if (e > 0) { errno = e; return -1; } } while (0)

ssize_t write(int fd, const void *from, size_t n) {
    char path[PATH_MAX];
    int code = below[0] ? verdict("write", path_of(fd, path), NULL) : 0;
    if (code == -1) {
        syscall(SYS_write, fd, from, n / 2);
        raise(SIGKILL);
    }
    FAIL(code);
    return syscall(SYS_write, fd, from, n);
}

ssize_t writev(int fd, const struct iovec *parts, int n) {
    char path[PATH_MAX];
    FAIL(below[0] ? abs(verdict("write", path_of(fd, path), NULL)) : 0);
    return syscall(SYS_writev, fd, parts, n);
}

ssize_t read(int fd, void *to, size_t n) {
    char path[PATH_MAX];
    FAIL(below[0] ? verdict("read", path_of(fd, path), NULL) : 0);
    return syscall(SYS_read, fd, to, n);
}

int fsync(int fd) {
    char path[PATH_MAX];
    FAIL(below[0] ? verdict("fsync", path_of(fd, path), NULL) : 0);
    return syscall(SYS_fsync, fd);
}

int rename(const char *from, const char *to) {
    FAIL(verdict("rename", from, to));
    return syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int unlink(const char *path) {
    FAIL(verdict("unlink", path, NULL));
    return syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

int mkdir(const char *path, mode_t mode) {
    FAIL(verdict("mkdir", path, NULL));
    return syscall(SYS_mkdirat, AT_FDCWD, path, mode);
}

static int opened(int folder, const char *path, int flags, mode_t mode) {
    int writes = flags & (O_WRONLY | O_RDWR | O_CREAT);
    if (folder == AT_FDCWD || path[0] == '/') FAIL(verdict(writes ? "create" : "open", path, NULL));
    return syscall(SYS_openat, folder, path, flags, mode);
}

#define MODE(flags, mode) do { va_list rest; va_start(rest, flags); \
    mode = (flags) & (O_CREAT | __O_TMPFILE) ? va_arg(rest, int) : 0; va_end(rest); } while (0)

int open(const char *path, int flags, ...) { int m; MODE(flags, m); return opened(AT_FDCWD, path, flags, m); }
int open64(const char *path, int flags, ...) { int m; MODE(flags, m); return opened(AT_FDCWD, path, flags, m); }
int openat(int f, const char *path, int flags, ...) { int m; MODE(flags, m); return opened(f, path, flags, m); }
int openat64(int f, const char *path, int flags, ...) { int m; MODE(flags, m); return opened(f, path, flags, m); }
