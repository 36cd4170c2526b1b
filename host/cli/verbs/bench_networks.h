/* The networks that `nd bench` times end to end: the original, and what it is compared with. */
#ifndef ND_CLI_BENCH_NETWORKS_H
#define ND_CLI_BENCH_NETWORKS_H

#include "bench/bench.h"
#include "cli/cli.h"

typedef struct nd_bench_list {
    nd_bench_network networks[nd_subjects_max]; /* the first is the original */
    nd_graph *graphs[nd_subjects_max];          /* of all but the first; of that too where it is quantised */
    size_t n;
} nd_bench_list;

/* `original` is folded and inferred for one image; `sha256` is its weights' as read. With --original the
 * network beside it is MODEL as it stands in its file, otherwise one for every rank, ratio, method, ... asked
 * for, decoupled here on `backend`. All of them in `quantised`, int8 or e4m3, or with fp32 as they are. */
nd_status nd_bench_list_open(nd_args *args, const nd_graph *original, const char *sha256, nd_backend *backend,
                             nd_precision quantised, const nd_progress *progress, nd_bench_list *out);
/* Whether nd_bench_list_open could make them: told before anything is measured. */
nd_status nd_bench_list_check(nd_args *args);
void nd_bench_list_close(nd_bench_list *list);

/* Whether ranks are chosen by a rule that single layers know nothing of (--energy, --macs-ratio, ...). */
bool nd_bench_has_rule(const nd_args *args);

#endif
