#include "bench/bench.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is kept of a layer once its buffers are gone: enough for its rows and for the stack. */
typedef struct result {
    nd_timer *timer;
    nd_rig_layout layout;  /* of dense: the first session's choice, so that all time the same */
    bool measured, enough; /* in one session; in as many as it takes */
    bool emitted;          /* its rows */
    nd_timing timing;
    int n;
    nd_rig_entry entries[nd_subjects_max];
    size_t rotated;
} result;

typedef struct bench {
    const nd_bench_layer *layers;
    size_t n;
    const nd_bench_settings *settings;
    result *results;
} bench;

static int find_entry(const result *r, nd_implementation implementation, nd_form form, int64_t terms) {
    for (int i = 0; i < r->n; i++) {
        const nd_rig_entry *entry = &r->entries[i];
        bool dense = nd_implementation_is_dense(entry->implementation);
        if (entry->implementation == implementation &&
            (dense || (entry->form == form && entry->terms == terms)))
            return i;
    }
    return -1;
}

static double median_of(const result *r, int entry) {
    return r->timing.subjects[entry].summary.median;
}

/* Which of a layer's entries runs when the network is built with `implementation`. */
static int choose_entry(const nd_bench_layer *layer, const result *r, nd_implementation implementation,
                        nd_form form, int64_t terms) {
    int dense = find_entry(r, nd_implementation_dense, form, terms);
    int forced = nd_implementation_is_dense(implementation) ? find_entry(r, implementation, form, terms) : -1;
    if (forced >= 0) return forced;
    if (layer->dense || nd_implementation_is_dense(implementation)) return dense;
    int unfused = find_entry(r, nd_implementation_unfused, form, terms),
        fused = find_entry(r, nd_implementation_fused, form, terms);
    if (implementation == nd_implementation_unfused) return unfused >= 0 ? unfused : dense;
    if (implementation == nd_implementation_fused) return fused >= 0 ? fused : unfused >= 0 ? unfused : dense;
    const int candidates[] = {find_entry(r, nd_implementation_direct, form, terms),
                              find_entry(r, nd_implementation_winograd, form, terms), unfused, fused};
    int best = dense;
    for (size_t i = 0; i < sizeof candidates / sizeof *candidates; i++)
        if (candidates[i] >= 0 && median_of(r, candidates[i]) < median_of(r, best)) best = candidates[i];
    return best;
}

void nd_bench_row_time(nd_row *row, const nd_timing *timing, int subject) {
    const struct nd_timed *timed = &timing->subjects[subject];
    nd_row_set_real(row, nd_field_ns_median, timed->summary.median);
    nd_row_set_real(row, nd_field_ns_q1, timed->summary.q1);
    nd_row_set_real(row, nd_field_ns_q3, timed->summary.q3);
    nd_row_set_real(row, nd_field_ns_min, timed->summary.min);
    nd_row_set_reals(row, nd_field_samples_ns, timed->samples, (size_t)timing->n);
    nd_row_set_ints(row, nd_field_sessions, timing->sessions, (size_t)timing->n_sessions);
    nd_row_set_int(row, nd_field_discarded, timing->discarded);
    nd_row_set_flag(row, nd_field_noisy, timing->noisy);
    nd_row_set_real(row, nd_field_ratio, timed->ratio.value);
    nd_row_set_real(row, nd_field_ratio_lo, timed->ratio.lo);
    nd_row_set_real(row, nd_field_ratio_hi, timed->ratio.hi);
}

static void set_what(nd_row *row, nd_implementation implementation, nd_form form, int64_t terms) {
    bool dense = nd_implementation_is_dense(implementation);
    nd_row_set_text(row, nd_field_implementation, nd_implementation_name(implementation));
    nd_row_set_text(row, nd_field_method, dense ? "none" : nd_form_name(form));
    nd_row_set_text(row, nd_field_form, dense ? "none" : nd_form_name(form));
    nd_row_set_text(row, nd_field_ranks, dense ? "dense" : "uniform");
    if (!dense) nd_row_set_int(row, nd_field_rank, terms);
}

void nd_bench_row_clocks(nd_row *row, const nd_bench_settings *settings) {
    const nd_row_value *before = &settings->common->values[nd_field_clocks];
    char now[256], both[640];
    if (!settings->backend->table->conditions) return;
    settings->backend->table->conditions(settings->backend, now, sizeof now);
    snprintf(both, sizeof both, "before: %.256s; after: %s", before->set ? before->text : "not known", now);
    nd_row_set_text(row, nd_field_clocks, both);
}

static void set_common(nd_row *row, const nd_bench_settings *settings) {
    nd_row_copy(row, settings->common);
    nd_bench_row_clocks(row, settings);
    nd_row_set_int(row, nd_field_batch, settings->batch);
    nd_row_set_text(row, nd_field_dtype, nd_precision_name(settings->precision));
    nd_row_set_flag(row, nd_field_cold, settings->cold);
    nd_row_set_real(row, nd_field_peak_gflops, settings->peaks.gflops);
    nd_row_set_real(row, nd_field_peak_gbps, settings->peaks.gbps);
}

static void set_rates(nd_row *row, const nd_bench_settings *settings, double ns, double macs,
                      double dense_macs, double bytes, double bound) {
    double batch = (double)settings->batch;
    nd_row_set_int(row, nd_field_conv_macs, (int64_t)macs);
    nd_row_set_real(row, nd_field_conv_macs_ratio, dense_macs / macs);
    nd_row_set_real(row, nd_field_gflops, 2 * macs * batch / ns);
    nd_row_set_real(row, nd_field_gflops_effective, 2 * dense_macs * batch / ns);
    nd_row_set_real(row, nd_field_gbps, bytes / ns);
    nd_row_set_real(row, nd_field_roofline_ns, bound);
}

void nd_bench_row_shape(nd_row *row, const nd_bench_layer *layer) {
    const nd_conv *conv = &layer->conv;
    nd_row_set_text(row, nd_field_layer, conv->name);
    nd_row_set_int(row, nd_field_ni, conv->ni);
    nd_row_set_int(row, nd_field_no, conv->no);
    nd_row_set_int(row, nd_field_kh, conv->window.kernel[0]);
    nd_row_set_int(row, nd_field_kw, conv->window.kernel[1]);
    nd_row_set_int(row, nd_field_stride, conv->window.stride[0]);
    nd_row_set_int(row, nd_field_h, nd_conv_out_h(conv));
    nd_row_set_int(row, nd_field_w, nd_conv_out_w(conv));
    nd_row_set_int(row, nd_field_layers, layer->layers);
}

/* What is hot need not come from memory: only arithmetic bounds it. */
static double bound_of(const bench *b, const nd_rig_entry *entry) {
    double bytes = b->settings->cold ? entry->bytes : 0;
    return nd_peaks_bound(&b->settings->peaks, (double)entry->macs * (double)b->settings->batch, bytes);
}

static nd_status emit(const bench *b, nd_row *row) {
    nd_status status = b->settings->row(b->settings->user, row);
    nd_row_free(row);
    return status;
}

static nd_status emit_entry(const bench *b, size_t index, nd_implementation implementation, nd_form form,
                            int64_t terms, int chosen) {
    const nd_bench_layer *layer = &b->layers[index];
    const result *r = &b->results[index];
    const nd_rig_entry *entry = &r->entries[chosen];
    char engine[256];
    nd_row row = {0};
    set_common(&row, b->settings);
    set_what(&row, implementation, form, terms);
    nd_bench_row_shape(&row, layer);
    nd_bench_row_time(&row, &r->timing, chosen);
    set_rates(&row, b->settings, median_of(r, chosen), (double)entry->macs,
              (double)nd_conv_macs(&layer->conv), entry->bytes, bound_of(b, entry));
    snprintf(engine, sizeof engine, "%s%s%s",
             implementation == nd_implementation_best ? nd_implementation_name(entry->implementation) : "",
             implementation == nd_implementation_best ? ": " : "", entry->engine);
    nd_row_set_text(&row, nd_field_engine, engine);
    nd_row_set_text(&row, nd_field_layout, entry->channels_last ? "NHWC" : "NCHW");
    nd_row_set_int(&row, nd_field_workspace_bytes, (int64_t)entry->workspace);
    nd_row_set_int(&row, nd_field_rotated_bytes, b->settings->cold ? (int64_t)r->rotated : 0);
    return emit(b, &row);
}

static nd_status emit_layer(const bench *b, size_t index) {
    result *r = &b->results[index];
    r->emitted = true;
    for (int i = 0; i < r->n; i++)
        ND_TRY(
            emit_entry(b, index, r->entries[i].implementation, r->entries[i].form, r->entries[i].terms, i));
    if (b->layers[index].dense || !b->settings->implementations[nd_implementation_best]) return nd_status_ok;
    for (int form = 0; form < nd_form_count; form++)
        for (size_t t = 0; t < b->settings->n_terms && b->settings->forms[form]; t++) {
            int64_t terms = b->settings->terms[t];
            int chosen = choose_entry(&b->layers[index], r, nd_implementation_best, (nd_form)form, terms);
            ND_TRY(emit_entry(b, index, nd_implementation_best, (nd_form)form, terms, chosen));
        }
    return nd_status_ok;
}

/* The best is of what is asked for beside it, and of everything where it stands alone. */
static bool wants(const nd_bench_settings *settings, nd_implementation implementation) {
    const bool alone = !settings->implementations[nd_implementation_unfused] &&
                       !settings->implementations[nd_implementation_fused];
    return settings->implementations[implementation] ||
           (settings->implementations[nd_implementation_best] && alone);
}

static nd_status add_all(const bench *b, const nd_bench_layer *layer, nd_rig *rig) {
    bool added;
    ND_TRY(nd_rig_add(rig, nd_implementation_dense, nd_form_dwpw, 0, &added));
    ND_REQUIRE(added, nd_status_unsupported, "%s: %s has no such convolution in %s", layer->conv.name,
               b->settings->backend->name, nd_precision_name(b->settings->precision));
    static const nd_implementation timed[] = {nd_implementation_unfused, nd_implementation_fused},
                                   baselines[] = {nd_implementation_direct, nd_implementation_winograd};
    for (size_t i = 0; i < sizeof baselines / sizeof *baselines; i++)
        if (b->settings->implementations[baselines[i]] && b->settings->forced[baselines[i]])
            ND_TRY(nd_rig_add(rig, baselines[i], nd_form_dwpw, 0, &added));
    for (int form = 0; form < nd_form_count && !layer->dense; form++)
        for (size_t t = 0; t < b->settings->n_terms && b->settings->forms[form]; t++)
            for (size_t i = 0; i < sizeof timed / sizeof *timed; i++)
                if (wants(b->settings, timed[i]))
                    ND_TRY(nd_rig_add(rig, timed[i], (nd_form)form, b->settings->terms[t], &added));
    return nd_status_ok;
}

/* One session: fresh buffers and kernels, checked, then timed. */
static nd_status measure_session(bench *b, size_t index, int64_t session) {
    const nd_bench_layer *layer = &b->layers[index];
    const nd_bench_settings *settings = b->settings;
    nd_rig_settings rig_settings = {.backend = settings->backend,
                                    .precision = settings->precision,
                                    .batch = settings->batch,
                                    .rotation = settings->cold ? nd_peaks_rotation(settings->backend) : 0,
                                    .seed = settings->timing.seed + (uint64_t)session};
    memcpy(rig_settings.forced, settings->forced, sizeof rig_settings.forced);
    result *r = &b->results[index];
    if (!r->timer && settings->layouts) r->layout = nd_rig_layout_faster;
    rig_settings.layout = r->layout;
    nd_subject subjects[nd_subjects_max];
    nd_rig *rig;
    nd_status status = nd_status_ok;
    ND_TRY(nd_rig_open(layer, &rig_settings, &rig));
    ND_TRY_DONE(add_all(b, layer, rig));
    ND_TRY_DONE(nd_rig_check(rig));
    r->n = nd_rig_count(rig);
    r->rotated = nd_rig_rotated(rig);
    for (int i = 0; i < r->n; i++) {
        subjects[i] = nd_rig_subject(rig, i);
        r->entries[i] = *nd_rig_at(rig, i);
    }
    const bool own = r->entries[0].channels_last == settings->backend->channels_last;
    r->layout = own ? nd_rig_layout_own : nd_rig_layout_turned;
    if (!r->timer) ND_TRY_DONE(nd_timer_new(r->n, &settings->timing, &r->timer));
    ND_TRY_DONE(nd_timer_session(r->timer, subjects, &r->enough));
    r->measured = true;
    if (r->enough) ND_TRY_DONE(nd_timer_result(r->timer, &r->timing));
done:
    nd_rig_close(rig);
    return status;
}

/* One row for the whole stack of convolutions. */
static nd_status emit_stack(const bench *b, nd_implementation implementation, nd_form form, int64_t terms) {
    nd_pairs *pairs = calloc(b->n, sizeof *pairs);
    ND_REQUIRE(pairs, nd_status_memory, "bench: out of memory");
    double ns = 0, macs = 0, dense_macs = 0, bytes = 0, bound = 0;
    bool noisy = false;
    int64_t discarded = 0;
    for (size_t i = 0; i < b->n; i++) {
        const result *r = &b->results[i];
        double layers = (double)b->layers[i].layers;
        int chosen = choose_entry(&b->layers[i], r, implementation, form, terms);
        int dense = find_entry(r, nd_implementation_dense, form, terms);
        pairs[i] = nd_timing_pairs(&r->timing, dense, chosen, layers);
        ns += layers * median_of(r, chosen);
        macs += layers * (double)r->entries[chosen].macs;
        dense_macs += layers * (double)nd_conv_macs(&b->layers[i].conv);
        bytes += layers * r->entries[chosen].bytes;
        bound += layers * bound_of(b, &r->entries[chosen]);
        noisy = noisy || r->timing.noisy;
        discarded += r->timing.discarded;
    }
    nd_interval ratio;
    nd_status status = nd_stats_ratio(pairs, b->n, b->settings->timing.seed, &ratio);
    free(pairs);
    ND_TRY(status);
    nd_row row = {0};
    set_common(&row, b->settings);
    set_what(&row, implementation, form, terms);
    nd_row_set_text(&row, nd_field_layer, "conv stack");
    nd_row_set_real(&row, nd_field_ns_median, ns);
    nd_row_set_real(&row, nd_field_ratio, ratio.value);
    nd_row_set_real(&row, nd_field_ratio_lo, ratio.lo);
    nd_row_set_real(&row, nd_field_ratio_hi, ratio.hi);
    nd_row_set_flag(&row, nd_field_noisy, noisy);
    nd_row_set_int(&row, nd_field_discarded, discarded);
    set_rates(&row, b->settings, ns, macs, dense_macs, bytes, bound);
    return emit(b, &row);
}

/* Not every precision has every baseline. */
static bool any_has(const bench *b, nd_implementation implementation) {
    for (size_t i = 0; i < b->n; i++)
        if (find_entry(&b->results[i], implementation, nd_form_dwpw, 0) >= 0) return true;
    return false;
}

static nd_status emit_stacks(const bench *b) {
    for (int implementation = nd_implementation_dense; implementation <= nd_implementation_winograd;
         implementation++)
        if (any_has(b, (nd_implementation)implementation))
            ND_TRY(emit_stack(b, (nd_implementation)implementation, nd_form_dwpw, 0));
    for (int form = 0; form < nd_form_count; form++)
        for (size_t t = 0; t < b->settings->n_terms && b->settings->forms[form]; t++)
            for (int implementation = nd_implementation_unfused; implementation < nd_implementation_count;
                 implementation++) {
                bool exists = implementation != nd_implementation_fused || form == nd_form_dwpw;
                if (b->settings->implementations[implementation] && exists)
                    ND_TRY(emit_stack(b, (nd_implementation)implementation, (nd_form)form,
                                      b->settings->terms[t]));
            }
    return nd_status_ok;
}

bool nd_bench_stopped(const nd_bench_settings *settings) {
    return settings->stop && settings->stop(settings->user);
}

/* What has a session or more, though not enough of them, becomes a result as well. */
static nd_status end_early(bench *b) {
    for (size_t i = 0; i < b->n; i++) {
        result *r = &b->results[i];
        if (!r->measured || r->enough) continue;
        ND_TRY(nd_timer_result(r->timer, &r->timing));
        r->timing.noisy = true;
    }
    return nd_status_ok;
}

/* Rows in the order of the layers, each as soon as it can be: whoever ends this process loses no finished
 * layer. */
static nd_status emit_finished(const bench *b) {
    for (size_t i = 0; i < b->n && (b->results[i].emitted || b->results[i].enough); i++)
        if (!b->results[i].emitted) ND_TRY(emit_layer(b, i));
    return nd_status_ok;
}

/* Passes over all layers rather than one layer after the other: the sessions of a layer lie apart in time. */
static nd_status measure_all(bench *b) {
    const nd_progress *progress = b->settings->progress;
    int64_t done = 0, total = (int64_t)b->n * b->settings->timing.sessions;
    for (int64_t pass = 0; pass < b->settings->timing.sessions; pass++)
        for (size_t i = 0; i < b->n; i++, done++) {
            nd_progress_report(progress, "layers", done, total);
            if (nd_bench_stopped(b->settings)) return end_early(b);
            if (!b->results[i].enough) ND_TRY(measure_session(b, i, pass));
            ND_TRY(emit_finished(b));
        }
    nd_progress_report(progress, "layers", total, total);
    return nd_status_ok;
}

bool nd_bench_shrink(nd_status status, nd_bench_settings *settings) {
    if (status != nd_status_memory || settings->batch < 2) return false;
    nd_log(nd_log_warn, "batch %" PRId64 " does not fit %s, measuring batch %" PRId64 ": %s", settings->batch,
           settings->backend->name, settings->batch / 2, nd_error());
    settings->batch /= 2;
    return true;
}

static nd_status measure_layers(const nd_bench_layer *layers, size_t n, const nd_bench_settings *settings) {
    bench b = {.layers = layers, .n = n, .settings = settings, .results = calloc(n, sizeof(result))};
    ND_REQUIRE(b.results, nd_status_memory, "bench: out of memory");
    nd_status status = nd_status_ok;
    ND_TRY_DONE(measure_all(&b));
    bool all = true;
    for (size_t i = 0; i < n; i++) {
        all = all && b.results[i].measured;
        if (b.results[i].measured && !b.results[i].emitted) ND_TRY_DONE(emit_layer(&b, i));
    }
    if (all) ND_TRY_DONE(emit_stacks(&b));
done:
    for (size_t i = 0; i < n; i++) {
        nd_timing_free(&b.results[i].timing);
        nd_timer_free(b.results[i].timer);
    }
    free(b.results);
    return status;
}

nd_status nd_bench_layers(const nd_bench_layer *layers, size_t n, const nd_bench_settings *settings) {
    ND_REQUIRE(n, nd_status_usage, "bench: no convolutions");
    nd_bench_settings now = *settings;
    nd_status status = measure_layers(layers, n, &now);
    while (nd_bench_shrink(status, &now)) status = measure_layers(layers, n, &now);
    return status;
}

static bool same_shape(const nd_bench_layer *one, const nd_bench_layer *other) {
    const nd_conv *a = &one->conv, *b = &other->conv;
    return a->no == b->no && a->ni == b->ni && a->groups == b->groups && a->in_h == b->in_h &&
           a->in_w == b->in_w && one->dense == other->dense &&
           !memcmp(&a->window, &b->window, sizeof a->window);
}

nd_status nd_bench_layers_of_graph(const nd_graph *graph, nd_bench_layer **out, size_t *n) {
    nd_bench_layer *layers = calloc((size_t)graph->n_nodes + 1, sizeof *layers);
    ND_REQUIRE(layers, nd_status_memory, "bench: out of memory");
    *n = 0;
    for (int i = 0; i < graph->n_nodes; i++) {
        nd_conv conv;
        if (graph->nodes[i].op != nd_op_conv || nd_conv_from_node(graph, &graph->nodes[i], &conv)) continue;
        const nd_bench_layer layer = {
            .conv = conv, .layers = 1, .dense = *n == 0 || nd_conv_taps(&conv) == 1 || conv.groups > 1};
        size_t k = 0;
        while (k < *n && !same_shape(&layers[k], &layer)) k++;
        if (k < *n)
            layers[k].layers++;
        else
            layers[(*n)++] = layer;
    }
    *out = layers;
    return nd_status_ok;
}
