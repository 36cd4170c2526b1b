/* RepVGG as it runs: plain 3x3 convolutions with bias. While it is trained each of them is three branches, a
 * 3x3, a 1x1 and the identity, each with its BatchNorm; a file with those is summed up here. */
#include "model/zoo/zoo_layers.h"
#include "model/zoo/zoo_weights.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void zoo_repvgg_block(nd_zoo_builder *builder, const char *name, int64_t channels, int64_t stride,
                             int64_t groups) {
    nd_zoo_grouped_conv(builder, nd_zoo_name(builder, "%s.rbr_reparam", name), channels,
                        (nd_zoo_window){3, stride, 1}, groups, true);
    nd_zoo_relu(builder, nd_zoo_name(builder, "%s.nonlinearity", name));
}

/* Every second convolution has groups, where any has. */
void nd_zoo_repvgg(nd_zoo_builder *builder, const nd_zoo_entry *entry) {
    enum { grouped_last = 26 };
    const nd_zoo_plan *plan = entry->plan;
    int layer = 1;
    zoo_repvgg_block(builder, "stage0", plan->widths[0], 2, 1);
    for (int stage = 1; stage < nd_zoo_stages_max; stage++) {
        for (int64_t i = 0; i < plan->stages[stage]; i++, layer++) {
            const bool grouped = plan->groups && layer % 2 == 0 && layer <= grouped_last;
            zoo_repvgg_block(builder, nd_zoo_name(builder, "stage%d.%d", stage, (int)i), plan->widths[stage],
                             i ? 1 : 2, grouped ? plan->groups : 1);
        }
    }
    nd_zoo_global_pool(builder, "gap");
    nd_zoo_linear(builder, "linear", entry->classes);
}

/* --- from branches */

typedef struct nd_zoo_norm {
    float *scale, *shift; /* as a convolution's factor and bias, over the output channels */
} nd_zoo_norm;

/* BatchNorm "PREFIX" as scale and shift; false where the file lacks it or has another size. */
static bool zoo_norm(nd_zoo_weights *weights, const char *prefix, int64_t channels, nd_zoo_norm *out) {
    static const char *const parameters[] = {"weight", "bias", "running_mean", "running_var"};
    float *rows = nd_alloc_array(4 * (size_t)channels, sizeof *rows);
    bool there = rows != NULL;
    for (int i = 0; there && i < 4; i++) {
        char name[160];
        snprintf(name, sizeof name, "%s.%s", prefix, parameters[i]);
        const nd_tensor *tensor = nd_zoo_weights_take(weights, name);
        there = tensor && tensor->rank == 1 && tensor->dims[0] == channels && tensor->dtype <= nd_dtype_bf16;
        if (there) nd_tensor_to_f32(tensor, rows + i * channels);
    }
    for (int64_t c = 0; there && c < channels; c++) {
        const double scale = rows[c] / sqrt((double)rows[3 * channels + c] + 1e-5);
        rows[channels + c] = (float)(rows[channels + c] - rows[2 * channels + c] * scale);
        rows[c] = (float)scale;
    }
    *out = (nd_zoo_norm){rows, rows ? rows + channels : NULL};
    return there;
}

/* Adds a branch's convolution, kernel x kernel in the middle of the 3x3, to weight and bias. */
static bool zoo_add_branch(nd_zoo_weights *weights, const char *prefix, int64_t kernel, const int64_t *dims,
                           float *weight, float *bias) {
    char name[128];
    nd_zoo_norm norm;
    snprintf(name, sizeof name, "%s.conv.weight", prefix);
    const nd_tensor *tensor = nd_zoo_weights_take(weights, name);
    const int64_t want[] = {dims[0], dims[1], kernel, kernel}, count = nd_dims_count(4, want);
    if (!tensor || tensor->rank != 4 || memcmp(tensor->dims, want, sizeof want) ||
        tensor->dtype > nd_dtype_bf16)
        return false;
    float *values = nd_alloc_array((size_t)count, sizeof *values);
    snprintf(name, sizeof name, "%s.bn", prefix);
    const bool there = zoo_norm(weights, name, dims[0], &norm) && values;
    if (there) nd_tensor_to_f32(tensor, values);
    for (int64_t i = 0; there && i < count; i++) {
        const int64_t channel = i / (dims[1] * kernel * kernel), pair = i / (kernel * kernel);
        weight[9 * pair + (kernel == 3 ? i % 9 : 4)] += values[i] * norm.scale[channel];
    }
    for (int64_t c = 0; there && c < dims[0]; c++) bias[c] += norm.shift[c];
    free(values);
    free(norm.scale);
    return there;
}

/* The identity, which only blocks have that keep their shape. */
static void zoo_add_identity(nd_zoo_weights *weights, const char *prefix, const int64_t *dims, float *weight,
                             float *bias) {
    nd_zoo_norm norm;
    const bool there = zoo_norm(weights, prefix, dims[0], &norm);
    for (int64_t c = 0; there && c < dims[0]; c++) {
        weight[9 * (c * dims[1] + c % dims[1]) + 4] += norm.scale[c];
        bias[c] += norm.shift[c];
    }
    free(norm.scale);
}

/* The channels that a group reads, which the bias does not say: as the 3x3 branch has it. */
static int64_t zoo_channels_in(nd_zoo_weights *weights, const char *block) {
    char name[160];
    snprintf(name, sizeof name, "%s.rbr_dense.conv.weight", block);
    const nd_tensor *tensor = nd_zoo_weights_take(weights, name);
    return tensor && tensor->rank == 4 ? tensor->dims[1] : 0;
}

nd_status nd_zoo_repvgg_make(nd_zoo_weights *weights, const char *name, int rank, const int64_t *dims,
                             nd_tensor *out) {
    const char *part = strstr(name, ".rbr_reparam.");
    char block[64], branch[96];
    *out = (nd_tensor){0};
    if (!part || (size_t)(part - name) >= sizeof block) return nd_status_ok;
    snprintf(block, sizeof block, "%.*s", (int)(part - name), name);
    const int64_t whole[] = {dims[0], rank == 4 ? dims[1] : zoo_channels_in(weights, block), 3, 3};
    nd_tensor weight = {0}, bias = {0};
    nd_status status = nd_status_ok;
    if (whole[1] < 1) return nd_status_ok;
    ND_TRY_DONE(nd_tensor_new(nd_dtype_f32, 4, whole, &weight));
    ND_TRY_DONE(nd_tensor_new(nd_dtype_f32, 1, whole, &bias));
    snprintf(branch, sizeof branch, "%s.rbr_dense", block);
    bool there = zoo_add_branch(weights, branch, 3, whole, weight.data, bias.data);
    snprintf(branch, sizeof branch, "%s.rbr_1x1", block);
    there = there && zoo_add_branch(weights, branch, 1, whole, weight.data, bias.data);
    snprintf(branch, sizeof branch, "%s.rbr_identity", block);
    if (there) zoo_add_identity(weights, branch, whole, weight.data, bias.data);
    if (there) *out = nd_tensor_share(rank == 4 ? &weight : &bias);
done:
    nd_tensor_free(&weight);
    nd_tensor_free(&bias);
    return status;
}
