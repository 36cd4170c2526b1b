/* QuantizeLinear and DequantizeLinear. A quantised value lies in memory as nd stores it: integers unsigned,
 * signed types 128 higher, e4m3 as it is. DequantizeLinear computes nothing: its output is the same place,
 * and whoever takes integers reads them there; only for others a copy is made (nd_exec_source). */
#include "run/executor/executor_parts.h"

#include <math.h>
#include <string.h>

/* Element `at` of an 8-bit tensor; other integers give false. */
static bool quant_integer(const nd_tensor *tensor, int64_t at, int32_t *out) {
    if (tensor->dtype == nd_dtype_i8) *out = ((const int8_t *)tensor->data)[at];
    if (tensor->dtype == nd_dtype_u8) *out = ((const uint8_t *)tensor->data)[at];
    return tensor->dtype == nd_dtype_i8 || tensor->dtype == nd_dtype_u8;
}

bool nd_exec_quant(const nd_exec *exec, const nd_node *node, nd_quant *out) {
    const nd_tensor *scale = nd_exec_constant(exec, node, 1), *zero = nd_exec_constant(exec, node, 2);
    if (!scale || scale->dtype != nd_dtype_f32 || nd_tensor_count(scale) != 1) return false;
    memcpy(&out->scale, scale->data, sizeof out->scale);
    out->zero = 0;
    out->e4m3 = false;
    if (node->n_in > 2 && node->in[2] >= 0) {
        if (!zero || nd_tensor_count(zero) != 1) return false;
        out->e4m3 = zero->dtype == nd_dtype_e4m3;
        if (out->e4m3 && *(const uint8_t *)zero->data) return false;
        if (!out->e4m3 && !quant_integer(zero, 0, &out->zero)) return false;
        if (zero->dtype == nd_dtype_i8) out->zero += 128;
    }
    return out->scale > 0 && isfinite(out->scale);
}

bool nd_exec_integers(nd_exec *exec, const nd_node *node, int index, int axis, int64_t outputs, bool e4m3,
                      const int8_t **q, const float **scales) {
    if (!nd_exec_constant(exec, node, index)) return false;
    const nd_integers *integers = exec->graph->values[node->in[index]].integers;
    if (!integers || integers->e4m3 != e4m3) return false;
    const int64_t n = integers->n_scales;
    if (n != 1 && (integers->axis != axis || n != outputs)) return false;
    float *copy = nd_arena_alloc(&exec->scratch, (size_t)outputs * sizeof *copy);
    for (int64_t i = 0; copy && i < outputs; i++) {
        copy[i] = integers->scales[n == 1 ? 0 : i];
        if (!(copy[i] > 0)) return false;
    }
    *q = integers->q;
    *scales = copy;
    return copy != NULL;
}

nd_status nd_exec_source(nd_exec *exec, int value, nd_place *out) {
    nd_exec_value *v = &exec->values[value];
    nd_place stored;
    ND_TRY(nd_exec_source_stored(exec, value, &stored));
    *out = stored;
    if (!(stored.quant.scale > 0)) return nd_status_ok;
    if (v->real.slot < 0) {
        const nd_view layout = nd_exec_layout(exec, stored.view.rank, stored.view.dims);
        const nd_node *node = v->producer >= 0 ? &exec->graph->nodes[v->producer] : NULL;
        v->real.quant = (nd_quant){0};
        ND_TRY(nd_exec_place_new(exec, &layout, &v->real));
        const nd_operands operands = {.x = stored, .y = v->real};
        ND_TRY(nd_exec_emit(exec, node, (nd_work){.operation = nd_operation_dequantize}, &operands));
    }
    *out = v->real;
    return nd_status_ok;
}

static nd_status quant_required(nd_exec *exec, const nd_node *node, nd_quant *out) {
    ND_REQUIRE(nd_exec_quant(exec, node, out), nd_status_unsupported,
               "%s: only one constant scale of 8-bit integers or e4m3 is run", nd_exec_label(exec, node));
    ND_REQUIRE(exec->settings.precision == nd_precision_fp32, nd_status_unsupported,
               "%s: a quantised network computes the rest in fp32, not in %s", nd_exec_label(exec, node),
               nd_precision_name(exec->settings.precision));
    return nd_status_ok;
}

bool nd_exec_quant_same(const nd_quant *a, const nd_quant *b) {
    return a->scale == b->scale && a->zero == b->zero && a->e4m3 == b->e4m3;
}

nd_status nd_lower_quantize(nd_exec *exec, const nd_node *node) {
    nd_exec_value *out = &exec->values[node->out[0]];
    nd_quant quant;
    nd_operands operands = {0};
    ND_TRY(quant_required(exec, node, &quant));
    ND_TRY(nd_exec_source_stored(exec, node->in[0], &operands.x));
    if (nd_exec_quant_same(&operands.x.quant, &quant) && out->place.slot < 0) {
        out->place = operands.x; /* moved as integers already */
        return nd_status_ok;
    }
    ND_TRY(nd_exec_source(exec, node->in[0], &operands.x));
    out->place.quant = quant;
    ND_TRY(nd_exec_target(exec, node->out[0], &operands.y));
    return nd_exec_emit(exec, node, (nd_work){.operation = nd_operation_quantize}, &operands);
}

nd_status nd_lower_dequantize(nd_exec *exec, const nd_node *node) {
    nd_exec_value *out = &exec->values[node->out[0]];
    nd_quant quant;
    ND_TRY(quant_required(exec, node, &quant));
    ND_TRY(nd_exec_source_stored(exec, node->in[0], &out->place));
    ND_REQUIRE(out->place.quant.scale > 0, nd_status_unsupported, "%s: of what is no QuantizeLinear's",
               nd_exec_label(exec, node));
    ND_REQUIRE(out->place.quant.e4m3 == quant.e4m3, nd_status_unsupported, "%s: a zero point of another type",
               nd_exec_label(exec, node));
    out->place.quant = quant;
    return nd_status_ok;
}
