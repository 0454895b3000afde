/* The disk beneath one store and the clock on the wall, with faults and a record: preloaded into the server under test
 * (storage_shim.py).
 *
 * Syncs of the store's files fail as a control file says, which the test holds in memory too and may change at any
 * time. What is written, cut, synced and removed goes into a journal, from which storage_image.py tells what a power cut
 * would have left at any point. Nothing but the files named STORAGE_FILES* is touched. The wall clock goes wrong by as
 * much as the control file says; the clock that counts from the start of the machine never does.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define PROCESSES_MAX 256

struct control {
    uint32_t sync_fails_ppm;  /* of a million syncs, so many fail with EIO */
    uint32_t write_errno;     /* not 0: every write fails with it */
    uint64_t random;          /* state of the generator that decides, never 0 */
    uint64_t synced;
    uint64_t failed;
    uint64_t refused;         /* writes */
    int64_t clock_off_s;      /* what the wall clock is ahead */
    uint64_t processes;
    uint64_t began_at[PROCESSES_MAX]; /* in the journal: what stands before may end in half a record of a killed one */
};

struct record {
    char kind; /* W write, X that write went wrong, T truncate, S synced, F sync failed, U removed */
    char file; /* d the database, w its log */
    char pad[6];
    int64_t at;
    int64_t size;
};

static ssize_t (*real_pwrite)(int, const void *, size_t, off64_t);
static int (*real_ftruncate)(int, off64_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_unlink)(const char *);
static int (*real_clock_gettime)(clockid_t, struct timespec *);

static struct control *control;
static int journal = -1;
static const char *files;
static size_t files_length;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void set_up(void) {
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_unlink = dlsym(RTLD_NEXT, "unlink");
    real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    files = getenv("STORAGE_FILES");
    const char *control_path = getenv("STORAGE_CONTROL"), *journal_path = getenv("STORAGE_JOURNAL");
    if (!files || !control_path)
        return;
    files_length = strlen(files);
    int fd = open(control_path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return;
    void *mapped = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (mapped == MAP_FAILED)
        return;
    if (journal_path) {
        journal = open(journal_path, O_WRONLY | O_APPEND | O_CLOEXEC);
        struct control *shared = mapped;
        if (shared->processes == PROCESSES_MAX)
            abort();
        shared->began_at[shared->processes++] = lseek(journal, 0, SEEK_END);
    }
    control = mapped;
}

/* 'd' or 'w' if the path is one of the store's files, else 0. */
static char file_of(const char *path) {
    if (strncmp(path, files, files_length))
        return 0;
    const char *ending = path + files_length;
    return !*ending ? 'd' : !strcmp(ending, "-wal") ? 'w' : 0;
}

static char file_behind(int fd) {
    if (!control)
        return 0;
    char link[32], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return file_of(path);
}

/* Under the lock, and before the thing itself: what a killed process noted by half it did not do at all. A journal that
 * cannot be written would make every later finding worthless. */
static void note(char kind, char file, int64_t at, const void *data, int64_t size) {
    if (journal < 0)
        return;
    struct record record = {kind, file, {0}, at, size};
    struct iovec parts[2] = {{&record, sizeof record}, {(void *)data, data ? (size_t)size : 0}};
    size_t whole = parts[0].iov_len + parts[1].iov_len;
    if (writev(journal, parts, 2) != (ssize_t)whole)
        abort();
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    char file = file_behind(fd);
    if (!file)
        return real_pwrite(fd, data, size, at);
    pthread_mutex_lock(&lock);
    ssize_t written = -1;
    int code = control->write_errno;
    if (code) {
        control->refused++;
    } else {
        note('W', file, at, data, size);
        written = real_pwrite(fd, data, size, at);
        code = errno;
        if (written != (ssize_t)size)
            note('X', file, at, NULL, 0);
    }
    pthread_mutex_unlock(&lock);
    errno = code;
    return written;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { return pwrite64(fd, data, size, at); }

int ftruncate64(int fd, off64_t size) {
    char file = file_behind(fd);
    if (!file)
        return real_ftruncate(fd, size);
    pthread_mutex_lock(&lock);
    note('T', file, size, NULL, 0);
    int result = real_ftruncate(fd, size), code = errno;
    pthread_mutex_unlock(&lock);
    errno = code;
    return result;
}

int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

static int sync_it(int fd, int (*real)(int)) {
    char file = file_behind(fd);
    if (!file)
        return real(fd);
    pthread_mutex_lock(&lock);
    uint64_t drawn = control->random;
    drawn ^= drawn << 13, drawn ^= drawn >> 7, drawn ^= drawn << 17;
    control->random = drawn;
    int failed = drawn % 1000000 < control->sync_fails_ppm;
    if (failed)
        control->failed++;
    else
        control->synced++;
    note(failed ? 'F' : 'S', file, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    if (failed)
        errno = EIO;
    return failed ? -1 : 0; /* the page cache outlives the process, and the power cut is the journal's */
}

int fsync(int fd) { return sync_it(fd, real_fsync); }

int fdatasync(int fd) { return sync_it(fd, real_fdatasync); }

int unlink(const char *path) {
    char file = control ? file_of(path) : 0;
    if (!file)
        return real_unlink(path);
    pthread_mutex_lock(&lock);
    note('U', file, 0, NULL, 0);
    int result = real_unlink(path), code = errno;
    pthread_mutex_unlock(&lock);
    errno = code;
    return result;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    if (!real_clock_gettime) /* asked before we were set up */
        real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real_clock_gettime(clock, now);
    if (!result && clock == CLOCK_REALTIME && control)
        now->tv_sec += control->clock_off_s;
    return result;
}
