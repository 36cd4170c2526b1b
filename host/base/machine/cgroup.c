#include "base/machine/cgroup.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { path_size = 4096, line_size = 8192 };

/* One hierarchy: where it is mounted, which of its folders that is, and the process's group in it. */
typedef struct hierarchy {
    bool unified; /* version 2 */
    char mount[path_size], top[path_size], group[path_size];
} hierarchy;

/* Does a list "a,b,c" hold the word? */
static bool list_has(const char *list, const char *word) {
    const size_t length = strlen(word);
    for (const char *at = list; at; at = strchr(at, ',')) {
        at += *at == ',';
        const size_t own = strcspn(at, ", \n");
        if (own == length && !strncmp(at, word, length)) return true;
    }
    return false;
}

static FILE *open_below(const char *root, const char *path) {
    char whole[2 * path_size];
    snprintf(whole, sizeof whole, "%s%s", root, path);
    return fopen(whole, "r");
}

/* proc(5) writes blanks in paths as \040. */
static void unescape(char *text) {
    char *to = text;
    for (const char *from = text; *from; to++) {
        const bool octal = from[0] == '\\' && from[1] && from[2] && from[3];
        *to = octal ? (char)strtol((char[]){from[1], from[2], from[3], 0}, NULL, 8) : *from;
        from += octal ? 4 : 1;
    }
    *to = '\0';
}

/* The mount of the hierarchy that has the controller: NULL means version 2. */
static bool find_mount(const char *root, const char *controller, hierarchy *out) {
    FILE *file = open_below(root, "/proc/self/mountinfo");
    char line[line_size], type[64], options[1024];
    bool found = false;
    while (file && !found && fgets(line, sizeof line, file)) {
        const char *rest = strstr(line, " - ");
        if (!rest || sscanf(line, "%*s %*s %*s %4095s %4095s", out->top, out->mount) != 2) continue;
        if (sscanf(rest, " - %63s %*s %1023s", type, options) != 2) continue;
        found =
            controller ? !strcmp(type, "cgroup") && list_has(options, controller) : !strcmp(type, "cgroup2");
    }
    if (file) fclose(file);
    if (!found) return false;
    unescape(out->top);
    unescape(out->mount);
    return true;
}

/* The process's group: the line "0::PATH" of version 2, or "N:CONTROLLERS:PATH" of version 1. */
static bool find_group(const char *root, const char *controller, hierarchy *out) {
    FILE *file = open_below(root, "/proc/self/cgroup");
    char line[line_size];
    bool found = false;
    while (file && !found && fgets(line, sizeof line, file)) {
        char *controllers = strchr(line, ':'), *path = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!path) continue;
        *path++ = '\0';
        controllers++;
        found = controller ? list_has(controllers, controller) : !*controllers;
        snprintf(out->group, sizeof out->group, "%.*s", (int)strcspn(path, "\n"), path);
    }
    if (file) fclose(file);
    return found;
}

static bool hierarchy_find(const char *root, const char *controller, bool unified, hierarchy *out) {
    out->unified = unified;
    const char *own = unified ? NULL : controller;
    return find_mount(root, own, out) && find_group(root, own, out);
}

/* A file of one folder as text; false when it is not there. */
static bool read_file(const char *root, const char *folder, const char *name, char *text, size_t size) {
    char path[2 * path_size];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = open_below(root, path);
    if (!file) return false;
    const size_t length = fread(text, 1, size - 1, file);
    text[length] = '\0';
    fclose(file);
    return length > 0;
}

/* A number of bytes; -1 for "max", for what is not there and for version 1's "no limit", which is
 * near 2^63. */
static int64_t read_bytes(const char *root, const char *folder, const char *name) {
    char text[64];
    if (!read_file(root, folder, name, text, sizeof text) || !isdigit((unsigned char)*text)) return -1;
    const long long value = strtoll(text, NULL, 10);
    return value < (long long)1 << 60 ? value : -1;
}

/* One entry of memory.stat, 0 when it is not there. */
static int64_t read_stat(const char *root, const char *folder, const char *entry) {
    char path[2 * path_size], line[256];
    snprintf(path, sizeof path, "%s/memory.stat", folder);
    FILE *file = open_below(root, path);
    const size_t length = strlen(entry);
    int64_t value = 0;
    while (file && fgets(line, sizeof line, file))
        if (!strncmp(line, entry, length) && line[length] == ' ') value = strtoll(line + length, NULL, 10);
    if (file) fclose(file);
    return value;
}

static void add_cpu(const char *root, const char *folder, bool unified, nd_cgroup *out) {
    char text[128];
    double quota = 0, period = 0;
    if (unified) {
        if (!read_file(root, folder, "cpu.max", text, sizeof text)) return;
        if (sscanf(text, "%lf %lf", &quota, &period) != 2) return;
    } else {
        quota = (double)read_bytes(root, folder, "cpu.cfs_quota_us");
        period = (double)read_bytes(root, folder, "cpu.cfs_period_us");
    }
    if (quota <= 0 || period <= 0) return;
    const double cpus = quota / period;
    if (!out->cpus || cpus < out->cpus) out->cpus = cpus;
}

static void add_memory(const char *root, const char *folder, bool unified, nd_cgroup *out) {
    int64_t limit = read_bytes(root, folder, unified ? "memory.max" : "memory.limit_in_bytes");
    const int64_t high = unified ? read_bytes(root, folder, "memory.high") : -1;
    if (high >= 0 && (limit < 0 || high < limit)) limit = high;
    if (limit < 0 || (out->memory >= 0 && limit >= out->memory)) return;
    const int64_t used = read_bytes(root, folder, unified ? "memory.current" : "memory.usage_in_bytes");
    const int64_t cache = read_stat(root, folder, unified ? "inactive_file" : "total_inactive_file");
    out->memory = limit;
    out->memory_charged = used > cache ? used - cache : 0;
}

typedef void add_limits(const char *root, const char *folder, bool unified, nd_cgroup *out);

/* From the process's group up to the mount: a limit holds for all below it. */
static void walk_up(const char *root, const hierarchy *h, add_limits *add, nd_cgroup *out) {
    char folder[2 * path_size];
    const size_t top = strcmp(h->top, "/") ? strlen(h->top) : 0, mount = strlen(h->mount);
    /* Where the mount shows a group that is not above ours, its top is the best that can be seen. */
    const bool below = !strncmp(h->group, h->top, top) && (h->group[top] == '/' || !h->group[top]);
    snprintf(folder, sizeof folder, "%s%s", h->mount, below ? h->group + top : "");
    for (;;) {
        add(root, folder, h->unified, out);
        char *slash = strrchr(folder, '/');
        if (strlen(folder) <= mount || !slash) return;
        *slash = '\0';
    }
}

void nd_cgroup_read(const char *root, nd_cgroup *out) {
    static const struct {
        const char *controller;
        add_limits *add;
    } table[] = {{"cpu", add_cpu}, {"memory", add_memory}};
    *out = (nd_cgroup){.memory = -1};
    hierarchy *h = malloc(sizeof *h);
    for (int i = 0; h && i < 2; i++)
        for (int unified = 0; unified < 2; unified++)
            if (hierarchy_find(root, table[i].controller, unified, h)) walk_up(root, h, table[i].add, out);
    free(h);
}
