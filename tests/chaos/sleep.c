// Before libfaketime in LD_PRELOAD: its own clock_nanosleep (0.9.10) fails for Python's waits until a monotonic time.
#define _GNU_SOURCE
#include <errno.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *request, struct timespec *remain) {
    return syscall(SYS_clock_nanosleep, clock, flags, request, remain) ? errno : 0;
}
