/* What cuDNN's heuristics would choose on devices that are not here: for every device, layer, precision and
 * layout, the first candidates in order of preference, with their numerical notes and whether they keep the
 * precision. Needs the library and no GPU; the figures change with the library's version and are reviewed as
 * a diff of the golden file.
 *
 * nd_engines asks for whole layers of real numbers, nd_engines 8 for sums in 8 bits, as cuda/quantized_conv.c
 * does. All engines of e4m3, and those of int8 that use tensor cores, are compiled, and proposed only where a
 * driver could load them: engines.sh has one that does nothing else.
 *
 * The properties are from public data sheets, written by hand: a device's own description may differ in
 * details. */
#include "cuda/libs/dnn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { nd_engines_listed = 3 }; /* usable candidates printed for each question */

typedef struct nd_engines_device {
    const char *name;
    int sm, multiprocessors, shared_optin, shared_sm, threads_sm, blocks_sm, clock_khz, memory_khz, l2_bytes;
    long long memory;
} nd_engines_device;

static const nd_engines_device nd_engines_devices[] = {
    {"H100", 90, 132, 232448, 233472, 2048, 32, 1980000, 2619000, 52428800, 85024112640},
    {"A100", 80, 108, 166912, 167936, 2048, 32, 1410000, 1593000, 41943040, 84974239744},
    {"RTX4090", 89, 128, 101376, 102400, 1536, 24, 2520000, 10501000, 75497472, 25393692672},
};

typedef struct nd_engines_layer {
    const char *name;
    int64_t channels, out_channels, size, kernel, stride;
    bool residual;
} nd_engines_layer;

static const nd_engines_layer nd_engines_layers[] = {
    {"vgg16_conv1_2", 64, 64, 224, 3, 1, false},  {"vgg16_conv2_2", 128, 128, 112, 3, 1, false},
    {"vgg16_conv3_2", 256, 256, 56, 3, 1, false}, {"vgg16_conv4_2", 512, 512, 28, 3, 1, false},
    {"resnet18_l2_0", 64, 128, 56, 3, 2, false},  {"resnet18_l3_1", 256, 256, 14, 3, 1, true},
    {"pointwise", 768, 256, 56, 1, 1, false},
};

static void engines_properties(const nd_engines_device *d, char *json, size_t size) {
    snprintf(
        json, size,
        "{\"version\":1,\"maxGridSize\":[2147483647,65535,65535],\"maxBlockSize\":[1024,1024,64],"
        "\"regsPerBlock\":65536,\"multiProcessorCount\":%d,\"warpSize\":32,\"maxSharedMemoryPerBlock\":49152,"
        "\"maxSharedMemoryPerBlockOptin\":%d,\"maxSharedMemoryPerMultiprocessor\":%d,"
        "\"reservedSharedMemoryPerBlock\":1024,\"maxRegistersPerSM\":65536,\"maxCtasPerSM\":%d,"
        "\"maxThreadsPerBlock\":1024,\"maxThreadsPerSM\":%d,\"pciDeviceId\":0,\"isTccDriver\":0,"
        "\"supportCoopLaunch\":1,\"smClockRateKHz\":%d,\"memClockRateKHz\":%d,\"l2CacheSize\":%d,"
        "\"deviceName\":\"%s\",\"deviceVer\":%d,\"driverVer\":13000,\"totalGlobalMem\":%lld,\"cudaDeviceId\":"
        "0}",
        d->multiprocessors, d->shared_optin, d->shared_sm, d->blocks_sm, d->threads_sm, d->clock_khz,
        d->memory_khz, d->l2_bytes, d->name, 10 * d->sm, d->memory);
}

typedef struct nd_engines_row {
    const char *device, *layer, *precision, *layout;
    int candidates, usable;
} nd_engines_row;

static nd_status engines_visit(void *context, const nd_dnn_engine *engine) {
    nd_engines_row *row = context;
    row->candidates++;
    if (!engine->usable || engine->workspace < 0 || row->usable++ >= nd_engines_listed) return nd_status_ok;
    printf("%s,%s,%s,%s,%d,\"%s\",\"%s\",%lld\n", row->device, row->layer, row->precision, row->layout,
           row->usable, engine->name, engine->notes, (long long)engine->workspace);
    return nd_status_ok;
}

/* Integers come with what is padded around them. */
static nd_dnn_problem engines_problem(const nd_engines_layer *layer, nd_precision precision,
                                      bool channels_last) {
    const bool sums = nd_precision_is_quantised(precision), padded = precision == nd_precision_int8;
    const int64_t batch = 32, out = (layer->size - 1) / layer->stride + 1, around = layer->kernel / 2;
    const int64_t size = layer->size + (padded ? 2 * around : 0), pad = padded ? 0 : around;
    const int64_t x[] = {batch, layer->channels, size, size}, y[] = {batch, layer->out_channels, out, out};
    nd_dnn_problem problem = {.precision = precision, .bias = !sums, .channels_last = channels_last};
    problem.work.operation = nd_operation_conv;
    problem.work.groups = 1;
    problem.work.activation.act = sums ? nd_act_none : nd_act_relu;
    problem.work.x = channels_last ? nd_view_channels_last(4, x) : nd_view_row_major(4, x);
    problem.work.y = channels_last ? nd_view_channels_last(4, y) : nd_view_row_major(4, y);
    problem.work.residual = layer->residual && !sums;
    problem.work.x2 = problem.work.y;
    problem.work.window = (nd_window){.kernel = {layer->kernel, layer->kernel},
                                      .stride = {layer->stride, layer->stride},
                                      .dilation = {1, 1},
                                      .pad = {pad, pad, pad, pad}};
    return problem;
}

/* Of e4m3 a device may have nothing. */
static nd_status engines_ask(const nd_engines_device *device, const nd_engines_layer *layer,
                             nd_precision precision, bool channels_last) {
    char json[2048];
    const nd_dnn_problem problem = engines_problem(layer, precision, channels_last);
    nd_engines_row row = {
        device->name, layer->name, nd_precision_name(precision), channels_last ? "NHWC" : "NCHW", 0, 0};
    engines_properties(device, json, sizeof json);
    ND_TRY(nd_dnn_engines(&problem, json, engines_visit, &row));
    if (!row.usable)
        printf("%s,%s,%s,%s,0,none of %d,,\n", row.device, row.layer, row.precision, row.layout,
               row.candidates);
    ND_REQUIRE(row.candidates || precision == nd_precision_e4m3, nd_status_failed,
               "%s proposes nothing for %s", device->name, layer->name);
    return nd_status_ok;
}

/* In one layout, or in both. */
static nd_status engines_all(const nd_engines_device *device, nd_precision first, nd_precision last,
                             bool both) {
    for (size_t l = 0; l < sizeof nd_engines_layers / sizeof *nd_engines_layers; l++)
        for (int p = first; p <= (int)last; p++)
            for (int turned = 0; turned <= both; turned++)
                ND_TRY(engines_ask(device, &nd_engines_layers[l], (nd_precision)p, !turned));
    return nd_status_ok;
}

int main(int argc, char **argv) {
    const bool eight = argc > 1 && !strcmp(argv[1], "8");
    char version[32];
    if (!eight) {
        printf("# cuDNN %s, batch 32, bias and ReLU fused; of 8 bits sums\n",
               nd_dnn_version(version, sizeof version));
        printf("device,layer,precision,layout,choice,engine,notes,workspace_bytes\n");
    }
    for (size_t d = 0; d < sizeof nd_engines_devices / sizeof *nd_engines_devices; d++) {
        const nd_engines_device *device = &nd_engines_devices[d];
        if (!(eight ? engines_all(device, nd_precision_int8, nd_precision_e4m3, false)
                    : engines_all(device, nd_precision_fp32, nd_precision_bf16, true)))
            continue;
        fprintf(stderr, "%s\n", nd_error());
        return 1;
    }
    return 0;
}
