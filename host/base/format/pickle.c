#include "base/format/pickle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    nd_pickle_memo_max = 1 << 20,
    nd_pickle_stack_max = 1 << 20,
    nd_pickle_name_max = 256,       /* bytes of a global's module or name */
    nd_pickle_values_max = 1 << 22, /* so that a few bytes an opcode do not become 64 without end */
};

typedef struct nd_pickle_machine {
    const unsigned char *data;
    size_t bytes, at;
    const char *name;
    const char *const *globals;
    nd_arena *arena;
    nd_pickle **stack, **memo;
    size_t depth, stack_capacity, memo_capacity, n_memo, n_values;
    nd_pickle persistent; /* a list */
    bool cut, done, whole;
} nd_pickle_machine;

static nd_status pickle_bad(const nd_pickle_machine *m, const char *what) {
    return nd_fail(nd_status_format, "%s: pickle: %s at byte %zu", m->name, what, m->at);
}

/* --- values */

static bool pickle_grow(nd_pickle ***list, size_t *capacity, size_t needed) {
    if (needed <= *capacity) return true;
    size_t wanted = *capacity ? *capacity : 64;
    while (wanted < needed) wanted *= 2;
    nd_pickle **more = realloc(*list, wanted * sizeof *more);
    if (!more) return false;
    memset(more + *capacity, 0, (wanted - *capacity) * sizeof *more);
    *list = more;
    *capacity = wanted;
    return true;
}

static nd_status pickle_push(nd_pickle_machine *m, nd_pickle value) {
    ND_REQUIRE(m->depth < nd_pickle_stack_max, nd_status_format, "%s: pickle: more than %d values open",
               m->name, nd_pickle_stack_max);
    ND_REQUIRE(m->n_values++ < nd_pickle_values_max, nd_status_unsupported, "%s: pickle: more than %d values",
               m->name, nd_pickle_values_max);
    nd_pickle *copy = nd_arena_alloc(m->arena, sizeof *copy);
    ND_REQUIRE(copy && pickle_grow(&m->stack, &m->stack_capacity, m->depth + 1), nd_status_memory,
               "%s: pickle: no memory", m->name);
    *copy = value;
    m->stack[m->depth++] = copy;
    return nd_status_ok;
}

/* Appends in the arena, doubling: old arrays are left behind, which at most doubles the memory. */
static nd_status pickle_append(nd_pickle_machine *m, nd_pickle *to, nd_pickle *const *items, size_t count) {
    if (to->length + count > to->capacity) {
        size_t capacity = 2 * (to->length + count);
        nd_pickle **more = nd_arena_alloc(m->arena, capacity * sizeof *more);
        ND_REQUIRE(more, nd_status_memory, "%s: pickle: no memory", m->name);
        if (to->length) memcpy(more, to->items, to->length * sizeof *more);
        to->items = more;
        to->capacity = capacity;
    }
    if (count) memcpy(to->items + to->length, items, count * sizeof *items);
    to->length += count;
    return nd_status_ok;
}

/* Replaces the top `count` values by one of the given kind that holds them. */
static nd_status pickle_collect(nd_pickle_machine *m, nd_pickle_kind kind, size_t count) {
    if (m->depth < count) return pickle_bad(m, "too few values");
    nd_pickle value = {.kind = kind};
    ND_TRY(pickle_append(m, &value, m->stack + m->depth - count, count));
    m->depth -= count;
    return pickle_push(m, value);
}

/* Number of values above the topmost mark; false without one. */
static bool pickle_above_mark(const nd_pickle_machine *m, size_t *count) {
    for (size_t i = m->depth; i > 0; i--) {
        if (m->stack[i - 1]->kind != nd_pickle_mark) continue;
        *count = m->depth - i;
        return true;
    }
    return false;
}

/* --- opcodes. Each gets its argument (count bytes of data, already read) */

typedef struct nd_pickle_argument {
    const unsigned char *data;
    size_t length;
    uint64_t number; /* the same, little-endian, where length <= 8 */
} nd_pickle_argument;

typedef nd_status nd_pickle_run(nd_pickle_machine *m, unsigned char code, nd_pickle_argument argument);

static nd_status pickle_skip(nd_pickle_machine *m, unsigned char code, nd_pickle_argument argument) {
    (void)m;
    (void)code;
    (void)argument;
    return nd_status_ok;
}

static nd_status pickle_protocol(nd_pickle_machine *m, unsigned char code, nd_pickle_argument argument) {
    (void)code;
    ND_REQUIRE(argument.number >= 2 && argument.number <= 5, nd_status_unsupported,
               "%s: pickle of protocol %d; 2 to 5 are read", m->name, (int)argument.number);
    return nd_status_ok;
}

static nd_status pickle_stop(nd_pickle_machine *m, unsigned char code, nd_pickle_argument argument) {
    (void)code;
    (void)argument;
    m->done = true;
    return nd_status_ok;
}

static nd_status pickle_constant(nd_pickle_machine *m, unsigned char code, nd_pickle_argument argument) {
    (void)argument;
    nd_pickle value = {.kind = code == 'N'   ? nd_pickle_none
                               : code == '(' ? nd_pickle_mark
                                             : nd_pickle_bool,
                       .integer = code == 0x88};
    return pickle_push(m, value);
}

static nd_status pickle_integer(nd_pickle_machine *m, unsigned char code, nd_pickle_argument argument) {
    const int64_t value = code == 'J' ? (int32_t)(uint32_t)argument.number : (int64_t)argument.number;
    return pickle_push(m, (nd_pickle){.kind = nd_pickle_int, .integer = value});
}

/* LONG1: two's complement of `length` bytes. */
static nd_status pickle_long(nd_pickle_machine *m, unsigned char code, nd_pickle_argument argument) {
    (void)code;
    if (argument.length > 8)
        return pickle_push(m, (nd_pickle){.kind = nd_pickle_big,
                                          .text = (const char *)argument.data,
                                          .length = argument.length});
    uint64_t value = argument.number;
    const bool negative = argument.length && argument.data[argument.length - 1] & 0x80;
    if (negative && argument.length < 8) value |= UINT64_MAX << (8 * argument.length);
    return pickle_push(m, (nd_pickle){.kind = nd_pickle_int, .integer = (int64_t)value});
}

/* BINFLOAT: a big-endian double. */
static nd_status pickle_real(nd_pickle_machine *m, unsigned char code, nd_pickle_argument argument) {
    (void)code;
    uint64_t bits = 0;
    double value;
    for (size_t i = 0; i < argument.length; i++) bits = bits << 8 | argument.data[i];
    memcpy(&value, &bits, sizeof value);
    return pickle_push(m, (nd_pickle){.kind = nd_pickle_real, .real = value});
}

static nd_status pickle_string(nd_pickle_machine *m, unsigned char code, nd_pickle_argument argument) {
    (void)code;
    return pickle_push(
        m,
        (nd_pickle){.kind = nd_pickle_text, .text = (const char *)argument.data, .length = argument.length});
}

static nd_status pickle_empty(nd_pickle_machine *m, unsigned char code, nd_pickle_argument argument) {
    (void)argument;
    const nd_pickle_kind kind = code == ']' ? nd_pickle_list : code == '}' ? nd_pickle_dict : nd_pickle_tuple;
    return pickle_push(m, (nd_pickle){.kind = kind});
}

/* TUPLE takes all above the mark; TUPLE1 to TUPLE3 count. */
static nd_status pickle_tuples(nd_pickle_machine *m, unsigned char code, nd_pickle_argument argument) {
    (void)argument;
    if (code != 't') return pickle_collect(m, nd_pickle_tuple, (size_t)code - 0x84);
    size_t count;
    if (!pickle_above_mark(m, &count)) return pickle_bad(m, "a tuple without its mark");
    ND_TRY(pickle_collect(m, nd_pickle_tuple, count));
    m->stack[m->depth - 2] = m->stack[m->depth - 1];
    m->depth--;
    return nd_status_ok;
}

/* APPEND, APPENDS to a list; SETITEM, SETITEMS to a dict. */
static nd_status pickle_fill(nd_pickle_machine *m, unsigned char code, nd_pickle_argument argument) {
    (void)argument;
    const bool marked = code == 'e' || code == 'u';
    const nd_pickle_kind kind = code == 'e' || code == 'a' ? nd_pickle_list : nd_pickle_dict;
    size_t count = kind == nd_pickle_list ? 1 : 2;
    if (marked && !pickle_above_mark(m, &count)) return pickle_bad(m, "items without their mark");
    const size_t below = count + (marked ? 1 : 0);
    if (m->depth < below + 1) return pickle_bad(m, "too few values");
    nd_pickle *to = m->stack[m->depth - below - 1];
    if (to->kind != kind || (kind == nd_pickle_dict && count % 2))
        return pickle_bad(m, "items of the wrong kind");
    ND_TRY(pickle_append(m, to, m->stack + m->depth - count, count));
    m->depth -= below;
    return nd_status_ok;
}

/* --- globals and what would be called */

static nd_status pickle_push_global(nd_pickle_machine *m, const char *module, size_t module_length,
                                    const char *name, size_t name_length) {
    if (module_length > nd_pickle_name_max || name_length > nd_pickle_name_max)
        return pickle_bad(m, "a name too long");
    const char *text =
        nd_arena_printf(m->arena, "%.*s %.*s", (int)module_length, module, (int)name_length, name);
    ND_REQUIRE(text, nd_status_memory, "%s: pickle: no memory", m->name);
    bool allowed = !m->globals;
    for (size_t i = 0; !allowed && m->globals[i]; i++) allowed = !strcmp(m->globals[i], text);
    ND_REQUIRE(allowed, nd_status_unsupported,
               "%s: pickle: the global '%s' at byte %zu is none that weights need, and no code of a file is "
               "run: save the state_dict() of the network alone",
               m->name, text, m->at);
    return pickle_push(m, (nd_pickle){.kind = nd_pickle_global, .text = text, .length = strlen(text)});
}

/* GLOBAL: two lines follow. */
static nd_status pickle_global_lines(nd_pickle_machine *m, unsigned char code, nd_pickle_argument argument) {
    (void)code;
    (void)argument;
    const char *start = (const char *)m->data + m->at, *end = (const char *)m->data + m->bytes;
    const char *first = memchr(start, '\n', (size_t)(end - start));
    const char *second = first ? memchr(first + 1, '\n', (size_t)(end - first - 1)) : NULL;
    if (!second) return pickle_bad(m, "a name without its end");
    m->at += (size_t)(second + 1 - start);
    return pickle_push_global(m, start, (size_t)(first - start), first + 1, (size_t)(second - first - 1));
}

/* STACK_GLOBAL: the two names are on the stack. */
static nd_status pickle_global_stack(nd_pickle_machine *m, unsigned char code, nd_pickle_argument argument) {
    (void)code;
    (void)argument;
    if (m->depth < 2) return pickle_bad(m, "too few values");
    const nd_pickle *module = m->stack[m->depth - 2], *name = m->stack[m->depth - 1];
    if (module->kind != nd_pickle_text || name->kind != nd_pickle_text)
        return pickle_bad(m, "a name that is no text");
    m->depth -= 2;
    return pickle_push_global(m, module->text, module->length, name->text, name->length);
}

/* OrderedDict(), or OrderedDict([[key, value], ...]) as Python 2 wrote it. */
static nd_status pickle_ordered_dict(nd_pickle_machine *m, const nd_pickle *arguments) {
    nd_pickle dict = {.kind = nd_pickle_dict};
    const nd_pickle *pairs = arguments->length ? arguments->items[0] : NULL;
    if (arguments->length > 1 || (pairs && pairs->kind != nd_pickle_list))
        return pickle_bad(m, "an OrderedDict of something else than pairs");
    for (size_t i = 0; pairs && i < pairs->length; i++) {
        const nd_pickle *pair = pairs->items[i];
        if ((pair->kind != nd_pickle_list && pair->kind != nd_pickle_tuple) || pair->length != 2)
            return pickle_bad(m, "an OrderedDict of something else than pairs");
        ND_TRY(pickle_append(m, &dict, pair->items, 2));
    }
    m->depth -= 2;
    return pickle_push(m, dict);
}

static nd_status pickle_reduce(nd_pickle_machine *m, unsigned char code, nd_pickle_argument argument) {
    (void)code;
    (void)argument;
    if (m->depth < 2 || m->stack[m->depth - 2]->kind != nd_pickle_global ||
        m->stack[m->depth - 1]->kind != nd_pickle_tuple)
        return pickle_bad(m, "a call of no name");
    if (nd_pickle_is_text(m->stack[m->depth - 2], "collections OrderedDict"))
        return pickle_ordered_dict(m, m->stack[m->depth - 1]);
    return pickle_collect(m, nd_pickle_object, 2);
}

/* BINPERSID */
static nd_status pickle_persistent(nd_pickle_machine *m, unsigned char code, nd_pickle_argument argument) {
    (void)code;
    (void)argument;
    ND_TRY(pickle_collect(m, nd_pickle_persistent, 1));
    return pickle_append(m, &m->persistent, &m->stack[m->depth - 1], 1);
}

static nd_status pickle_build(nd_pickle_machine *m, unsigned char code, nd_pickle_argument argument) {
    (void)code;
    (void)argument;
    if (m->depth >= 2 && m->stack[m->depth - 2]->kind == nd_pickle_dict) { /* attributes of an OrderedDict */
        m->depth--;
        return nd_status_ok;
    }
    if (m->depth < 2 || m->stack[m->depth - 2]->kind != nd_pickle_object ||
        m->stack[m->depth - 2]->length != 2)
        return pickle_bad(m, "state of no object");
    ND_TRY(pickle_append(m, m->stack[m->depth - 2], &m->stack[m->depth - 1], 1));
    m->depth--;
    return nd_status_ok;
}

/* PUT in its forms; MEMOIZE counts by itself. */
static nd_status pickle_put(nd_pickle_machine *m, unsigned char code, nd_pickle_argument argument) {
    const uint64_t at = code == 0x94 ? m->n_memo : argument.number;
    if (!m->depth || at >= nd_pickle_memo_max) return pickle_bad(m, "a memo out of range");
    ND_REQUIRE(pickle_grow(&m->memo, &m->memo_capacity, (size_t)at + 1), nd_status_memory,
               "%s: pickle: no memory", m->name);
    m->memo[at] = m->stack[m->depth - 1];
    m->n_memo++;
    return nd_status_ok;
}

static nd_status pickle_recall(nd_pickle_machine *m, unsigned char code, nd_pickle_argument argument) {
    (void)code;
    if (argument.number >= m->memo_capacity || !m->memo[argument.number])
        return pickle_bad(m, "a memo that was never set");
    ND_TRY(pickle_push(m, (nd_pickle){.kind = nd_pickle_none}));
    m->stack[m->depth - 1] = m->memo[argument.number];
    return nd_status_ok;
}

/* `fixed` bytes of argument, or, where `counted`, that many bytes of length and then the argument. */
static const struct {
    unsigned char code;
    unsigned char fixed, counted;
    nd_pickle_run *run;
} nd_pickle_codes[] = {
    {0x80, 1, 0, pickle_protocol},    {0x95, 8, 0, pickle_skip},         {'.', 0, 0, pickle_stop},
    {'(', 0, 0, pickle_constant},     {'N', 0, 0, pickle_constant},      {0x88, 0, 0, pickle_constant},
    {0x89, 0, 0, pickle_constant},    {'K', 1, 0, pickle_integer},       {'M', 2, 0, pickle_integer},
    {'J', 4, 0, pickle_integer},      {0x8a, 0, 1, pickle_long},         {'U', 0, 1, pickle_string},
    {'T', 0, 4, pickle_string},       {'C', 0, 1, pickle_string},        {'B', 0, 4, pickle_string},
    {0x8e, 0, 8, pickle_string},      {0x8c, 0, 1, pickle_string},       {'X', 0, 4, pickle_string},
    {0x8d, 0, 8, pickle_string},      {']', 0, 0, pickle_empty},         {'}', 0, 0, pickle_empty},
    {')', 0, 0, pickle_empty},        {'t', 0, 0, pickle_tuples},        {0x85, 0, 0, pickle_tuples},
    {0x86, 0, 0, pickle_tuples},      {0x87, 0, 0, pickle_tuples},       {'a', 0, 0, pickle_fill},
    {'e', 0, 0, pickle_fill},         {'s', 0, 0, pickle_fill},          {'u', 0, 0, pickle_fill},
    {'c', 0, 0, pickle_global_lines}, {0x93, 0, 0, pickle_global_stack}, {'R', 0, 0, pickle_reduce},
    {'b', 0, 0, pickle_build},        {'q', 1, 0, pickle_put},           {'r', 4, 0, pickle_put},
    {0x94, 0, 0, pickle_put},         {'h', 1, 0, pickle_recall},        {'j', 4, 0, pickle_recall},
    {'G', 8, 0, pickle_real},         {'Q', 0, 0, pickle_persistent},
};

/* --- the machine */

static uint64_t pickle_number(const unsigned char *data, size_t length) {
    uint64_t value = 0;
    for (size_t i = 0; i < length && i < 8; i++) value |= (uint64_t)data[i] << (8 * i);
    return value;
}

/* The argument at the read position. Past the end of the file the rest counts as the argument and `cut` is
 * set. */
static nd_pickle_argument pickle_fetch(nd_pickle_machine *m, size_t fixed, size_t counted) {
    uint64_t length = fixed;
    if (m->bytes - m->at < counted) m->cut = true;
    if (counted && !m->cut) {
        length = pickle_number(m->data + m->at, counted);
        m->at += counted;
    }
    if (m->bytes - m->at < length) {
        m->cut = true;
        length = m->bytes - m->at;
    }
    const unsigned char *data = m->data + m->at;
    m->at += (size_t)length;
    return (nd_pickle_argument){data, (size_t)length, pickle_number(data, (size_t)length)};
}

static nd_status pickle_step(nd_pickle_machine *m) {
    const unsigned char code = m->data[m->at++];
    for (size_t i = 0; i < sizeof nd_pickle_codes / sizeof *nd_pickle_codes; i++) {
        if (nd_pickle_codes[i].code != code) continue;
        nd_pickle_argument argument = pickle_fetch(m, nd_pickle_codes[i].fixed, nd_pickle_codes[i].counted);
        /* Of a string that is cut short the part that is there counts; of anything else nothing does. */
        if (m->cut && nd_pickle_codes[i].run != pickle_string) return nd_status_ok;
        return nd_pickle_codes[i].run(m, code, argument);
    }
    return nd_fail(nd_status_unsupported, "%s: pickle: opcode 0x%02x at byte %zu is none that data needs",
                   m->name, code, m->at - 1);
}

/* Closes all that is open, as the missing end would have. */
static nd_status pickle_close(nd_pickle_machine *m) {
    size_t count;
    while (pickle_above_mark(m, &count)) {
        const size_t mark = m->depth - count - 1;
        const nd_pickle_kind below = mark ? m->stack[mark - 1]->kind : nd_pickle_none;
        nd_status status;
        if (below == nd_pickle_dict) {
            if (count % 2) m->depth--; /* a key without its value */
            status = pickle_fill(m, 'u', (nd_pickle_argument){0});
        } else if (below == nd_pickle_list) {
            status = pickle_fill(m, 'e', (nd_pickle_argument){0});
        } else {
            status = pickle_tuples(m, 't', (nd_pickle_argument){0});
            if (!status) status = pickle_build(m, 'b', (nd_pickle_argument){0});
        }
        ND_TRY(status);
    }
    return nd_status_ok;
}

static nd_status pickle_execute(nd_pickle_machine *m) {
    while (!m->done && !m->cut) {
        m->cut = m->at == m->bytes;
        if (!m->cut) ND_TRY(pickle_step(m));
    }
    if (m->cut && m->whole) return pickle_bad(m, "cut short");
    if (m->cut) ND_TRY(pickle_close(m));
    if (m->depth != 1) return pickle_bad(m, "no single value in the end");
    return nd_status_ok;
}

nd_status nd_pickle_parse(const nd_pickle_source *source, nd_arena *arena, nd_pickle_result *out) {
    nd_pickle_machine machine = {.data = source->data,
                                 .bytes = source->bytes,
                                 .name = source->name,
                                 .globals = source->globals,
                                 .whole = source->whole,
                                 .arena = arena};
    *out = (nd_pickle_result){0};
    nd_status status = pickle_execute(&machine);
    if (!status)
        *out = (nd_pickle_result){.value = machine.stack[0],
                                  .used = machine.at,
                                  .cut = machine.cut,
                                  .persistent = (const nd_pickle *const *)machine.persistent.items,
                                  .n_persistent = machine.persistent.length};
    free(machine.stack);
    free(machine.memo);
    return status;
}

bool nd_pickle_is_text(const nd_pickle *value, const char *text) {
    return value && (value->kind == nd_pickle_text || value->kind == nd_pickle_global) &&
           value->length == strlen(text) && !memcmp(value->text, text, value->length);
}

const nd_pickle *nd_pickle_get(const nd_pickle *dict, const char *key) {
    if (!dict || dict->kind != nd_pickle_dict) return NULL;
    for (size_t i = 0; i + 1 < dict->length; i += 2)
        if (nd_pickle_is_text(dict->items[i], key)) return dict->items[i + 1];
    return NULL;
}

const nd_pickle *nd_pickle_item(const nd_pickle *of, size_t index) {
    const bool row = of && (of->kind == nd_pickle_tuple || of->kind == nd_pickle_list);
    return row && index < of->length ? of->items[index] : NULL;
}

bool nd_pickle_item_size(const nd_pickle *of, size_t index, int64_t *out) {
    const nd_pickle *value = nd_pickle_item(of, index);
    if (!value || value->kind != nd_pickle_int || value->integer < 0) return false;
    *out = value->integer;
    return true;
}
