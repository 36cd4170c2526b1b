#include "cuda/libs/dnn_cache.h"
#include "base/file.h"
#include "base/log.h"

#include <cudnn.h>
#include <stdio.h>
#include <string.h>

/* Of what an entry stands for: 2 says that the engine was checked. */
enum { nd_dnn_cache_version = 2 };

void nd_dnn_cache_key(const nd_cuda *cuda, const nd_dnn_problem *problem, bool fused,
                      char key[nd_dnn_key_size]) {
    const nd_work *work = &problem->work;
    const nd_view *views[] = {&work->x, &work->y, &work->x2};
    const int64_t flags[] = {nd_dnn_cache_version,
                             problem->precision,
                             problem->bias,
                             work->residual,
                             work->activation.act,
                             work->groups,
                             fused,
                             problem->channels_last,
                             (int64_t)cuda->workspace_limit,
                             (int64_t)cudnnGetVersion()};
    const int64_t size = (int64_t)nd_dtype_bytes(nd_precision_storage(problem->precision));
    nd_sha256 hash;
    nd_sha256_init(&hash);
    nd_sha256_add(&hash, cuda->base.device, strlen(cuda->base.device));
    nd_sha256_add(&hash, cuda->base.driver, strlen(cuda->base.driver));
    nd_sha256_add(&hash, flags, sizeof flags);
    nd_sha256_add(&hash, &work->geometry, sizeof work->geometry);
    for (int i = 0; i < (work->residual ? 3 : 2); i++) {
        nd_sha256_add(&hash, views[i]->dims, 4 * sizeof *views[i]->dims);
        nd_sha256_add(&hash, views[i]->strides, 4 * sizeof *views[i]->strides);
        const int64_t start =
            views[i]->offset * size % 16; /* decides the alignment that engines are asked for */
        nd_sha256_add(&hash, &start, sizeof start);
    }
    nd_sha256_hex(&hash, key);
}

static bool dnn_cache_path(char *path, size_t size) {
    char folder[1024];
    if (nd_file_cache(folder, sizeof folder)) return false;
    return snprintf(path, size, "%s/cudnn_engines.txt", folder) < (int)size;
}

bool nd_dnn_cache_get(const char *key, char *engine, size_t size) {
    char path[1100], line[512], found[2][256];
    bool hit = false;
    if (!dnn_cache_path(path, sizeof path)) return false;
    FILE *file = nd_file_stream(path, "r");
    if (!file) return false;
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, "%255s %255s", found[0], found[1]) != 2 || strcmp(found[0], key)) continue;
        hit = snprintf(engine, size, "%s", found[1]) < (int)size;
    }
    fclose(file);
    return hit;
}

void nd_dnn_cache_put(const char *key, const char *engine) {
    char path[1100];
    FILE *file = dnn_cache_path(path, sizeof path) ? nd_file_stream(path, "a") : NULL;
    if (!file || fprintf(file, "%s %s\n", key, engine) < 0)
        nd_log(nd_log_info, "the choice of engine was not cached");
    if (file) fclose(file);
}
