#include "base/hash.h"
#include "cli/args/args.h"
#include "cli/args/help.h"
#include "cli/args/manual.h"
#include "cli/args/needs.h"
#include "cli/args/paths.h"
#include "cli/out/signals.h"
#include "run/libraries.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const nd_verb *verb_find(const char *name) {
    for (const nd_verb *verb = nd_verb_table; verb->name; verb++)
        if (!strcmp(verb->name, name)) return verb;
    return NULL;
}

/* Whether a warning is one of the last that were said: a network that is opened over and over repeats itself.
 */
static bool main_said(const char *message) {
    enum { remembered = 128 };
    static char said[remembered][nd_sha256_hex_size];
    static int next;
    char hash[nd_sha256_hex_size];
    nd_sha256_text(message, hash);
    for (int i = 0; i < remembered; i++)
        if (!strcmp(said[i], hash)) return true;
    memcpy(said[next++ % remembered], hash, sizeof hash);
    return false;
}

static void main_log(void *user, nd_log_level level, const char *message) {
    const nd_log_level *limit = user;
    if (level > *limit || (level == nd_log_warn && main_said(message))) return;
    fprintf(stderr, "nd: %s%s\n", level == nd_log_warn ? "warning: " : "", message);
}

static int main_fail(nd_status status) {
    fprintf(stderr, "nd: %s\n", nd_error());
    return nd_status_exit_code(status);
}

/* A full disk or a closed pipe shows here: what did not arrive is no success. */
static int main_end(nd_status status) {
    if (!status && (fflush(stdout) || ferror(stdout)))
        status = nd_fail(nd_status_input, "cannot write to stdout: %s", strerror(errno ? errno : EIO));
    return status ? main_fail(status) : EXIT_SUCCESS;
}

/* nd help [VERB], nd help --man [VERB], nd help --completion SHELL */
static int main_help(int argc, char **argv) {
    const char *what = argc > 2 ? argv[2] : "";
    const bool manual = !strcmp(what, "--man"), completion = !strcmp(what, "--completion"),
               page = manual || completion;
    const char *name = page && argc > 3 ? argv[3] : page ? "" : what;
    if (completion) return main_end(nd_manual_completion(name, stdout));
    const nd_verb *verb = verb_find(name);
    if (*name && !verb) return main_end(nd_fail(nd_status_usage, "%s: no such verb; see nd --help", name));
    if (manual)
        nd_manual_page(verb, stdout);
    else
        nd_help_print(verb, stdout);
    return main_end(nd_status_ok);
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "help")) return main_help(argc, argv);
    if (argc < 2 || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
        nd_help_print(NULL, argc < 2 ? stderr : stdout);
        return argc < 2 ? nd_status_exit_code(nd_status_usage) : main_end(nd_status_ok);
    }
    if (!strcmp(argv[1], "--version")) {
        nd_help_version(stdout);
        return main_end(nd_status_ok);
    }
    const nd_verb *verb = verb_find(argv[1]);
    if (!verb) return main_fail(nd_fail(nd_status_usage, "%s: no such verb; see nd --help", argv[1]));

    nd_args args;
    nd_status status = nd_args_parse(verb, argc, argv, &args);
    if (!status && nd_args_has(&args, "help")) {
        nd_help_print(verb, stdout);
        nd_args_free(&args);
        return main_end(nd_status_ok);
    }
    nd_log_level level = nd_args_has(&args, "quiet")     ? nd_log_error
                         : nd_args_has(&args, "verbose") ? nd_log_info
                                                         : nd_log_warn;
    nd_log_set(main_log, &level);
    nd_cli_catch_signals();
    nd_libraries_prepare(); /* before images are decoded in threads, which read the environment */
    if (!status) status = nd_cli_check_needs(&args);
    if (!status) status = nd_cli_check_paths(&args);
    bool again = !status;
    while (again) {
        status = verb->run(&args);
        again = nd_cli_elsewhere(&args, status);
    }
    nd_args_free(&args);
    return main_end(status);
}
