/* Threads that sleep, and how many the machine is good for. */
#include "base/machine/cgroup.h"
#include "base/machine/contention.h"
#include "base/machine/cores.h"
#include "base/memory.h"
#include "base/parallel.h"
#include "run/libraries.h"
#include "run/plugins.h"

#include <criterion/criterion.h>

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static double seconds(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void burn(double cpu_seconds) {
    const double end = seconds(CLOCK_THREAD_CPUTIME_ID) + cpu_seconds;
    while (seconds(CLOCK_THREAD_CPUTIME_ID) < end) continue;
}

/* Range 0 works; the others have nothing to do but wait for it. */
static void burn_first(void *context, int64_t begin, int64_t end, int worker) {
    (void)worker;
    (void)end;
    if (begin == 0) burn(*(const double *)context);
}

/* What waiting costs in CPU time, of what one thread does: 0 when nobody spins, threads - 1 when all do.
 * Another process's spinning makes the loop last longer and costs us nothing. */
static double waste(int threads, int loops, double each) {
    nd_threads_set(threads);
    const double start = seconds(CLOCK_PROCESS_CPUTIME_ID);
    for (int i = 0; i < loops; i++) nd_parallel_for(threads, 1000000, burn_first, &each);
    return (seconds(CLOCK_PROCESS_CPUTIME_ID) - start) / (loops * each) - 1;
}

static pid_t spinner_start(void) {
    const pid_t child = fork();
    for (volatile int i = 0; !child; i++) continue;
    return child;
}

static void spinner_stop(pid_t child) {
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

Test(machine, waiting_threads_sleep) {
    const pid_t spinner = spinner_start();
    const double wasted = waste(2, 50, 2e-3);
    spinner_stop(spinner);
    cr_expect_lt(wasted, 0.15, "waiting cost %.0f %% of the work", 100 * wasted);
}

/* Those of the libraries, whose team our loops run on once the backend is open. */
Test(machine, waiting_library_threads_sleep) {
    nd_backend *backend;
    if (nd_backend_open("cpu", &(nd_backend_settings){.threads = 2}, &backend))
        cr_skip_test("no cpu backend");
    const pid_t spinner = spinner_start();
    const double wasted = waste(2, 50, 2e-3);
    spinner_stop(spinner);
    cr_expect_lt(wasted, 0.15, "waiting cost %.0f %% of the work", 100 * wasted);
    nd_backend_close(backend);
}

/* A processor that is younger than OpenBLAS is no reason for kernels without AVX. */
Test(machine, libraries_use_the_vectors_of_the_processor) {
#if defined __x86_64__
    if (!__builtin_cpu_supports("avx2")) cr_skip_test("this processor has no AVX2");
    nd_backend *backend;
    if (nd_backend_open("cpu", &(nd_backend_settings){0}, &backend)) cr_skip_test("no cpu backend");
    static const char *const old[] = {"Prescott", "Core2",   "Nehalem",   "Athlon", "Barcelona",
                                      "Bobcat",   "Generic", "Northwood", "Katmai", "Banias"};
    for (size_t i = 0; i < sizeof old / sizeof *old; i++)
        cr_expect(!strstr(backend->libraries, old[i]), "%s", backend->libraries);
    nd_backend_close(backend);
#else
    cr_skip_test("this processor has no x86-64 vectors");
#endif
}

static void *read_environment(void *stop) {
    while (!*(atomic_bool *)stop) (void)getenv("NO_SUCH_NAME");
    return NULL;
}

/* libturbojpeg asks for its settings with every picture, in the threads that decode: a variable that is set
 * meanwhile moves what it reads. */
Test(machine, opening_a_backend_beside_threads_leaves_the_environment_alone) {
    atomic_bool stop = false;
    pthread_t reader;
    nd_backend *backend;
    unsetenv("OPENBLAS_CORETYPE");
    unsetenv("OPENBLAS_THREAD_TIMEOUT");
    cr_assert(!pthread_create(&reader, NULL, read_environment, &stop));
    char **const before = environ;
    const nd_status status = nd_backend_open("cpu", &(nd_backend_settings){0}, &backend);
    cr_expect_eq(environ, before);
    cr_expect_null(getenv("OPENBLAS_CORETYPE"));
    cr_expect_null(getenv("OPENBLAS_THREAD_TIMEOUT"));
    stop = true;
    pthread_join(reader, NULL);
    if (status) cr_skip_test("no cpu backend");
    nd_backend_close(backend);
}

/* In a process with one thread, which that of a test is not. */
static int status_alone(int (*body)(void)) {
    int status = -1;
    const pid_t child = fork();
    if (!child) _exit(body());
    waitpid(child, &status, 0);
    return status;
}

static int prepare_anew(void) {
    unsetenv("OPENBLAS_THREAD_TIMEOUT");
    nd_libraries_prepare();
    return getenv("OPENBLAS_THREAD_TIMEOUT") ? 0 : 1;
}

static int prepare_what_is_set(void) {
    setenv("OPENBLAS_THREAD_TIMEOUT", "20", 1);
    nd_libraries_prepare();
    return strcmp(getenv("OPENBLAS_THREAD_TIMEOUT"), "20");
}

Test(machine, libraries_are_prepared_where_there_is_one_thread) {
    cr_expect_eq(status_alone(prepare_anew), 0);
    cr_expect_eq(status_alone(prepare_what_is_set), 0);
}

/* The same loop on a team that spins, to know that the measure sees it. */
static nd_team_work *spin_work;
static void *spin_context;
static _Atomic int spin_done;

static void *spin_member(void *unused) {
    (void)unused;
    spin_work(spin_context, 1);
    while (!spin_done) continue;
    return NULL;
}

static void spin_team(int threads, nd_team_work *work, void *context) {
    pthread_t thread;
    (void)threads;
    spin_work = work;
    spin_context = context;
    spin_done = 0;
    cr_assert(!pthread_create(&thread, NULL, spin_member, NULL));
    work(context, 0);
    spin_done = 1;
    pthread_join(thread, NULL);
}

Test(machine, the_measure_sees_spinning) {
    nd_parallel_lend(spin_team);
    double wasted = 0;
    /* On a busy machine the spinning thread may not get a processor. */
    for (int turn = 0; turn < 10 && wasted <= 0.3; turn++) wasted = fmax(wasted, waste(2, 10, 20e-3));
    cr_expect_gt(wasted, 0.3, "a spinning team cost %.0f %% of the work", 100 * wasted);
}

static void count_ranges(void *context, int64_t begin, int64_t end, int worker) {
    _Atomic int64_t *sum = context;
    (void)worker;
    *sum += end - begin;
}

Test(machine, loops_after_a_fork) {
    _Atomic int64_t sum = 0;
    nd_threads_set(4);
    nd_parallel_for(1000, 1000, count_ranges, &sum);
    cr_assert_eq(sum, 1000);
    const pid_t child = fork();
    if (!child) {
        sum = 0;
        for (int i = 0; i < 100; i++) nd_parallel_for(1000, 1000, count_ranges, &sum);
        _exit(sum == 100000 ? 0 : 1);
    }
    int result = -1;
    waitpid(child, &result, 0);
    cr_expect_eq(result, 0);
    nd_parallel_for(1000, 1000, count_ranges, &sum);
    cr_expect_eq(sum, 2000);
}

static void note_whole(void *context, int64_t begin, int64_t end, int worker) {
    *(bool *)context = begin == 0 && end == 100 && worker == 0;
}

Test(machine, small_loops_stay_on_the_caller) {
    bool whole = false;
    nd_threads_set(4);
    nd_parallel_for(100, nd_parallel_worth / 100 - 1, note_whole, &whole);
    cr_expect(whole);
}

static void *loop_many(void *context) {
    nd_threads_set(3);
    for (int i = 0; i < 2000; i++) nd_parallel_for(7, 100000, count_ranges, context);
    return NULL;
}

Test(machine, loops_of_several_threads) {
    pthread_t threads[4];
    _Atomic int64_t sum = 0;
    for (int i = 0; i < 4; i++) cr_assert(!pthread_create(&threads[i], NULL, loop_many, (void *)&sum));
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    cr_expect_eq(sum, 4 * 2000 * 7);
}

Test(machine, memory_follows_the_address_space) {
#ifdef __SANITIZE_ADDRESS__
    cr_skip_test("AddressSanitizer takes terabytes of address space for itself");
#endif
    const nd_memory_room before = nd_memory_find();
    cr_assert_gt(before.left, 1);
    cr_assert_leq(before.left, before.limit);
    cr_assert_lt(before.limit, SIZE_MAX);
    if (before.limit <= (size_t)1 << 31) cr_skip_test("a smaller limit holds");
    const struct rlimit space = {(rlim_t)1 << 31, (rlim_t)1 << 31};
    cr_assert(!setrlimit(RLIMIT_AS, &space));
    const nd_memory_room after = nd_memory_find();
    cr_expect_eq(after.limit, (size_t)1 << 31);
    cr_expect_lt(after.left, after.limit);
    cr_expect(strstr(after.by, "ulimit"), "%s", after.by);
}

/* --- control groups, of a made-up system */
static char root[] = "/tmp/nd_cgroup_XXXXXX";

static void put(const char *path, const char *text) {
    char whole[512];
    snprintf(whole, sizeof whole, "%s%s", root, path);
    for (char *slash = strchr(whole + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(whole, 0700);
        *slash = '/';
    }
    FILE *file = fopen(whole, "w");
    cr_assert(file, "%s", whole);
    fputs(text, file);
    fclose(file);
}

static void system_begin(void) {
    cr_assert(mkdtemp(root));
}

static void system_end(void) {
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", root);
    cr_assert(!system(command));
}

TestSuite(cgroup, .init = system_begin, .fini = system_end);

Test(cgroup, version_2) {
    nd_cgroup found;
    put("/proc/self/cgroup", "0::/user.slice/job\n");
    put("/proc/self/mountinfo", "22 1 0:21 / /proc rw - proc proc rw\n"
                                "30 1 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n");
    nd_cgroup_read(root, &found);
    cr_expect_eq(found.cpus, 0);
    cr_expect_eq(found.memory, -1);
    put("/sys/fs/cgroup/user.slice/job/cpu.max", "max 100000\n");
    put("/sys/fs/cgroup/user.slice/cpu.max", "150000 100000\n");
    put("/sys/fs/cgroup/user.slice/job/memory.max", "1073741824\n");
    put("/sys/fs/cgroup/user.slice/job/memory.current", "500000000\n");
    put("/sys/fs/cgroup/user.slice/job/memory.stat", "anon 1\ninactive_file 400000000\nactive_file 7\n");
    put("/sys/fs/cgroup/user.slice/memory.max", "max\n");
    nd_cgroup_read(root, &found);
    cr_expect_eq(found.cpus, 1.5);
    cr_expect_eq(found.memory, 1073741824);
    cr_expect_eq(found.memory_charged, 100000000);
    put("/sys/fs/cgroup/user.slice/memory.high", "1000\n");
    nd_cgroup_read(root, &found);
    cr_expect_eq(found.memory, 1000);
}

Test(cgroup, version_1) {
    nd_cgroup found;
    put("/proc/self/cgroup", "4:memory:/docker/a\n3:cpuset:/\n2:cpu,cpuacct:/docker/a\n0::/\n");
    put("/proc/self/mountinfo",
        "30 1 0:26 /docker/a /sys/fs/cgroup/cpu,cpuacct rw shared:1 - cgroup cgroup rw,cpu,cpuacct\n"
        "31 1 0:27 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
        "32 1 0:28 / /sys/fs/cgroup/with\\040blank rw - cgroup cgroup rw,memory\n");
    put("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
    put("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
    put("/sys/fs/cgroup/with blank/docker/a/memory.limit_in_bytes", "9223372036854771712\n");
    put("/sys/fs/cgroup/with blank/docker/memory.limit_in_bytes", "2000000\n");
    nd_cgroup_read(root, &found);
    cr_expect_eq(found.cpus, 0);
    cr_expect_eq(found.memory, 2000000);
    put("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "50000\n");
    nd_cgroup_read(root, &found);
    cr_expect_eq(found.cpus, 0.5);
}

Test(cgroup, threads_follow_the_smallest) {
    nd_cores cores;
    unsetenv("OMP_NUM_THREADS");
    nd_cores_find(root, &cores);
    const int affinity = cores.count;
    cr_assert_geq(affinity, 1);
    cr_expect(strstr(cores.why, "affinity"), "%s", cores.why);
    put("/proc/self/cgroup", "0::/\n");
    put("/proc/self/mountinfo", "30 1 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
    put("/sys/fs/cgroup/cpu.max", "30000 100000\n");
    nd_cores_find(root, &cores);
    cr_expect_eq(cores.count, 1);
    if (affinity > 1) cr_expect(strstr(cores.why, "quota of 0.3"), "%s", cores.why);
    put("/sys/fs/cgroup/cpu.max", "99900000 100000\n");
    setenv("OMP_NUM_THREADS", "1,4", 1);
    nd_cores_find(root, &cores);
    cr_expect_eq(cores.count, 1);
    if (affinity > 1) cr_expect(strstr(cores.why, "OMP_NUM_THREADS=1,4"), "%s", cores.why);
    setenv("OMP_NUM_THREADS", "100000000000", 1);
    nd_cores_find(root, &cores);
    cr_expect_eq(cores.count, affinity);
}

/* Windows of a process of `threads` threads that ran and waited for so many seconds a second. */
static int decide(nd_contention *c, int wanted, double *now, double ran, double waited) {
    *now += 0.05;
    return nd_contention_decide(c, wanted, *now, 0.05, &(nd_cpu_usage){0.05 * ran, 0.05 * waited});
}

Test(machine, fewer_threads_where_they_wait_for_each_other) {
    nd_contention c = {0};
    double now = 1;
    cr_expect_eq(decide(&c, 2, &now, 1.9, 0.02), 2, "alone");
    cr_expect_eq(decide(&c, 2, &now, 0.9, 0.01), 2, "a serial part: nobody waits");
    cr_expect_eq(decide(&c, 2, &now, 1.0, 1.0), 2, "half of each core, and all of it used");
    cr_expect_eq(decide(&c, 2, &now, 0.3, 0.5), 1, "late at each loop");
    cr_expect_eq(decide(&c, 2, &now, 0.6, 0.3), 1);
    cr_expect_eq(decide(&c, 2, &now, 0.6, 0.3), 2, "tried again after 0.1 s");
    cr_expect_eq(decide(&c, 2, &now, 1.9, 0), 2, "the others have gone");
}

Test(machine, as_many_threads_as_pay) {
    nd_contention c = {0};
    double now = 1;
    cr_expect_eq(decide(&c, 32, &now, 2, 8), 16);
    cr_expect_eq(decide(&c, 32, &now, 2.5, 4), 8);
    cr_expect_eq(decide(&c, 32, &now, 4, 1), 8, "nearly all of what 8 may have");
}

/* Beside processes that stay, trials become rare: one in 3.2 s in the end. */
Test(machine, trials_become_rare) {
    nd_contention c = {0};
    double now = 1;
    int many = 0;
    for (int i = 0; i < 1000; i++) many += decide(&c, 2, &now, 0.3, 0.5) == 2;
    cr_expect_gt(many, 10);
    cr_expect_lt(many, 25);
}

Test(machine, usage_of_this_process) {
    nd_cpu_usage before, after;
    if (!nd_cpu_usage_read(&before)) cr_skip_test("no schedstat");
    burn(0.1);
    cr_assert(nd_cpu_usage_read(&after));
    cr_expect_gt(after.ran - before.ran, 0.09);
    cr_expect_lt(after.ran - before.ran, 0.5);
    cr_expect_geq(after.waited, before.waited);
}

static int asked; /* threads of the last loop */

static void team_of_one(int threads, nd_team_work *work, void *context) {
    asked = threads;
    work(context, 0);
}

/* Before anything is known, and beside loops of fewer ranges than there are threads. What other processes
 * took from this one meanwhile is another reason for fewer. */
Test(machine, all_threads_are_worth_waking_at_first) {
    _Atomic int64_t sum = 0;
    nd_cpu_usage before = {0}, after = {0};
    (void)nd_cpu_usage_read(&before);
    nd_threads_set(4);
    nd_threads_adapt(true);
    nd_parallel_lend(team_of_one);
    for (int i = 0; i < 4; i++) {
        if (i == 3) usleep(60000); /* longer than usage is left unread */
        nd_parallel_for(2, 1000000, count_ranges, &sum);
        cr_expect_eq(asked, 2);
        nd_parallel_for(4, 1000000, count_ranges, &sum);
        (void)nd_cpu_usage_read(&after);
        if (after.waited - before.waited < 0.001) cr_expect_eq(asked, 4);
    }
    cr_expect_eq(sum, 4 * 6);
}
