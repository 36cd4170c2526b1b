#include "eval/paper.h"

#include "base/files/file.h"
#include "base/text/text.h"

#include <stdio.h>
#include <string.h>

const nd_paper_title nd_paper_titles[] = {
    {"paper-table1", "table 1: VGG16 on ImageNet where each method loses 1.0 point of top-5"},
    {"paper-readme", "the same, as the README of the development repository gives it"},
    {"paper-abstract", "what the abstract claims of VGG16"},
    {"paper-issue2", "what a user counted with the authors' code"},
    {"vgg16-uniform", "VGG16 at uniform ranks, from the paper's cost model"},
    {"vgg16-layers", "VGG16 layer by layer, dense and at one term"},
    {"resnet18-uniform", "ResNet-18 at uniform ranks, in both forms"},
    {"paper-ssd300", "SSD300 on VOC2007: what two abstracts claim, and its MACs at uniform ranks"},
    {NULL, NULL},
};

/* The columns, in the order of the header line that every file must have. */
enum {
    nd_column_table,
    nd_column_row,
    nd_column_model,
    nd_column_method,
    nd_column_rank,
    nd_column_layers,
    nd_column_dense,
    nd_column_extra_macs,
    nd_column_quantity,
    nd_column_value,
    nd_column_unit,
    nd_column_kind,
    nd_column_needs,
    nd_column_source,
    nd_column_count,
};
static const char nd_paper_header[] =
    "table,row,model,method,rank,layers,dense,extra_macs,quantity,value,unit,kind,needs,source";

/* A rank T, or below 1 an energy threshold. */
static nd_status paper_rank(const char *text, nd_paper_value *value) {
    double number = 0;
    ND_REQUIRE(!*text || (nd_text_real(text, &number) && number >= 0 && number <= 65536), nd_status_format,
               "rank: '%s' is no rank", text);
    value->rank = (int64_t)number;
    if (number < 1) value->energy = number;
    return nd_status_ok;
}

/* "features.19=4 features.21=4", or the one layer that layer_macs is about, which takes the row's rank. */
static nd_status paper_layers(nd_arena *arena, const char *text, nd_paper_value *value) {
    char **words;
    size_t count;
    value->layer = "";
    if (!*text) return nd_status_ok;
    ND_TRY(nd_text_split(arena, text, ' ', &words, &count));
    value->layers = nd_arena_alloc(arena, count * sizeof *value->layers);
    ND_REQUIRE(value->layers, nd_status_memory, "no memory for layer rules");
    for (size_t i = 0; i < count; i++) {
        char *equals = strchr(words[i], '=');
        if (!equals) {
            value->layer = words[i];
            continue;
        }
        *equals = '\0';
        value->layers[value->n_layers++] = (nd_layer_rule){words[i], equals + 1};
    }
    return nd_status_ok;
}

/* "first features.24": the first convolution, then patterns. */
static nd_status paper_dense(nd_arena *arena, const char *text, nd_paper_value *value) {
    char **words;
    size_t count;
    value->first_conv = true;
    ND_TRY(nd_text_split(arena, text, ' ', &words, &count));
    value->skip = (const char **)words;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(words[i], "first") == 0)
            value->first_conv = false;
        else if (*words[i])
            value->skip[value->n_skip++] = words[i];
    }
    return nd_status_ok;
}

static nd_status paper_line(nd_arena *arena, const char *line, nd_paper_value *value) {
    char **cell;
    size_t count;
    ND_TRY(nd_text_split(arena, line, ',', &cell, &count));
    ND_REQUIRE(count == nd_column_count, nd_status_format, "%zu columns, not %d", count, nd_column_count);
    *value = (nd_paper_value){
        .row = cell[nd_column_row],
        .model = cell[nd_column_model],
        .method = cell[nd_column_method],
        .quantity = cell[nd_column_quantity],
        .unit = cell[nd_column_unit],
        .kind = cell[nd_column_kind],
        .needs = cell[nd_column_needs],
        .source = cell[nd_column_source],
    };
    ND_REQUIRE(nd_text_real(cell[nd_column_value], &value->value), nd_status_format,
               "value: '%s' is no number", cell[nd_column_value]);
    const char *point = strchr(cell[nd_column_value], '.');
    value->digits = point ? (int)strlen(point + 1) : 0;
    ND_TRY(paper_rank(cell[nd_column_rank], value));
    ND_REQUIRE(!*cell[nd_column_extra_macs] || nd_text_int(cell[nd_column_extra_macs], &value->extra_macs),
               nd_status_format, "extra_macs: '%s' is no number", cell[nd_column_extra_macs]);
    ND_TRY(paper_layers(arena, cell[nd_column_layers], value));
    return paper_dense(arena, cell[nd_column_dense], value);
}

nd_status nd_paper_parse(const char *text, size_t length, const char *path, nd_paper_table *out) {
    *out = (nd_paper_table){0};
    nd_status status;
    char **lines;
    size_t count;
    char *copy = nd_arena_strndup(&out->arena, text, length);
    ND_REQUIRE_DONE(copy, nd_status_memory, "%s: no memory", path);
    ND_TRY_DONE(nd_text_split(&out->arena, copy, '\n', &lines, &count));
    ND_REQUIRE_DONE(strcmp(lines[0], nd_paper_header) == 0, nd_status_format, "%s:1: expected the header %s",
                    path, nd_paper_header);
    out->values = nd_arena_alloc(&out->arena, count * sizeof *out->values);
    ND_REQUIRE_DONE(out->values, nd_status_memory, "%s: no memory", path);
    for (size_t i = 1; i < count; i++) {
        if (!*lines[i]) continue;
        status = paper_line(&out->arena, lines[i], &out->values[out->n_values++]);
        if (status) {
            nd_fail_in(status, "%s:%zu", path, i + 1);
            goto done;
        }
    }
done:
    if (status) nd_paper_free(out);
    return status;
}

nd_status nd_paper_read(const char *name, nd_paper_table *out) {
    *out = (nd_paper_table){0};
    const nd_paper_title *title = nd_paper_titles;
    while (title->name && strcmp(title->name, name)) title++;
    ND_REQUIRE(title->name, nd_status_usage, "no published table '%.60s'; `nd reproduce` lists them", name);
    char below[128], path[4096];
    snprintf(below, sizeof below, "paper/%s.csv", name);
    ND_TRY(nd_file_bundled(below, path, sizeof path));
    nd_buffer *bytes;
    ND_TRY(nd_file_map(path, &bytes));
    nd_status status = nd_paper_parse(bytes->data, bytes->bytes, path, out);
    nd_buffer_unref(bytes);
    return status;
}

void nd_paper_free(nd_paper_table *table) {
    nd_arena_free(&table->arena);
    *table = (nd_paper_table){0};
}
