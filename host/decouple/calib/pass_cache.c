#include "decouple/calib/pass_cache.h"

#include "base/files/file.h"
#include "base/hash.h"
#include "decouple/calib/curves_cache.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct nd_pass_cache {
    FILE *file; /* NULL where nothing is kept */
    char path[4096];
};

/* A record is one layer: this, then its stages, then the SHA-256 of both as 64 hexadecimal digits. In the
 * machine's own layout: the file is for the run after this one. */
typedef struct record {
    int32_t layer, stages;
    nd_fit_error error;
} record;

typedef struct stage_head {
    nd_window window;
    int64_t no, ni, groups;
    bool gathered, biased;
    char suffix[24];
} stage_head;

enum { digest_bytes = nd_sha256_hex_size - 1 };

static void pass_key(const nd_graph *graph, const nd_decouple_settings *settings, const nd_plan *plan,
                     char hex[nd_sha256_hex_size]) {
    nd_sha256 hash;
    char key[nd_sha256_hex_size], text[64];
    nd_calibration_key(graph, settings, key);
    nd_sha256_init(&hash);
    nd_sha256_add(&hash, key, digest_bytes);
    nd_sha256_add(&hash, settings->relu_aware ? "relu" : "plain", 5);
    for (int l = 0; l < plan->n_layers; l++) {
        const nd_layer *layer = &plan->layers[l];
        const char *method = layer->method ? layer->method->name : "dense";
        int length = snprintf(text, sizeof text, ";%.32s:%lld", method, (long long)layer->rank);
        nd_sha256_add(&hash, text, (size_t)length);
    }
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

/* One record into its layer; false at the end of what can be trusted. */
static bool read_layer(FILE *file, const nd_plan *plan, int after, nd_chain *chains, nd_fit_error *error,
                       int *layer) {
    nd_sha256 hash;
    record head;
    char told[digest_bytes], found[nd_sha256_hex_size];
    nd_chain chain = {0};
    nd_sha256_init(&hash);
    bool good = read_bytes(file, &hash, &head, sizeof head) && head.layer >= after &&
                head.layer < plan->n_layers && head.stages > 0 && head.stages <= nd_chain_max &&
                read_chain(file, &hash, &plan->layers[head.layer].conv, head.stages, &chain) &&
                fread(told, sizeof told, 1, file) == 1;
    if (good) {
        nd_sha256_hex(&hash, found);
        good = !memcmp(told, found, sizeof told);
    }
    if (!good) {
        nd_chain_free(&chain);
        return false;
    }
    chains[head.layer] = chain;
    error[head.layer] = head.error;
    *layer = head.layer;
    return true;
}

nd_status nd_pass_cache_open(const nd_graph *graph, const nd_decouple_settings *settings, const nd_plan *plan,
                             nd_chain *chains, nd_fit_error *error, int *done, nd_pass_cache **out) {
    *done = 0;
    *out = NULL;
    if (!settings->cache) return nd_status_ok;
    char hex[nd_sha256_hex_size];
    nd_pass_cache *cache = calloc(1, sizeof *cache);
    ND_REQUIRE(cache, nd_status_memory, "no memory for a cache");
    pass_key(graph, settings, plan, hex);
    int length = snprintf(cache->path, sizeof cache->path, "%s/pass-%.32s.bin", settings->cache, hex);
    bool fits = length > 0 && (size_t)length < sizeof cache->path;
    if (fits) cache->file = nd_file_stream(cache->path, "r+b");
    if (fits && !cache->file) cache->file = nd_file_stream(cache->path, "w+b");
    if (!cache->file) {
        nd_log(nd_log_warn, "%s: %s; a calibration pass that is stopped will start anew", cache->path,
               strerror(errno));
        *out = cache;
        return nd_status_ok;
    }
    long good = 0;
    int layer = 0;
    while (read_layer(cache->file, plan, *done, chains, error, &layer)) {
        *done = layer + 1;
        good = ftell(cache->file);
    }
    if (fseek(cache->file, good, SEEK_SET) || ftruncate(fileno(cache->file), good)) {
        nd_log(nd_log_warn, "%s: %s", cache->path, strerror(errno));
        fclose(cache->file);
        cache->file = NULL;
    }
    *out = cache;
    return nd_status_ok;
}

static bool write_bytes(FILE *file, nd_sha256 *hash, const void *data, size_t bytes) {
    nd_sha256_add(hash, data, bytes);
    return !bytes || fwrite(data, bytes, 1, file) == 1;
}

void nd_pass_cache_put(nd_pass_cache *cache, int layer, const nd_chain *chain, nd_fit_error error) {
    if (!cache || !cache->file) return;
    nd_sha256 hash;
    char hex[nd_sha256_hex_size];
    record head = {layer, chain->n, error};
    nd_sha256_init(&hash);
    bool good = write_bytes(cache->file, &hash, &head, sizeof head);
    for (int s = 0; good && s < chain->n; s++) {
        const nd_stage *stage = &chain->stages[s];
        stage_head own;
        memset(&own, 0, sizeof own); /* padding too: it is hashed */
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
    good = good && fwrite(hex, digest_bytes, 1, cache->file) == 1 && !fflush(cache->file);
    if (good) return;
    nd_log(nd_log_warn, "%s: %s; a calibration pass that is stopped will start anew", cache->path,
           strerror(errno));
    fclose(cache->file); /* the layers before are good, and what is torn is dropped when it is read */
    cache->file = NULL;
}

void nd_pass_cache_close(nd_pass_cache *cache, bool finished) {
    if (!cache) return;
    if (cache->file) {
        fclose(cache->file);
        if (finished) remove(cache->path);
    }
    free(cache);
}
