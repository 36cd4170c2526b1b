#include "cli/cli.h"

#include "base/machine/clock.h"
#include "base/text/escape.h"

#include <string.h>
#include <unistd.h>

/* What is on the screen now. One bar at a time, drawn by the thread that works. */
typedef struct nd_bar {
    char what[64];
    double start, drawn; /* seconds */
} nd_bar;

static void bar_draw(const nd_bar *bar, int64_t done, int64_t total, double elapsed) {
    enum { width = 30 };
    char filled[width + 1];
    const double share = total > 0 ? (double)done / (double)total : 0;
    const int full = (int)(share * width);
    memset(filled, '#', (size_t)full);
    memset(filled + full, '.', (size_t)(width - full));
    filled[width] = '\0';
    const double left = share > 0 ? elapsed / share - elapsed : 0;
    fprintf(stderr, "\r%-24.24s [%s] %3.0f %%  %d:%02d left\033[K", bar->what, filled, 100 * share,
            (int)left / 60, (int)left % 60);
}

static void bar_report(void *user, const char *what, int64_t done, int64_t total) {
    nd_bar *bar = user;
    const double now = nd_seconds();
    char shown[sizeof bar->what];
    nd_escape(what, "", shown, sizeof shown);
    if (strcmp(bar->what, shown)) {
        memcpy(bar->what, shown, sizeof shown);
        bar->start = bar->drawn = now;
    }
    const double elapsed = now - bar->start;
    const bool ended = done >= total;
    /* Short jobs stay silent; long ones are drawn five times a second. */
    if (elapsed < 1 || (!ended && now - bar->drawn < 0.2)) return;
    bar->drawn = now;
    if (ended) {
        fputs("\r\033[K", stderr);
        bar->what[0] = '\0';
    } else {
        bar_draw(bar, done, total, elapsed);
    }
}

nd_progress nd_cli_progress(void) {
    static nd_bar bar;
    if (!isatty(STDERR_FILENO)) return (nd_progress){0};
    return (nd_progress){.report = bar_report, .user = &bar};
}
