/* The search for the cheapest network within a drop: bound, reuse, refusals, what is told to
 * later readers. */
#include "eval/max_drop.h"

#include "eval/accuracy.h"
#include "eval/overlap.h"
#include "tests/unit/help/small_net.h"

#include <stdlib.h>
#include <string.h>

enum { most_probes = 64 };

typedef struct probes {
    nd_drop_probe list[most_probes];
    int n, reused;
} probes;

static void take_probe(void *user, const nd_drop_probe *probe) {
    probes *all = user;
    cr_assert_lt(all->n, most_probes);
    all->list[all->n++] = *probe;
    all->reused += probe->reused;
}

/* Pictures labelled with what the network itself says of them: it is right about all. */
static nd_batches *open_labelled(nd_backend *backend, const nd_graph *graph, int64_t count, uint64_t seed) {
    nd_batches *batches = open_pictures(count, seed);
    pictures *p = (pictures *)batches;
    nd_accuracy accuracy;
    p->labels = nd_alloc_array((size_t)count, sizeof *p->labels);
    cr_assert(p->labels);
    OK(nd_accuracy_measure(graph, batches, &(nd_accuracy_settings){.backend = backend}, &accuracy));
    memcpy(p->labels, accuracy.best, (size_t)count * sizeof *p->labels);
    nd_accuracy_free(&accuracy);
    snprintf(batches->sha256, sizeof batches->sha256, "%064llu", (unsigned long long)seed);
    return batches;
}

typedef struct search {
    nd_backend *backend;
    nd_graph *graph;
    nd_batches *data;
    nd_decouple_settings decouple;
    nd_max_drop_settings settings;
    probes probes;
} search;

static void open_search(search *s) {
    *s = (search){.backend = help_backend(), .graph = small_net(), .decouple = nd_decouple_defaults()};
    OK(nd_decouple_prepare(s->graph));
    s->data = open_labelled(s->backend, s->graph, 120, 21);
    s->decouple.method = "dwpw";
    s->decouple.ranks = nd_ranks_adaptive;
    s->decouple.rule = nd_rule_macs_ratio;
    s->settings = nd_max_drop_defaults();
    s->settings.decouple = &s->decouple;
    s->settings.backend = s->backend;
    s->settings.data = s->data;
    s->settings.points = 10;
    s->settings.probe = take_probe;
    s->settings.user = &s->probes;
}

static void close_search(search *s) {
    nd_batches_close(s->data);
    nd_graph_free(s->graph);
    nd_backend_close(s->backend);
}

/* The drop of a finished network, measured from scratch. */
static double drop_of(const search *s, const nd_graph *graph) {
    nd_accuracy accuracy;
    OK(nd_accuracy_measure(graph, s->data, &(nd_accuracy_settings){.backend = s->backend}, &accuracy));
    const double points = 100.0 - 100.0 * (double)accuracy.top1_correct / (double)accuracy.n;
    nd_accuracy_free(&accuracy);
    return points;
}

Test(max_drop, the_best_probe_is_the_network_and_keeps_the_bound) {
    search s;
    nd_graph *found;
    nd_decouple_report report;
    nd_drop_probe best;
    bool exactly = false;
    open_search(&s);
    OK(nd_max_drop(s.graph, &s.settings, &found, &report, &best));
    cr_assert(best.within && best.top1.points <= 10 && best.n == 120);
    cr_assert_float_eq(drop_of(&s, found), best.top1.points, 1e-9);
    cr_assert_eq(nd_cost_graph(found).total_macs, best.after.total_macs);
    cr_assert_eq(report.after.total_macs, best.after.total_macs);
    int harsher = 0;
    for (int i = 0; i < s.probes.n; i++) {
        const nd_drop_probe *probe = &s.probes.list[i];
        cr_expect_eq(probe->within, probe->top1.points <= 10);
        if (probe->within) cr_expect_geq(probe->after.total_macs, best.after.total_macs);
        harsher += !probe->within && probe->setting <= best.setting * 1.0201;
    }
    cr_expect_geq(harsher, 1, "it ended at a probe that loses too much");
    cr_expect(nd_max_drop_met(found, s.data, &exactly) && exactly, "the images that chose it are told");
    cr_expect_not(nd_max_drop_met(s.graph, s.data, &exactly));
    s.data->sha256[0] = 'x';
    cr_expect(nd_max_drop_met(found, s.data, &exactly) && !exactly, "others of the same set as well");
    nd_decouple_report_free(&report);
    nd_graph_free(found);
    close_search(&s);
}

Test(max_drop, the_upper_end_of_the_interval_asks_for_more) {
    search s;
    nd_graph *found;
    nd_decouple_report report;
    nd_drop_probe plain, confident;
    open_search(&s);
    OK(nd_max_drop(s.graph, &s.settings, &found, &report, &plain));
    nd_graph_free(found);
    nd_decouple_report_free(&report);
    s.settings.confident = true;
    OK(nd_max_drop(s.graph, &s.settings, &found, &report, &confident));
    nd_graph_free(found);
    nd_decouple_report_free(&report);
    cr_expect_leq(confident.top1.hi, 10);
    cr_expect_leq(confident.setting, plain.setting);
    close_search(&s);
}

/* A second search, with another bound, takes from disk what it can and finds what it would have
 * found alone. */
Test(max_drop, finished_probes_are_not_made_again) {
    char folder[] = "/tmp/nd-drop-XXXXXX", command[64];
    search s;
    nd_graph *found, *again;
    nd_decouple_report report;
    nd_drop_probe first, second;
    cr_assert(mkdtemp(folder));
    open_search(&s);
    s.decouple.cache = folder;
    OK(nd_max_drop(s.graph, &s.settings, &found, &report, &first));
    nd_decouple_report_free(&report);
    cr_expect_eq(s.probes.reused, 0);
    const int made = s.probes.n;
    s.probes = (probes){0};
    OK(nd_max_drop(s.graph, &s.settings, &again, &report, &second));
    nd_decouple_report_free(&report);
    cr_expect(s.probes.n == made && s.probes.reused == made);
    char one[65], other[65];
    nd_graph_sha256(found, one);
    nd_graph_sha256(again, other);
    cr_expect_str_eq(one, other);
    cr_expect_eq(first.top1.hi, second.top1.hi);
    nd_graph_free(again);
    s.probes = (probes){0};
    s.data->sha256[0] = 'x'; /* other images: nothing of it holds */
    OK(nd_max_drop(s.graph, &s.settings, &again, &report, &second));
    nd_decouple_report_free(&report);
    cr_expect_eq(s.probes.reused, 0);
    nd_graph_free(again);
    nd_graph_free(found);
    close_search(&s);
    snprintf(command, sizeof command, "rm -r %s", folder);
    cr_assert_eq(system(command), 0);
}

Test(max_drop, refuses_what_would_flatter) {
    search s;
    nd_graph *found;
    nd_decouple_report report;
    nd_drop_probe best;
    open_search(&s);
    nd_batches *same = open_pictures(40, 21), *others = open_pictures(40, 22);
    s.decouple.calib = same; /* the first 40 of the 120 */
    cr_expect_eq(nd_max_drop(s.graph, &s.settings, &found, &report, &best), nd_status_usage);
    cr_expect(strstr(nd_error(), "40 of the 40"), "%s", nd_error());
    int64_t shared = -1;
    OK(nd_overlap_count(same, 7, s.data, &shared));
    cr_expect_eq(shared, 7);
    OK(nd_overlap_count(others, 0, s.data, &shared));
    cr_expect_eq(shared, 0);
    s.decouple.calib = NULL;
    ((pictures *)s.data)->labels[119] = -1;
    cr_expect_eq(nd_max_drop(s.graph, &s.settings, &found, &report, &best), nd_status_usage);
    cr_expect(strstr(nd_error(), "no label"), "%s", nd_error());
    cr_expect_null(found);
    nd_batches_close(same);
    nd_batches_close(others);
    close_search(&s);
}

Test(max_drop, says_when_nothing_is_good_enough) {
    search s;
    nd_graph *found;
    nd_decouple_report report;
    nd_drop_probe best;
    open_search(&s);
    s.settings.confident = true;
    s.settings.points = 0; /* no interval of a finite set ends at 0 */
    cr_expect_eq(nd_max_drop(s.graph, &s.settings, &found, &report, &best), nd_status_failed);
    cr_expect(strstr(nd_error(), "0 points of top-1"), "%s", nd_error());
    close_search(&s);
}
