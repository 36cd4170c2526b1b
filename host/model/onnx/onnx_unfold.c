/* Model-local functions: a call is read as the nodes of the body, under names of their own, so that analysis
 * and execution meet operators alone. Nothing of it is written: the file keeps the call. */
#include "model/onnx/onnx_unfold.h"

#include "model/onnx/onnx_out.h"

#include <stdlib.h>
#include <string.h>

enum {
    nd_onnx_model_function = 25,
    nd_onnx_function_name = 1,
    nd_onnx_function_input = 4,
    nd_onnx_function_output = 5,
    nd_onnx_function_node = 7,
    nd_onnx_function_opset = 9,
    nd_onnx_function_domain = 10,
    nd_onnx_function_default = 11,
    nd_onnx_attribute_reference = 21,
};

/* --- the list */

typedef struct nd_lister {
    nd_arena *arena;
    nd_onnx_functions *functions;
    nd_onnx_function *now;
} nd_lister;

static nd_status list_attribute(void *context, nd_span attribute) {
    const nd_lister *lister = context;
    if (nd_onnx_field(attribute, nd_onnx_attribute_graph).data ||
        nd_onnx_field(attribute, nd_onnx_attribute_graphs).data)
        lister->now->whole = true;
    return nd_status_ok;
}

static nd_status list_node(void *context, nd_span node) {
    return nd_onnx_each(node, "a node", nd_onnx_node_attribute, list_attribute, context);
}

/* An output that is an input would be two names of one value. */
static nd_status list_output(void *context, nd_span output) {
    const nd_lister *lister = context;
    nd_span rest = lister->now->body;
    nd_wire_field field;
    for (bool broken = false; nd_wire_next(&rest, &field, &broken);)
        if (field.number == nd_onnx_function_input && nd_span_equal(field.content, output))
            lister->now->whole = true;
    return nd_status_ok;
}

static nd_status list_opset(void *context, nd_span message) {
    const nd_lister *lister = context;
    Nd__Onnx__OperatorSet *proto = nd__onnx__operator_set__unpack(NULL, message.bytes, message.data);
    ND_REQUIRE(proto, nd_status_format, "an opset_import of a function is malformed");
    if (!proto->domain || !*proto->domain || !strcmp(proto->domain, "ai.onnx"))
        lister->now->opset = proto->version;
    nd__onnx__operator_set__free_unpacked(proto, NULL);
    return nd_status_ok;
}

static nd_status list_function(void *context, nd_span body) {
    nd_lister *lister = context;
    nd_onnx_functions *functions = lister->functions;
    if (functions->count == functions->capacity) {
        const size_t capacity = functions->capacity ? 2 * functions->capacity : 16;
        nd_onnx_function *items = nd_arena_alloc(lister->arena, capacity * sizeof *items);
        ND_REQUIRE(items, nd_status_memory, "no memory");
        if (functions->count) memcpy(items, functions->items, functions->count * sizeof *items);
        functions->items = items;
        functions->capacity = capacity;
    }
    lister->now = &functions->items[functions->count++];
    *lister->now = (nd_onnx_function){.body = body,
                                      .name = nd_onnx_field(body, nd_onnx_function_name),
                                      .domain = nd_onnx_field(body, nd_onnx_function_domain)};
    ND_TRY(nd_onnx_each(body, "a function", nd_onnx_function_opset, list_opset, lister));
    ND_TRY(nd_onnx_each(body, "a function", nd_onnx_function_output, list_output, lister));
    return nd_onnx_each(body, "a function", nd_onnx_function_node, list_node, lister);
}

nd_status nd_onnx_functions_list(nd_span model, nd_arena *arena, nd_onnx_functions *out) {
    nd_lister lister = {.arena = arena, .functions = out};
    *out = (nd_onnx_functions){0};
    return nd_onnx_each(model, "the model", nd_onnx_model_function, list_function, &lister);
}

const nd_onnx_function *nd_onnx_functions_find(const nd_onnx_functions *functions, const char *domain,
                                               const char *name) {
    for (size_t i = 0; i < functions->count; i++)
        if (nd_span_is(functions->items[i].name, name) && nd_span_is(functions->items[i].domain, domain))
            return &functions->items[i];
    return NULL;
}

/* --- a call */

typedef struct nd_unfolding {
    const nd_onnx_function *function;
    nd_span call;
    const char *prefix;
    nd_arena arena;
    nd_onnx_unfolded *visit;
    void *context;
} nd_unfolding;

/* The place of a name in a list of texts, -1 where it is not there. */
static int place_of(nd_span message, uint32_t number, nd_span name) {
    nd_wire_field field;
    int k = 0;
    for (bool broken = false; nd_wire_next(&message, &field, &broken);) {
        if (field.number != number) continue;
        if (nd_span_equal(field.content, name)) return k;
        k++;
    }
    return -1;
}

static nd_span text_at(nd_span message, uint32_t number, int k) {
    nd_wire_field field;
    for (bool broken = false; nd_wire_next(&message, &field, &broken);)
        if (field.number == number && !k--) return field.content;
    return (nd_span){0};
}

/* What a name of the body is outside: an operand of the call, a result, or one that nothing else has. */
static nd_status put_name(nd_unfolding *u, nd_pieces *out, uint32_t number, nd_span name) {
    const nd_span body = u->function->body;
    const bool value = number != nd_onnx_node_name;
    const int input = value ? place_of(body, nd_onnx_function_input, name) : -1;
    const int output = value ? place_of(body, nd_onnx_function_output, name) : -1;
    const nd_span result = output < 0 ? (nd_span){0} : text_at(u->call, nd_onnx_node_output, output);
    char *text;
    if (!name.bytes)
        text = nd_arena_strdup(&u->arena, "");
    else if (input >= 0 || result.bytes) {
        const nd_span outside = input >= 0 ? text_at(u->call, nd_onnx_node_input, input) : result;
        text = nd_arena_strndup(&u->arena, outside.bytes ? (const char *)outside.data : "", outside.bytes);
    } else
        text = nd_arena_printf(&u->arena, "%s//%.*s", u->prefix, (int)name.bytes, (const char *)name.data);
    ND_REQUIRE(text, nd_status_memory, "no memory");
    return nd_pieces_add_text(out, number, text);
}

static nd_span find_attribute(nd_span message, uint32_t number, nd_span name) {
    nd_wire_field field;
    for (bool broken = false; nd_wire_next(&message, &field, &broken);)
        if (field.number == number &&
            nd_span_equal(nd_onnx_field(field.content, nd_onnx_attribute_name), name))
            return field.content;
    return (nd_span){0};
}

/* One that refers to an attribute of the call is that, or its default; without either it is absent. */
static nd_status put_attribute(nd_unfolding *u, nd_pieces *out, const nd_wire_field *whole) {
    const nd_span reference = nd_onnx_field(whole->content, nd_onnx_attribute_reference);
    if (!reference.bytes) return nd_pieces_add(out, whole->whole);
    nd_span given = find_attribute(u->call, nd_onnx_node_attribute, reference);
    if (!given.bytes) given = find_attribute(u->function->body, nd_onnx_function_default, reference);
    if (!given.bytes) return nd_status_ok;
    nd_pieces attribute = {.arena = &u->arena};
    const nd_span name = nd_onnx_field(whole->content, nd_onnx_attribute_name);
    const char *text = nd_arena_strndup(&u->arena, name.bytes ? (const char *)name.data : "", name.bytes);
    nd_status status = nd_status_ok;
    nd_wire_field field;
    ND_REQUIRE_DONE(text, nd_status_memory, "no memory");
    ND_TRY_DONE(nd_pieces_add_text(&attribute, nd_onnx_attribute_name, text));
    for (bool broken = false; nd_wire_next(&given, &field, &broken);)
        if (field.number != nd_onnx_attribute_name) ND_TRY_DONE(nd_pieces_add(&attribute, field.whole));
    status = nd_pieces_add_pieces(out, nd_onnx_node_attribute, &attribute);
done:
    free(attribute.items);
    return status;
}

static nd_status put_field(nd_unfolding *u, nd_pieces *out, const nd_wire_field *field) {
    if (field->number == nd_onnx_node_input || field->number == nd_onnx_node_output ||
        field->number == nd_onnx_node_name)
        return put_name(u, out, field->number, field->content);
    if (field->number == nd_onnx_node_attribute) return put_attribute(u, out, field);
    return nd_pieces_add(out, field->whole);
}

/* In a buffer of its own, which the constants of the node keep. */
static nd_status unfold_node(void *context, nd_span node) {
    nd_unfolding *u = context;
    nd_pieces out = {.arena = &u->arena};
    nd_buffer *buffer = NULL;
    nd_wire_field field;
    nd_status status = nd_status_ok;
    for (bool broken = false; nd_wire_next(&node, &field, &broken);) ND_TRY_DONE(put_field(u, &out, &field));
    ND_TRY_DONE(nd_buffer_new(out.bytes, &buffer));
    uint8_t *to = buffer->data;
    for (size_t i = 0; i < out.count; i++) {
        if (out.items[i].bytes) memcpy(to, out.items[i].data, out.items[i].bytes);
        to += out.items[i].bytes;
    }
    status = u->visit(u->context, buffer);
done:
    nd_buffer_unref(buffer);
    free(out.items);
    return status;
}

nd_status nd_onnx_unfold(const nd_onnx_function *function, nd_span call, nd_onnx_unfolded *visit,
                         void *context) {
    nd_unfolding u = {.function = function, .call = call, .visit = visit, .context = context};
    nd_span first = {0};
    for (int k = 0; k < 64 && !first.bytes; k++) first = text_at(call, nd_onnx_node_output, k);
    u.prefix = nd_arena_strndup(&u.arena, first.bytes ? (const char *)first.data : "", first.bytes);
    nd_status status =
        u.prefix ? nd_onnx_each(function->body, "a function", nd_onnx_function_node, unfold_node, &u)
                 : nd_fail(nd_status_memory, "no memory");
    nd_arena_free(&u.arena);
    return status;
}
