#include "cli/args/rerun.h"

#include "base/rows/row_write.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/wait.h>
#include <unistd.h>

/* Copies one word to `out`, which has room for the whole command; false when a quote does not end. */
static bool next_word(const char **at, char *out) {
    char quote = 0;
    const char *c = *at;
    for (; *c && (quote || *c != ' '); c++) {
        if (!quote && (*c == '\'' || *c == '"'))
            quote = *c;
        else if (quote && *c == quote)
            quote = 0;
        else if (*c == '\\' && quote != '\'' && c[1])
            *out++ = *++c;
        else
            *out++ = *c;
    }
    *out = 0;
    *at = c;
    return !quote;
}

/* The words of a command line as provenance quotes it (POSIX shell quoting). NULL-ended, in the arena. */
static nd_status split_words(nd_arena *arena, const char *command, char ***words, size_t *count) {
    size_t length = strlen(command);
    *words = nd_arena_alloc(arena, (length + 2) * sizeof **words);
    char *word = nd_arena_alloc(arena, length + 1);
    ND_REQUIRE(*words && word, nd_status_memory, "no memory");
    *count = 0;
    for (const char *at = command + strspn(command, " "); *at; at += strspn(at, " ")) {
        ND_REQUIRE(next_word(&at, word), nd_status_format, "%.60s: a quote does not end", command);
        (*words)[*count] = nd_arena_strdup(arena, word);
        ND_REQUIRE((*words)[(*count)++], nd_status_memory, "no memory");
    }
    return nd_status_ok;
}

/* Takes the options that say where rows go, and --quiet, out of the words; returns how many are left. */
static size_t drop_outputs(char **words, size_t count) {
    static const char *const outputs[] = {"--json", "--csv", "--md", "--sql"};
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        bool drop = !strcmp(words[i], "--quiet") || !strcmp(words[i], "-q");
        for (size_t o = 0; o < sizeof outputs / sizeof *outputs && !drop; o++) {
            size_t length = strlen(outputs[o]);
            drop = !strncmp(words[i], outputs[o], length) && (!words[i][length] || words[i][length] == '=');
            if (drop && !words[i][length]) i++; /* its value is the next word */
        }
        if (!drop) words[kept++] = words[i];
    }
    return kept;
}

/* Waits for this program run with these words, its stdout thrown away. */
static nd_status run_self(char **words) {
    pid_t child = fork();
    ND_REQUIRE(child >= 0, nd_status_internal, "fork: %s", strerror(errno));
    if (!child) {
        int null = open("/dev/null", O_WRONLY);
        if (null >= 0) dup2(null, STDOUT_FILENO);
        execv("/proc/self/exe", words);
        _exit(127);
    }
    int state = 0;
    while (waitpid(child, &state, 0) < 0)
        ND_REQUIRE(errno == EINTR, nd_status_internal, "wait: %s", strerror(errno));
    bool done = WIFEXITED(state) && (WEXITSTATUS(state) == 0 || WEXITSTATUS(state) == 5);
    ND_REQUIRE(done, nd_status_failed, "measuring again failed: nd bench ended with %d",
               WIFEXITED(state) ? WEXITSTATUS(state) : 128 + WTERMSIG(state));
    return nd_status_ok;
}

void nd_cli_fix_addresses(const nd_args *args) {
    int now = personality(0xffffffff); /* asks, sets nothing */
    if (now < 0 || now & ADDR_NO_RANDOMIZE) return;
    bool set = personality((unsigned long)now | ADDR_NO_RANDOMIZE) >= 0;
    now = personality(0xffffffff); /* a sandbox may take the wish and forget it: that would go on for ever */
    if (!set || now < 0 || !(now & ADDR_NO_RANDOMIZE)) {
        nd_log(nd_log_info, "addresses stay random: the kernel does not fix them here");
        return;
    }
    execv("/proc/self/exe", args->argv);
    nd_log(nd_log_info, "addresses stay random: %s", strerror(errno));
}

static nd_status check_row(const nd_row *row, const char **command) {
    nd_row here = {0};
    nd_row_provenance(&here, 0, NULL);
    const nd_row_value *theirs = &row->values[nd_field_commit], *ours = &here.values[nd_field_commit];
    bool same = nd_row_value_equal(nd_field_commit, theirs, ours);
    nd_row_free(&here);
    ND_REQUIRE(row->values[nd_field_command].set, nd_status_unsupported,
               "cannot measure again: no command recorded");
    ND_REQUIRE(same, nd_status_unsupported,
               "cannot measure again: the rows are of commit %s, not of this build",
               theirs->set ? theirs->text : "unknown");
    *command = row->values[nd_field_command].text;
    return nd_status_ok;
}

nd_status nd_cli_rerun(const nd_row *row, nd_row **rows, size_t *count) {
    const char *command;
    *rows = NULL;
    *count = 0;
    ND_TRY(check_row(row, &command));
    nd_arena arena = {0};
    nd_status status = nd_status_ok;
    char path[] = "/tmp/nd-rows-XXXXXX";
    char **words;
    size_t n = 0;
    int file = mkstemp(path);
    ND_REQUIRE(file >= 0, nd_status_input, "%s: %s", path, strerror(errno));
    close(file);
    ND_TRY_DONE(split_words(&arena, command, &words, &n));
    ND_REQUIRE_DONE(n >= 2 && !strcmp(words[1], "bench"), nd_status_unsupported,
                    "cannot measure again: \"%.60s\" is no nd bench command", command);
    n = drop_outputs(words, n);
    char **all = nd_arena_alloc(&arena, (n + 4) * sizeof *all);
    ND_REQUIRE_DONE(all, nd_status_memory, "no memory");
    memcpy(all, words, n * sizeof *all);
    all[n] = "--json";
    all[n + 1] = path;
    all[n + 2] = "--quiet";
    ND_TRY_DONE(run_self(all));
    ND_TRY_DONE(nd_rows_read(path, rows, count));
done:
    unlink(path);
    nd_arena_free(&arena);
    return status;
}
