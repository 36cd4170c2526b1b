/* What is uploaded lies where the view says, nothing else is touched, and the same comes back. */
#include "check/cases.h"

#include <string.h>

/* A view of `dims` inside wider channels: `before` and `after` of them are not the view's. The large ones are
 * more than a backend would move at once. */
typedef struct nd_transfer_case {
    const char *title;
    int rank;
    int64_t dims[4], before, after;
    bool channels_last;
} nd_transfer_case;

static const nd_transfer_case nd_transfer_cases[] = {
    {"number", 1, {1}, 0, 0, false},
    {"row", 1, {37}, 0, 0, false},
    {"matrix", 2, {5, 7}, 0, 0, false},
    {"matrix_slice", 2, {5, 7}, 2, 3, false},
    {"nchw", 4, {3, 5, 7, 9}, 0, 0, false},
    {"nhwc", 4, {3, 5, 7, 9}, 0, 0, true},
    {"nchw_slice", 4, {3, 5, 7, 9}, 1, 2, false},
    {"nhwc_slice", 4, {3, 5, 7, 9}, 3, 1, true},
    {"nhwc_pixel", 4, {2, 8, 1, 1}, 8, 8, true},
    {"nhwc_channels", 4, {2, 37, 9, 11}, 0, 0, true},
    {"nhwc_channels_slice", 4, {2, 40, 5, 13}, 16, 3, true},
    {"images", 4, {5, 3, 301, 299}, 0, 0, false},
    {"images_nhwc", 4, {3, 3, 301, 299}, 0, 0, true},
    {"images_nhwc_slice", 4, {4, 3, 301, 299}, 1, 1, true},
    {"large_image_slice", 4, {1, 3, 601, 599}, 1, 0, false},
    {"large_image_nhwc", 4, {1, 3, 601, 599}, 0, 0, true},
    {"large_plane", 4, {1, 1, 1100, 1001}, 0, 0, false},
    {"large_row", 2, {2, 1060003}, 0, 0, false},
};

static const char *transfer_title(int index) {
    return nd_transfer_cases[index].title;
}

/* The view, and in *elements what a buffer around it has. */
static nd_view transfer_view(const nd_transfer_case *c, int64_t *elements) {
    const int64_t guard = 5; /* no multiple of any vector */
    const int axis = c->rank > 1 ? 1 : 0;
    int64_t wide[4];
    memcpy(wide, c->dims, sizeof wide);
    wide[axis] += c->before + c->after;
    nd_view view = c->channels_last ? nd_view_channels_last(c->rank, wide) : nd_view_row_major(c->rank, wide);
    *elements = nd_view_count(&view) + 2 * guard;
    view.offset = guard + c->before * view.strides[axis];
    memcpy(view.dims, c->dims, (size_t)c->rank * sizeof *c->dims);
    return view;
}

/* Exact in the storage type, and no period that pieces would share. */
static float transfer_number(nd_precision precision, int64_t i) {
    const int number = (int)(i % 251);
    if (precision == nd_precision_e4m3) return nd_e4m3_to_f32((uint8_t)(number == 127 ? 251 : number));
    return (float)(precision == nd_precision_int8 ? number : number - 125);
}

typedef struct nd_transfer {
    nd_view view, flat; /* flat: the whole buffer */
    nd_memory *memory;
    nd_precision precision;
    float *values, *buffer; /* by the order of the view; by that of the buffer */
} nd_transfer;

/* Elements that are not what they must be, compared from the last axis outwards. */
static int64_t transfer_wrong(const nd_transfer *t, const float *values) {
    const nd_view *view = &t->view;
    int64_t wrong = 0, count = nd_view_count(view);
    for (int64_t i = 0; i < count; i++) {
        int64_t at = view->offset, rest = i;
        for (int axis = view->rank - 1; axis >= 0; axis--) {
            at += rest % view->dims[axis] * view->strides[axis];
            rest /= view->dims[axis];
        }
        wrong += values[i] != transfer_number(t->precision, i);
        wrong += t->buffer[at] != transfer_number(t->precision, i);
        t->buffer[at] = 0;
    }
    for (int64_t i = 0; i < t->flat.dims[0]; i++) wrong += t->buffer[i] != 0;
    return wrong;
}

static nd_status transfer_move(nd_identity *identity, nd_transfer *t) {
    nd_backend *backend = identity->backend;
    const nd_backend_table *table = backend->table;
    const nd_precision precision = identity->precision;
    const int64_t count = nd_view_count(&t->view);
    const size_t bytes = (size_t)t->flat.dims[0] * nd_dtype_bytes(nd_precision_storage(precision));
    ND_TRY(table->allocate(backend, bytes, &t->memory));
    ND_TRY(table->upload(backend, t->memory, &t->flat, precision, t->buffer));
    for (int64_t i = 0; i < count; i++) t->values[i] = transfer_number(t->precision, i);
    ND_TRY(table->upload(backend, t->memory, &t->view, precision, t->values));
    for (int64_t i = 0; i < count; i++) t->values[i] = -1000;
    ND_TRY(table->download(backend, t->memory, &t->view, precision, t->values));
    return table->download(backend, t->memory, &t->flat, precision, t->buffer);
}

static nd_status transfer_run(nd_identity *identity, int index) {
    int64_t elements;
    nd_transfer t = {.view = transfer_view(&nd_transfer_cases[index], &elements),
                     .precision = identity->precision};
    t.flat = nd_view_row_major(1, &elements);
    t.values = nd_arena_alloc(&identity->arena, (size_t)nd_view_count(&t.view) * sizeof *t.values);
    t.buffer = nd_arena_alloc(&identity->arena, (size_t)elements * sizeof *t.buffer);
    ND_REQUIRE(t.values && t.buffer, nd_status_memory, "no memory for a check");
    const nd_status status = transfer_move(identity, &t);
    identity->backend->table->free(t.memory);
    ND_TRY(status);
    const int64_t wrong = transfer_wrong(&t, t.values);
    nd_identity_note(identity, (double)wrong, 0.5, "%lld of %lld elements are wrong", (long long)wrong,
                     (long long)elements);
    return nd_status_ok;
}

const nd_check_identities nd_check_transfer = {
    "transfer", sizeof nd_transfer_cases / sizeof *nd_transfer_cases, transfer_title, transfer_run};
