/* Starts programs in turn and tells what each start cost. It is small itself, since a child's peak
   memory counts what its parent had when it was forked.

   stopwatch RUNS PROGRAM ARGUMENT... [-- PROGRAM ARGUMENT...]...

   A line per start: which program, microseconds from start to exit, microseconds of processor, KiB
   of peak memory, page faults. Programs must exit with 0. With COLD in the environment each is taken
   out of the page cache before it is started. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000LL + time.tv_nsec / 1000;
}

static long long micros(struct timeval time)
{
    return time.tv_sec * 1000000LL + time.tv_usec;
}

static void forget(const char *path)
{
    int fd = open(path, O_RDONLY);
    fsync(fd); /* what is not on the disk yet cannot be dropped */
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
}

static void start(int which, char **words)
{
    struct rusage cost;
    int status;
    long long began;
    pid_t child;
    if (getenv("COLD"))
        forget(words[0]);
    began = now();
    child = vfork();
    if (child == 0) {
        execv(words[0], words);
        _exit(127);
    }
    if (child < 0 || wait4(child, &status, 0, &cost) != child || status != 0) {
        fprintf(stderr, "stopwatch: %s: status %d\n", words[0], status);
        exit(1);
    }
    dprintf(3, "%d %lld %lld %ld %ld\n", which, now() - began,
            micros(cost.ru_utime) + micros(cost.ru_stime), cost.ru_maxrss, cost.ru_minflt);
}

int main(int argc, char **argv)
{
    int runs = argc > 2 ? atoi(argv[1]) : 0, nothing;
    dup2(1, 3); /* the answer; the programs get nothing to write to */
    nothing = open("/dev/null", O_RDWR);
    dup2(nothing, 0);
    dup2(nothing, 1);
    fcntl(3, F_SETFD, FD_CLOEXEC);
    for (int i = 2; i < argc; i++)
        if (!strcmp(argv[i], "--"))
            argv[i] = NULL;
    for (int run = 0; run < runs; run++)
        for (int i = 2, which = 0; i < argc; i++)
            if (!argv[i - 1] || i == 2)
                start(which++, argv + i);
    return 0;
}
