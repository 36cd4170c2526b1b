#include "eval/report/canvas.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static int spawn_converter(int svg, int png, pid_t *child) {
    char *arguments[] = {"rsvg-convert", "--zoom=2", NULL};
    posix_spawn_file_actions_t actions;
    int error = posix_spawn_file_actions_init(&actions);
    if (error) return error;
    if (!error) error = posix_spawn_file_actions_adddup2(&actions, svg, STDIN_FILENO);
    if (!error) error = posix_spawn_file_actions_adddup2(&actions, png, STDOUT_FILENO);
    if (!error) error = posix_spawnp(child, arguments[0], &actions, NULL, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    return error;
}

nd_status nd_canvas_png(const char *svg, FILE *png) {
    const int from = open(svg, O_RDONLY | O_CLOEXEC);
    ND_REQUIRE(from >= 0, nd_status_input, "%s: %s", svg, strerror(errno));
    pid_t child;
    const int error = spawn_converter(from, fileno(png), &child);
    close(from);
    ND_REQUIRE(!error, nd_status_unsupported, "no PNG of %s: rsvg-convert (of librsvg2-bin): %s", svg,
               strerror(error));
    int code = 0;
    while (waitpid(child, &code, 0) < 0)
        ND_REQUIRE(errno == EINTR, nd_status_internal, "rsvg-convert: %s", strerror(errno));
    ND_REQUIRE(!code, nd_status_input, "%s: rsvg-convert could not make a PNG of it", svg);
    return nd_status_ok;
}
