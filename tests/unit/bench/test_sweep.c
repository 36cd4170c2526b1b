/* The sweep as a process: killed at random moments, restarted, shared out. Needs the nd program beside this
 * one. */
#include "base/rng.h"
#include "base/rows/row_write.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ranks = 6, methods = 2, points = ranks * methods + 1 }; /* and the original */

static char folder[] = "nd-sweep-XXXXXX";

static void in_folder(void) {
    cr_assert(mkdtemp(folder));
}

static void remove_folder(void) {
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    cr_expect_eq(system(command), 0);
}

static pid_t start_sweep(const char *rows, const char *shard) {
    char program[4096], path[256];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 4);
    cr_assert_gt(length, 0);
    program[length] = 0;
    strcpy(strrchr(program, '/') + 1, "nd");
    snprintf(path, sizeof path, "%s/%s", folder, rows);
    pid_t child = fork();
    if (child) return child;
    int null = open("/dev/null", O_WRONLY);
    dup2(null, STDOUT_FILENO);
    dup2(null, STDERR_FILENO);
    execl(program, "nd", "sweep", "resnet20", "--backend", "ref", "--rank", "1..6", "--method", "dwpw,pwdw",
          "--json", path, "--shard", shard, (char *)NULL);
    _exit(127);
}

static int wait_for(pid_t child) {
    int state;
    cr_assert_eq(waitpid(child, &state, 0), child);
    return WIFEXITED(state) ? WEXITSTATUS(state) : -1;
}

static size_t count_lines(const char *name) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "r");
    size_t lines = 0;
    for (int c; file && (c = fgetc(file)) != EOF;) lines += c == '\n';
    if (file) fclose(file);
    return lines;
}

/* All points of the sweep once each. */
static void assert_complete(const char *const *names, size_t n_names) {
    bool seen[methods][ranks] = {{false}};
    size_t originals = 0;
    for (size_t f = 0; f < n_names; f++) {
        char path[256];
        nd_row *rows;
        size_t count;
        snprintf(path, sizeof path, "%s/%s", folder, names[f]);
        cr_assert_eq(nd_rows_read(path, &rows, &count), nd_status_ok, "%s", nd_error());
        for (size_t i = 0; i < count; i++) {
            const nd_row_value *rank = &rows[i].values[nd_field_rank];
            if (!rank->set) {
                originals++;
                continue;
            }
            bool *there = &seen[!strcmp(rows[i].values[nd_field_method].text, "pwdw")][rank->i - 1];
            cr_expect(!*there, "%s T=%d twice", rows[i].values[nd_field_method].text, (int)rank->i);
            *there = true;
        }
        nd_rows_free(rows, count);
    }
    cr_expect_eq(originals, 1);
    for (int m = 0; m < methods; m++)
        for (int r = 0; r < ranks; r++) cr_expect(seen[m][r], "method %d T=%d is lost", m, r + 1);
}

Test(sweep, killed_at_random_loses_and_repeats_nothing, .init = in_folder, .fini = remove_folder,
     .timeout = 300) {
    nd_rng rng = nd_rng_seed((uint64_t)time(NULL));
    size_t before = 0;
    for (int kill_number = 0; kill_number < 20; kill_number++) {
        pid_t child = start_sweep("rows.json", "1/1");
        usleep((useconds_t)nd_rng_below(&rng, 250000));
        kill(child, SIGKILL);
        wait_for(child);
        size_t after = count_lines("rows.json");
        cr_expect_geq(after, before, "kill %d lost a finished row", kill_number);
        before = after;
    }
    cr_assert_eq(wait_for(start_sweep("rows.json", "1/1")), 0);
    const char *const names[] = {"rows.json"};
    cr_expect_eq(count_lines("rows.json"), points);
    assert_complete(names, 1);
    /* A finished sweep does nothing more. */
    cr_assert_eq(wait_for(start_sweep("rows.json", "1/1")), 0);
    cr_expect_eq(count_lines("rows.json"), points);
}

Test(sweep, shards_share_the_points, .init = in_folder, .fini = remove_folder, .timeout = 300) {
    static const char *const names[] = {"1.json", "2.json", "3.json"}, *const shards[] = {"1/3", "2/3",
                                                                                          "3/3"};
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(wait_for(start_sweep(names[i], shards[i])), 0);
        cr_expect_geq(count_lines(names[i]), 4);
    }
    assert_complete(names, 3);
    cr_expect_eq(wait_for(start_sweep("4.json", "4/3")), 2);
}
