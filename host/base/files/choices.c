#include "base/files/choices.h"

#include "base/files/file.h"
#include "base/log.h"

#include <string.h>

static FILE *choices_open(const char *name, const char *mode) {
    char folder[4096], path[4200];
    if (nd_file_cache(folder, sizeof folder)) return NULL;
    const int length = snprintf(path, sizeof path, "%s/%s", folder, name);
    return length > 0 && (size_t)length < sizeof path ? nd_file_stream(path, mode) : NULL;
}

bool nd_choice_find(const char *file, const char *key, char name[nd_choice_size]) {
    char line[2 * nd_choice_size], found[2][nd_choice_size];
    bool hit = false;
    FILE *stream = choices_open(file, "r");
    if (!stream) return false;
    while (fgets(line, sizeof line, stream)) {
        if (sscanf(line, "%255s %255s", found[0], found[1]) != 2 || strcmp(found[0], key)) continue;
        memcpy(name, found[1], nd_choice_size);
        hit = true;
    }
    fclose(stream);
    return hit;
}

/* One short line at once, at the end: a process that is killed leaves whole lines, and one that runs beside
 * this one its own. */
void nd_choice_keep(const char *file, const char *key, const char *name) {
    FILE *stream = choices_open(file, "a");
    if (!stream || fprintf(stream, "%s %s\n", key, name) < 0)
        nd_log(nd_log_info, "a measured choice was not kept in %s", file);
    if (stream) fclose(stream);
}
