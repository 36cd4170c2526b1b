#include "base/machine/contention.h"

#include <dirent.h>
#include <stdio.h>

static bool thread_usage_add(const char *thread, nd_cpu_usage *sum) {
    char path[64];
    long long ran, waited;
    snprintf(path, sizeof path, "/proc/self/task/%.20s/schedstat", thread);
    FILE *file = fopen(path, "re");
    const bool read = file && fscanf(file, "%lld %lld", &ran, &waited) == 2;
    if (file) fclose(file);
    if (!read) return false;
    sum->ran += 1e-9 * (double)ran;
    sum->waited += 1e-9 * (double)waited;
    return true;
}

bool nd_cpu_usage_read(nd_cpu_usage *out) {
    DIR *threads = opendir("/proc/self/task");
    bool any = false;
    *out = (nd_cpu_usage){0};
    if (!threads) return false;
    for (const struct dirent *entry; (entry = readdir(threads));)
        if (entry->d_name[0] != '.' && thread_usage_add(entry->d_name, out)) any = true;
    closedir(threads);
    return any;
}

int nd_contention_decide(nd_contention *c, int wanted, double now, double window, const nd_cpu_usage *used) {
    const double waiting = 0.1, poor = 0.6, hold_first = 0.1, hold_most = 3.2;
    const double asked = used->ran + used->waited, share = asked > 0 ? used->ran / asked : 1;
    if (c->threads <= 0 || c->threads > wanted) c->threads = wanted;
    if (c->threads > 1 && used->waited > waiting * window && used->ran < poor * c->threads * share * window) {
        c->hold = now <= c->trial ? 2 * c->hold : hold_first;
        if (c->hold > hold_most) c->hold = hold_most;
        c->until = now + c->hold;
        c->threads /= 2;
    } else if (c->threads < wanted && now >= c->until) {
        c->threads = 2 * c->threads < wanted ? 2 * c->threads : wanted;
        c->until = c->trial = now + c->hold;
    }
    return c->threads;
}
