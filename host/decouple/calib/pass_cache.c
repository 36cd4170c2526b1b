#include "decouple/calib/pass_cache.h"

#include "base/files/file.h"
#include "base/hash.h"
#include "decouple/calib/calibration_key.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { digest_bytes = nd_sha256_hex_size - 1 };

/* A record is one layer: this, then its stages, then the SHA-256 of both as 64 hexadecimal digits. In the
 * machine's own layout: the file is for the run after this one. */
typedef struct record {
    char history[digest_bytes]; /* of what was decided for this layer and for all fitted before it */
    int32_t layer, stages;
    nd_fit_error error;
} record;

typedef struct place {
    char history[digest_bytes];
    long at;
} place;

struct nd_pass_cache {
    FILE *file; /* NULL where nothing is kept */
    char path[4096];
    const nd_plan *plan;
    place *places; /* of the good records */
    size_t n_places, capacity;
    long end;          /* of the last of them */
    nd_sha256 decided; /* by the pass in progress */
    char history[nd_sha256_hex_size];
};

typedef struct stage_head {
    nd_window window;
    int64_t no, ni, groups;
    bool gathered, biased;
    char suffix[24];
} stage_head;

static void add_decision(nd_sha256 *hash, const nd_layer *layer) {
    char text[64];
    const char *method = layer->method ? layer->method->name : "dense";
    int length = snprintf(text, sizeof text, ";%.32s:%lld", method, (long long)layer->rank);
    nd_sha256_add(hash, text, (size_t)length);
}

static void pass_key(const nd_graph *graph, const nd_decouple_settings *settings, const nd_plan *plan,
                     char hex[nd_sha256_hex_size]) {
    nd_sha256 hash;
    char key[nd_sha256_hex_size];
    nd_calibration_key(graph, settings, key);
    nd_sha256_init(&hash);
    nd_sha256_add(&hash, key, digest_bytes);
    nd_sha256_add(&hash, settings->relu_aware ? "relu" : "plain", 5);
    for (int l = 0; l < plan->n_layers; l++) add_decision(&hash, &plan->layers[l]);
    nd_sha256_hex(&hash, hex);
}

static bool read_bytes(FILE *file, nd_sha256 *hash, void *data, size_t bytes) {
    if (bytes && fread(data, bytes, 1, file) != 1) return false;
    nd_sha256_add(hash, data, bytes);
    return true;
}

static int64_t weight_count(const nd_stage *stage) {
    return stage->no * (stage->ni / stage->groups) * stage->window.kernel[0] * stage->window.kernel[1];
}

/* Sizes are those of a chain of this conv, or the record is no record. */
static bool plausible(const stage_head *head, const nd_conv *conv) {
    int64_t most = 64 * conv->no * conv->ni;
    const int64_t *kernel = head->window.kernel, *whole = conv->window.kernel;
    return head->groups > 0 && head->no > 0 && head->ni > 0 && head->no <= most && head->ni <= most &&
           head->no % head->groups == 0 && head->ni % head->groups == 0 && kernel[0] > 0 && kernel[1] > 0 &&
           kernel[0] <= whole[0] && kernel[1] <= whole[1] && memchr(head->suffix, 0, sizeof head->suffix) &&
           head->no * (head->ni / head->groups) <= most * 64;
}

static bool read_chain(FILE *file, nd_sha256 *hash, const nd_conv *conv, int stages, nd_chain *out) {
    for (int s = 0; s < stages; s++) {
        stage_head head;
        nd_stage *stage = NULL;
        if (!read_bytes(file, hash, &head, sizeof head) || !plausible(&head, conv)) return false;
        if (nd_chain_add(out, head.suffix, &head.window, head.no, head.ni, head.groups, head.gathered,
                         &stage))
            return false;
        if (head.biased) stage->bias = nd_alloc_array((size_t)stage->no, sizeof *stage->bias);
        if (head.biased && !stage->bias) return false;
        if (!read_bytes(file, hash, stage->weights, (size_t)weight_count(stage) * sizeof *stage->weights) ||
            !read_bytes(file, hash, stage->channel,
                        stage->channel ? (size_t)stage->ni * sizeof *stage->channel : 0) ||
            !read_bytes(file, hash, stage->bias, stage->bias ? (size_t)stage->no * sizeof *stage->bias : 0))
            return false;
    }
    return true;
}

/* The record where the file is; false at the end of what can be trusted. */
static bool read_record(FILE *file, const nd_plan *plan, record *head, nd_chain *chain) {
    nd_sha256 hash;
    char told[digest_bytes], found[nd_sha256_hex_size];
    nd_sha256_init(&hash);
    *chain = (nd_chain){0};
    bool good = read_bytes(file, &hash, head, sizeof *head) && head->layer >= 0 &&
                head->layer < plan->n_layers && head->stages > 0 && head->stages <= nd_chain_max &&
                read_chain(file, &hash, &plan->layers[head->layer].conv, head->stages, chain) &&
                fread(told, sizeof told, 1, file) == 1;
    if (good) {
        nd_sha256_hex(&hash, found);
        good = !memcmp(told, found, sizeof told);
    }
    if (!good) nd_chain_free(chain);
    return good;
}

static bool add_place(nd_pass_cache *cache, const char *history, long at) {
    place *places = nd_array_grow(cache->places, cache->n_places, &cache->capacity, sizeof *places);
    if (!places) return false;
    cache->places = places;
    memcpy(places[cache->n_places].history, history, digest_bytes);
    places[cache->n_places++].at = at;
    return true;
}

static void find_places(nd_pass_cache *cache) {
    record head;
    nd_chain chain;
    while (read_record(cache->file, cache->plan, &head, &chain)) {
        nd_chain_free(&chain);
        if (!add_place(cache, head.history, cache->end)) return;
        cache->end = ftell(cache->file);
    }
}

static void give_up(nd_pass_cache *cache) {
    nd_log(nd_log_warn, "%s: %s; a calibration pass that is stopped will start anew", cache->path,
           strerror(errno));
    if (cache->file) fclose(cache->file);
    cache->file = NULL; /* the layers before are good, and what is torn is dropped when it is read */
}

nd_status nd_pass_cache_open(const nd_graph *graph, const nd_decouple_settings *settings, const nd_plan *plan,
                             nd_pass_cache **out) {
    *out = NULL;
    if (!settings->cache || !settings->calib) return nd_status_ok;
    char hex[nd_sha256_hex_size];
    nd_pass_cache *cache = calloc(1, sizeof *cache);
    ND_REQUIRE(cache, nd_status_memory, "no memory for a cache");
    *out = cache;
    cache->plan = plan;
    pass_key(graph, settings, plan, hex);
    int length = snprintf(cache->path, sizeof cache->path, "%s/pass-%.32s.bin", settings->cache, hex);
    bool fits = length > 0 && (size_t)length < sizeof cache->path;
    if (fits) cache->file = nd_file_stream(cache->path, "r+b");
    if (fits && !cache->file) cache->file = nd_file_stream(cache->path, "w+b");
    if (cache->file) find_places(cache);
    if (!cache->file || ftruncate(fileno(cache->file), cache->end)) give_up(cache);
    return nd_status_ok;
}

void nd_pass_cache_begin(nd_pass_cache *cache) {
    if (cache) nd_sha256_init(&cache->decided);
}

bool nd_pass_cache_take(nd_pass_cache *cache, int layer, nd_chain *chain, nd_fit_error *error) {
    if (!cache) return false;
    record head;
    char number[16];
    const int length = snprintf(number, sizeof number, "|%d", layer);
    nd_sha256_add(&cache->decided, number, (size_t)length);
    add_decision(&cache->decided, &cache->plan->layers[layer]);
    nd_sha256 so_far = cache->decided; /* more is to come */
    nd_sha256_hex(&so_far, cache->history);
    for (size_t p = 0; cache->file && p < cache->n_places; p++) {
        if (memcmp(cache->places[p].history, cache->history, digest_bytes)) continue;
        if (fseek(cache->file, cache->places[p].at, SEEK_SET)) return false;
        if (!read_record(cache->file, cache->plan, &head, chain)) return false;
        *error = head.error;
        return true;
    }
    return false;
}

static bool write_bytes(FILE *file, nd_sha256 *hash, const void *data, size_t bytes) {
    nd_sha256_add(hash, data, bytes);
    return !bytes || fwrite(data, bytes, 1, file) == 1;
}

void nd_pass_cache_put(nd_pass_cache *cache, int layer, const nd_chain *chain, nd_fit_error error) {
    if (!cache || !cache->file) return;
    nd_sha256 hash;
    char hex[nd_sha256_hex_size];
    record head;
    memset(&head, 0, sizeof head); /* padding too: it is hashed */
    memcpy(head.history, cache->history, digest_bytes);
    head.layer = layer;
    head.stages = chain->n;
    head.error = error;
    nd_sha256_init(&hash);
    bool good =
        !fseek(cache->file, cache->end, SEEK_SET) && write_bytes(cache->file, &hash, &head, sizeof head);
    for (int s = 0; good && s < chain->n; s++) {
        const nd_stage *stage = &chain->stages[s];
        stage_head own;
        memset(&own, 0, sizeof own);
        own.window = stage->window;
        own.no = stage->no;
        own.ni = stage->ni;
        own.groups = stage->groups;
        own.gathered = stage->channel != NULL;
        own.biased = stage->bias != NULL;
        memcpy(own.suffix, stage->suffix, sizeof own.suffix);
        good = write_bytes(cache->file, &hash, &own, sizeof own) &&
               write_bytes(cache->file, &hash, stage->weights,
                           (size_t)weight_count(stage) * sizeof *stage->weights) &&
               write_bytes(cache->file, &hash, stage->channel,
                           own.gathered ? (size_t)stage->ni * sizeof *stage->channel : 0) &&
               write_bytes(cache->file, &hash, stage->bias,
                           own.biased ? (size_t)stage->no * sizeof *stage->bias : 0);
    }
    nd_sha256_hex(&hash, hex);
    good = good && fwrite(hex, digest_bytes, 1, cache->file) == 1 && !fflush(cache->file) &&
           add_place(cache, head.history, cache->end);
    if (good)
        cache->end = ftell(cache->file);
    else
        give_up(cache);
}

void nd_pass_cache_close(nd_pass_cache *cache, bool finished) {
    if (!cache) return;
    if (cache->file) {
        fclose(cache->file);
        if (finished) remove(cache->path);
    }
    free(cache->places);
    free(cache);
}
