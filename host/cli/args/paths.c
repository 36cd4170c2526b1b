#include "cli/args/paths.h"

#include "base/files/draft.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

static const char *const outputs[] = {"output", "json", "csv", "md", "sql", "scores"};
static const char *const inputs[] = {"original", "data", "calib", "margins", "classes"};
enum { n_outputs = sizeof outputs / sizeof *outputs, n_inputs = sizeof inputs / sizeof *inputs };

/* The folder's own path and the name in it: for files that are not there yet. */
static bool place_of(const char *path, char place[PATH_MAX]) {
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    const int above = slash ? (int)(slash - path) + 1 : 1;
    snprintf(folder, sizeof folder, "%.*s", above, slash ? path : ".");
    if (!realpath(folder, place)) return false;
    const size_t used = strlen(place);
    return snprintf(place + used, PATH_MAX - used, "/%s", name) < (int)(PATH_MAX - used);
}

static bool same_file(const char *a, const char *b) {
    struct stat x, y;
    char place_a[PATH_MAX], place_b[PATH_MAX];
    const bool there_a = !stat(a, &x), there_b = !stat(b, &y);
    if (there_a && there_b) return S_ISREG(x.st_mode) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
    if (there_a || there_b) return false;
    return place_of(a, place_a) && place_of(b, place_b) && !strcmp(place_a, place_b);
}

/* Bundled or made up, whatever stands after the colon. */
static bool has_no_file(const char *text) {
    static const char *const names[] = {"glyphs", "synthetic"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const size_t length = strlen(names[i]);
        if (!strncmp(text, names[i], length) && (!text[length] || text[length] == ':')) return true;
    }
    return false;
}

/* `output` is there, below the folder of a data set, and called like what is read of one: pictures, or the
 * batches of CIFAR-10, which may have no extension. */
static bool is_data_of(const char *folder, const char *output) {
    static const char *const extensions[] = {".jpg", ".jpeg", ".png", ".bin"};
    struct stat about;
    char above[PATH_MAX], below[PATH_MAX];
    if (stat(folder, &about) || !S_ISDIR(about.st_mode) || !realpath(folder, above)) return false;
    if (!realpath(output, below) || strncmp(above, below, strlen(above)) || below[strlen(above)] != '/')
        return false;
    const char *dot = strrchr(strrchr(below, '/'), '.');
    bool data = !dot;
    for (size_t i = 0; i < sizeof extensions / sizeof *extensions; i++)
        data = data || !strcasecmp(dot, extensions[i]);
    return data;
}

/* `text` is a file, or KIND:FILE, or either with a :SPLIT behind it; a model has its weights in FILE.data
 * too. */
static bool is_read(const char *text, const char *output) {
    const char *const colon = strchr(text, ':'), *const starts[] = {text, colon ? colon + 1 : NULL};
    if (has_no_file(text)) return false;
    for (int i = 0; i < 2 && starts[i]; i++) {
        const size_t whole = strlen(starts[i]);
        const char *split = strrchr(starts[i], ':');
        const size_t ends[] = {whole, split ? (size_t)(split - starts[i]) : whole};
        for (int e = 0; e < 2; e++) {
            char file[PATH_MAX];
            snprintf(file, sizeof file, "%.*s", (int)ends[e], starts[i]);
            if (same_file(file, output) || (i && is_data_of(file, output))) return true;
            snprintf(file, sizeof file, "%.*s.data", (int)ends[e], starts[i]);
            if (same_file(file, output)) return true;
        }
    }
    return false;
}

/* Pictures that a list names are not looked up: rows, scores and models replace none. */
static bool is_picture(const char *path) {
    static const unsigned char png[] = {0x89, 'P', 'N', 'G'}, jpeg[] = {0xff, 0xd8, 0xff};
    unsigned char start[4] = {0};
    struct stat about;
    if (stat(path, &about) || !S_ISREG(about.st_mode)) return false;
    FILE *file = fopen(path, "rbe");
    const size_t read = file ? fread(start, 1, sizeof start, file) : 0;
    if (file) fclose(file);
    return read == sizeof start && (!memcmp(start, png, sizeof png) || !memcmp(start, jpeg, sizeof jpeg));
}

static nd_status check_inputs(const nd_args *args, const char *option, const char *output) {
    static const char refusal[] = "--%s %s: that file is read (%s), and would be lost; write to another one";
    for (size_t i = 0; i < args->n_positional; i++)
        ND_REQUIRE(!is_read(args->positional[i], output), nd_status_usage, refusal, option, output,
                   args->positional[i]);
    for (int i = 0; i < n_inputs; i++) {
        const char *text = nd_args_text(args, inputs[i], NULL);
        ND_REQUIRE(!text || !is_read(text, output), nd_status_usage, refusal, option, output, text);
    }
    return nd_status_ok;
}

nd_status nd_cli_check_paths(const nd_args *args) {
    for (int i = 0; i < n_outputs; i++) {
        const char *path = nd_args_text(args, outputs[i], NULL);
        if (!path || !strcmp(path, "-")) continue;
        ND_TRY(check_inputs(args, outputs[i], path));
        ND_REQUIRE(!strcmp(args->verb, "report") || !is_picture(path), nd_status_usage,
                   "--%s %s: that file is a picture, and would be lost; write to another one", outputs[i],
                   path);
        for (int k = 0; k < i; k++) {
            const char *other = nd_args_text(args, outputs[k], NULL);
            ND_REQUIRE(!other || !same_file(other, path), nd_status_usage, "--%s %s: --%s is written there",
                       outputs[i], path, outputs[k]);
        }
    }
    const char *output = nd_args_text(args, "output", NULL);
    if (!output) return nd_status_ok;
    return nd_draft_try(output);
}
