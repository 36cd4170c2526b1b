/* LSTM, GRU and RNN: their equations, gates in their order, are those of the ONNX operators. Of onnxruntime's
 * DynamicQuantizeLSTM both operands of every product are integers of 8 bits: the weights as the file has
 * them, all of x in one range, and the state of a sequence in one of its own at every step. They are rounded
 * to those and computed with as numbers. */
#include "run/dynamic/dynamic_parts.h"

#include "base/parallel.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct nd_layer nd_layer;

/* The state of one sequence in one direction, and room for the sums of its gates. */
typedef struct nd_cell {
    float *h, *c;        /* [hidden] */
    float *sums, *apart; /* [gates * hidden]; apart: of the state, where a gate comes between */
    const float *bias[2], *peephole;
    const float *r; /* [hidden][gates * hidden] */
    const nd_gate *gates;
} nd_cell;

/* One step: from the sums over x and the biases to the new state. */
typedef void nd_cell_step(const nd_layer *layer, nd_cell *cell);

struct nd_layer {
    const nd_recurrence *recurrence;
    const nd_tensor *x, *w, *r, *bias, *lengths, *h, *c, *peephole; /* operands; all but three may be NULL */
    const nd_tensor *scales[2], *zeros[2];                          /* of w and r where they are integers */
    int gates;
    int64_t steps, batch, width, hidden;
    nd_cell_step *step;
    float *rounded; /* x, where it is as of integers */
    float *wt, *rt; /* weights with outputs as the inner axis, by direction */
    float *room;    /* of the cells */
    float *y, *y_h, *y_c;
};

static float gate(nd_gate function, float clip, float sum) {
    static const nd_act acts[] = {nd_act_sigmoid, nd_act_tanh, nd_act_relu};
    const float bounded = sum > clip ? clip : sum < -clip ? -clip : sum;
    return nd_activation_apply((nd_activation){.act = acts[function]}, bounded);
}

/* y[j] += sum over i of x[i] m[i][first + j], for n of the `stride` columns of m. */
static void accumulate(float *y, int64_t n, const float *x, int64_t count, const float *m, int64_t stride) {
    for (int64_t i = 0; i < count; i++) {
        const float factor = x[i], *row = m + i * stride;
        for (int64_t j = 0; j < n; j++) y[j] += factor * row[j];
    }
}

static bool is_quantised(const nd_layer *layer) {
    return layer->scales[0];
}

/* x as of integers of 8 bits; what has no range stays as it is. */
static nd_status round_all(const float *x, int64_t count, float *out) {
    float scale = 1, zero = 0;
    ND_TRY(nd_call_range_of(x, count, &scale, &zero));
    for (int64_t i = 0; i < count; i++) out[i] = scale * (nd_call_rounded(x[i], scale, zero) - zero);
    return nd_status_ok;
}

/* The state is finite: it is a product of a gate and a tanh. */
static const float *lstm_state(const nd_layer *layer, const nd_cell *cell) {
    if (!is_quantised(layer) || round_all(cell->h, layer->hidden, cell->apart)) return cell->h;
    return cell->apart;
}

static void lstm_step(const nd_layer *layer, nd_cell *cell) {
    const int64_t n = layer->hidden;
    const float clip = layer->recurrence->clip, *p = cell->peephole;
    float *const input = cell->sums, *const output = input + n, *const forget = output + n,
                 *const fresh = forget + n;
    accumulate(cell->sums, 4 * n, lstm_state(layer, cell), n, cell->r, 4 * n);
    for (int64_t j = 0; j < n; j++) {
        const float before = cell->c[j];
        const float in = gate(cell->gates[0], clip, input[j] + (p ? p[j] * before : 0));
        const float kept = layer->recurrence->coupled
                               ? 1 - in
                               : gate(cell->gates[0], clip, forget[j] + (p ? p[2 * n + j] * before : 0));
        const float now = kept * before + in * gate(cell->gates[1], clip, fresh[j]);
        const float out = gate(cell->gates[0], clip, output[j] + (p ? p[n + j] * now : 0));
        cell->c[j] = now;
        cell->h[j] = out * gate(cell->gates[2], INFINITY, now);
    }
}

/* Gates: update, reset, hidden. The product with the state for the last is of the state as it was reset, or
 * is reset itself. */
static void gru_step(const nd_layer *layer, nd_cell *cell) {
    const int64_t n = layer->hidden;
    const bool after = layer->recurrence->reset_after;
    const float clip = layer->recurrence->clip;
    float *const update = cell->sums, *const reset = update + n, *const fresh = reset + n,
                 *const part = cell->apart, *const state = part + n;
    accumulate(cell->sums, 2 * n, cell->h, n, cell->r, 3 * n);
    for (int64_t j = 0; j < n; j++) {
        reset[j] = gate(cell->gates[0], clip, reset[j]);
        state[j] = after ? cell->h[j] : reset[j] * cell->h[j];
        part[j] = cell->bias[1] ? cell->bias[1][2 * n + j] : 0;
    }
    accumulate(part, n, state, n, cell->r + 2 * n, 3 * n);
    for (int64_t j = 0; j < n; j++) {
        const float kept = gate(cell->gates[0], clip, update[j]);
        const float now = gate(cell->gates[1], clip, fresh[j] + (after ? reset[j] * part[j] : part[j]));
        cell->h[j] = (1 - kept) * now + kept * cell->h[j];
    }
}

static void rnn_step(const nd_layer *layer, nd_cell *cell) {
    const int64_t n = layer->hidden;
    accumulate(cell->sums, n, cell->h, n, cell->r, n);
    for (int64_t j = 0; j < n; j++) cell->h[j] = gate(cell->gates[0], layer->recurrence->clip, cell->sums[j]);
}

/* Where the state of a direction and a sequence lies in a tensor of states. */
static int64_t state_at(const nd_layer *layer, int64_t direction, int64_t b) {
    const int64_t row = layer->recurrence->batch_first ? b * layer->recurrence->directions + direction
                                                       : direction * layer->batch + b;
    return row * layer->hidden;
}

static nd_cell cell_open(const nd_layer *layer, int64_t d, int64_t b) {
    const int64_t n = layer->hidden, wide = layer->gates * n;
    float *room = layer->room + (d * layer->batch + b) * (2 * n + 2 * wide);
    nd_cell cell = {.h = room,
                    .c = room + n,
                    .sums = room + 2 * n,
                    .apart = room + 2 * n + wide,
                    .r = layer->rt + d * n * wide,
                    .gates = layer->recurrence->gates[d]};
    if (layer->bias) {
        cell.bias[0] = (const float *)layer->bias->data + 2 * d * wide;
        cell.bias[1] = cell.bias[0] + wide;
    }
    if (layer->peephole) cell.peephole = (const float *)layer->peephole->data + 3 * d * n;
    for (int64_t j = 0; j < n; j++) {
        cell.h[j] = layer->h ? ((const float *)layer->h->data)[state_at(layer, d, b) + j] : 0;
        cell.c[j] = layer->c ? ((const float *)layer->c->data)[state_at(layer, d, b) + j] : 0;
    }
    return cell;
}

/* Of a GRU the bias of the last gate's product with the state belongs to that product. */
static void cell_begin(const nd_layer *layer, const nd_cell *cell, int64_t d, int64_t t, int64_t b) {
    const int64_t n = layer->hidden, wide = layer->gates * n;
    const int64_t both = layer->step == gru_step ? 2 * n : wide;
    const int64_t row = layer->recurrence->batch_first ? b * layer->steps + t : t * layer->batch + b;
    for (int64_t j = 0; j < wide; j++) {
        cell->sums[j] = cell->bias[0] ? cell->bias[0][j] : 0;
        if (cell->bias[1] && j < both) cell->sums[j] += cell->bias[1][j];
    }
    const float *x = layer->rounded ? layer->rounded : layer->x->data;
    accumulate(cell->sums, wide, x + row * layer->width, layer->width, layer->wt + d * layer->width * wide,
               wide);
}

/* One sequence in one direction. What is after its end stays 0. */
static void run_sequence(const nd_layer *layer, int64_t d, int64_t b) {
    const nd_recurrence *recurrence = layer->recurrence;
    const int64_t n = layer->hidden, directions = recurrence->directions;
    const int64_t length = layer->lengths ? ((const int64_t *)layer->lengths->data)[b] : layer->steps;
    const bool backward = d || recurrence->backward;
    nd_cell cell = cell_open(layer, d, b);
    for (int64_t i = 0; i < length; i++) {
        const int64_t t = backward ? length - 1 - i : i;
        const int64_t row = recurrence->batch_first ? (b * layer->steps + t) * directions + d
                                                    : (t * directions + d) * layer->batch + b;
        cell_begin(layer, &cell, d, t, b);
        layer->step(layer, &cell);
        if (layer->y) memcpy(layer->y + row * n, cell.h, (size_t)n * sizeof *cell.h);
    }
    if (layer->y_h) memcpy(layer->y_h + state_at(layer, d, b), cell.h, (size_t)n * sizeof *cell.h);
    if (layer->y_c) memcpy(layer->y_c + state_at(layer, d, b), cell.c, (size_t)n * sizeof *cell.c);
}

static void run_sequences(void *context, int64_t first, int64_t last, int worker) {
    const nd_layer *layer = context;
    (void)worker;
    for (int64_t i = first; i < last; i++) run_sequence(layer, i / layer->batch, i % layer->batch);
}

static bool has_dims(const nd_tensor *x, int rank, int64_t a, int64_t b, int64_t c) {
    const int64_t dims[] = {a, b, c};
    return !x || (x->dtype == nd_dtype_f32 && x->rank == rank &&
                  !memcmp(x->dims, dims, (size_t)rank * sizeof *dims));
}

/* Integers have outputs as the inner axis, and a scale and a zero point for all or for every output. */
static bool quantised_fit(const nd_layer *layer) {
    const int64_t d = layer->recurrence->directions, wide = layer->gates * layer->hidden;
    bool fits = true;
    for (int i = 0; i < 2; i++) {
        const nd_tensor *w = i ? layer->r : layer->w, *scale = layer->scales[i], *zero = layer->zeros[i];
        const int64_t count = nd_tensor_count(scale);
        fits = fits && w->dtype == nd_dtype_i64 && scale->dtype == nd_dtype_f32 &&
               zero->dtype == nd_dtype_i64 && (count == d || count == d * wide) &&
               nd_tensor_count(zero) == count && w->rank == 3 && w->dims[0] == d &&
               w->dims[1] == (i ? layer->hidden : layer->width) && w->dims[2] == wide;
    }
    return fits;
}

static nd_status layer_check(nd_layer *layer) {
    const nd_recurrence *recurrence = layer->recurrence;
    const bool first = recurrence->batch_first;
    ND_REQUIRE(layer->x->rank == 3 && layer->x->dtype == nd_dtype_f32 && layer->r->rank == 3,
               nd_status_format, "sequences of %d axes, 3 wanted", layer->x->rank);
    layer->steps = layer->x->dims[first];
    layer->batch = layer->x->dims[!first];
    layer->width = layer->x->dims[2];
    layer->hidden = layer->r->dims[is_quantised(layer) ? 1 : 2];
    const int64_t d = recurrence->directions, n = layer->hidden, batch = layer->batch;
    const int64_t wide = layer->gates * n;
    const bool fits = n > 0 && (!recurrence->hidden || recurrence->hidden == n) &&
                      (is_quantised(layer) ? quantised_fit(layer)
                                           : has_dims(layer->w, 3, d, wide, layer->width) &&
                                                 has_dims(layer->r, 3, d, wide, n)) &&
                      has_dims(layer->bias, 2, d, 2 * wide, 0) && has_dims(layer->peephole, 2, d, 3 * n, 0) &&
                      has_dims(layer->h, 3, first ? batch : d, first ? d : batch, n) &&
                      has_dims(layer->c, 3, first ? batch : d, first ? d : batch, n);
    ND_REQUIRE(fits, nd_status_format, "weights, biases or states that do not fit its sequences");
    const nd_tensor *lengths = layer->lengths;
    ND_REQUIRE(!lengths || (lengths->dtype == nd_dtype_i64 && nd_tensor_count(lengths) == batch),
               nd_status_format, "lengths that are no list of %lld integers", (long long)batch);
    for (int64_t b = 0; lengths && b < batch; b++) {
        const int64_t length = ((const int64_t *)lengths->data)[b];
        ND_REQUIRE(length >= 0 && length <= layer->steps, nd_status_format, "sequence %lld of %lld steps",
                   (long long)b, (long long)length);
    }
    return nd_status_ok;
}

/* [direction][rows][columns] into [direction][columns][rows] */
static float *transposed(const nd_tensor *m) {
    const int64_t rows = m->dims[1], columns = m->dims[2];
    const float *from = m->data;
    float *to = nd_alloc_array((size_t)nd_tensor_count(m) + 1, sizeof *to);
    for (int64_t d = 0; to && d < m->dims[0]; d++)
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < columns; j++)
                to[(d * columns + j) * rows + i] = from[(d * rows + i) * columns + j];
    return to;
}

/* [direction][columns][rows] as numbers */
static float *dequantised(const nd_tensor *m, const nd_tensor *scale, const nd_tensor *zero) {
    const int64_t columns = m->dims[1], rows = m->dims[2];
    const bool each = nd_tensor_count(scale) > m->dims[0];
    const int64_t *from = m->data, *zeros = zero->data;
    const float *scales = scale->data;
    float *to = nd_alloc_array((size_t)nd_tensor_count(m) + 1, sizeof *to);
    for (int64_t i = 0; to && i < nd_tensor_count(m); i++) {
        const int64_t d = i / rows / columns, at = each ? d * rows + i % rows : d;
        to[i] = scales[at] * (float)(from[i] - zeros[at]);
    }
    return to;
}

static nd_status layer_results(nd_layer *layer, nd_call *call) {
    const int64_t d = layer->recurrence->directions, n = layer->hidden;
    const bool first = layer->recurrence->batch_first;
    const int64_t all[] = {first ? layer->batch : layer->steps, first ? layer->steps : d,
                           first ? d : layer->batch, n};
    const int64_t state[] = {first ? layer->batch : d, first ? d : layer->batch, n};
    float **const data[] = {&layer->y, &layer->y_h, &layer->y_c};
    for (int k = 0; k < call->node->n_out && k < 3; k++) {
        ND_TRY(nd_call_new(nd_dtype_f32, k ? 3 : 4, k ? state : all, &call->out[k]));
        *data[k] = call->out[k].data;
    }
    return nd_status_ok;
}

static nd_status layer_run(nd_layer *layer, nd_call *call) {
    const int64_t n = layer->hidden, wide = layer->gates * n;
    const int64_t sequences = layer->recurrence->directions * layer->batch;
    nd_status status = nd_status_ok;
    ND_TRY(layer_results(layer, call));
    const bool quantised = is_quantised(layer);
    layer->wt = quantised ? dequantised(layer->w, layer->scales[0], layer->zeros[0]) : transposed(layer->w);
    layer->rt = quantised ? dequantised(layer->r, layer->scales[1], layer->zeros[1]) : transposed(layer->r);
    layer->room = nd_alloc_array((size_t)(sequences * (2 * n + 2 * wide)) + 1, sizeof *layer->room);
    ND_REQUIRE_DONE(layer->wt && layer->rt && layer->room, nd_status_memory, "no memory");
    if (quantised) {
        const int64_t count = nd_tensor_count(layer->x);
        layer->rounded = nd_alloc_array((size_t)count + 1, sizeof *layer->rounded);
        ND_REQUIRE_DONE(layer->rounded, nd_status_memory, "no memory");
        ND_TRY_DONE(round_all(layer->x->data, count, layer->rounded));
    }
    nd_parallel_for(sequences, layer->steps * wide * (layer->width + n), run_sequences, layer);
done:
    free(layer->rounded);
    free(layer->wt);
    free(layer->rt);
    free(layer->room);
    return status;
}

static const struct {
    const char *op;
    int gates;
    nd_cell_step *step;
} nd_recurrences[] = {
    {"LSTM", 4, lstm_step},
    {"com.microsoft.DynamicQuantizeLSTM", 4, lstm_step},
    {"GRU", 3, gru_step},
    {"RNN", 1, rnn_step},
};

nd_status nd_call_recurrent(nd_call *call) {
    nd_layer layer = {.recurrence = &call->node->attr.recurrence};
    const nd_tensor **const given[] = {&layer.x,         &layer.w,        &layer.r,         &layer.bias,
                                       &layer.lengths,   &layer.h,        &layer.c,         &layer.peephole,
                                       &layer.scales[0], &layer.zeros[0], &layer.scales[1], &layer.zeros[1]};
    for (int k = 0; k < 3; k++) ND_TRY(nd_call_input(call, k, given[k]));
    for (int k = 3; k < call->node->n_in && k < 12; k++) *given[k] = call->in[k];
    size_t kind = 0;
    while (strcmp(nd_recurrences[kind].op, call->node->op_type)) kind++;
    layer.gates = nd_recurrences[kind].gates;
    layer.step = nd_recurrences[kind].step;
    ND_TRY(layer_check(&layer));
    return layer_run(&layer, call);
}
