#include "cuda/tune/winners.h"
#include "base/file.h"
#include "base/log.h"

#include <stdio.h>
#include <string.h>

/* Of what an entry stands for: raised when kernels of ours change that were chosen among. */
enum { winners_version = 3 };

void nd_winner_key(const nd_cuda *cuda, nd_sha256 *hash) {
    const int version = winners_version;
    nd_sha256_init(hash);
    nd_sha256_add(hash, &version, sizeof version);
    nd_sha256_add(hash, cuda->base.device, strlen(cuda->base.device));
    nd_sha256_add(hash, cuda->base.driver, strlen(cuda->base.driver));
    nd_sha256_add(hash, cuda->base.libraries, strlen(cuda->base.libraries));
}

static bool winners_path(char *path, size_t size) {
    char folder[1024];
    if (nd_file_cache(folder, sizeof folder)) return false;
    return snprintf(path, size, "%s/autotuned.txt", folder) < (int)size;
}

bool nd_winner_find(const char *key, char name[nd_winner_size]) {
    char path[1100], line[512], found[2][nd_winner_size];
    bool hit = false;
    if (!winners_path(path, sizeof path)) return false;
    FILE *file = fopen(path, "r");
    if (!file) return false;
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, "%255s %255s", found[0], found[1]) != 2 || strcmp(found[0], key)) continue;
        snprintf(name, nd_winner_size, "%s", found[1]);
        hit = true;
    }
    fclose(file);
    return hit;
}

/* A line at once, at the end: a process that is killed leaves whole lines, and one that runs beside this one
 * its own. */
void nd_winner_keep(const char *key, const char *name) {
    char path[1100];
    FILE *file = winners_path(path, sizeof path) ? fopen(path, "a") : NULL;
    if (!file || fprintf(file, "%s %s\n", key, name) < 0)
        nd_log(nd_log_info, "a measured choice was not kept");
    if (file) fclose(file);
}
