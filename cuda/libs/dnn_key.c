#include "cuda/libs/dnn_key.h"
#include "cuda/tune/autotune.h"

void nd_dnn_key(const nd_cuda *cuda, const nd_dnn_problem *problem, bool fused,
                char key[nd_sha256_hex_size]) {
    const nd_work *work = &problem->work;
    const nd_view *views[] = {&work->x, &work->y, &work->x2};
    const int64_t flags[] = {
        problem->precision, problem->bias, work->residual,         work->activation.act,
        work->groups,       fused,         problem->channels_last, (int64_t)cuda->workspace_limit};
    const int64_t size = (int64_t)nd_dtype_bytes(nd_precision_storage(problem->precision));
    nd_sha256 hash;
    nd_autotune_key(cuda, &hash);
    nd_sha256_add(&hash, flags, sizeof flags);
    nd_sha256_add(&hash, &work->window, sizeof work->window);
    for (int i = 0; i < (work->residual ? 3 : 2); i++) {
        nd_sha256_add(&hash, views[i]->dims, 4 * sizeof *views[i]->dims);
        nd_sha256_add(&hash, views[i]->strides, 4 * sizeof *views[i]->strides);
        const int64_t start =
            views[i]->offset * size % 16; /* decides the alignment that engines are asked for */
        nd_sha256_add(&hash, &start, sizeof start);
    }
    nd_sha256_hex(&hash, key);
}
