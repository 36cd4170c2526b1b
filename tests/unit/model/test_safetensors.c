#include "model/model.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* A file image: header length, header, then `bytes` bytes of data counting up from 0. */
static nd_buffer *image(const char *header, size_t bytes) {
    const size_t length = strlen(header);
    nd_buffer *buffer;
    cr_assert_eq(nd_buffer_new(8 + length + bytes, &buffer), nd_status_ok);
    unsigned char *data = buffer->data;
    for (int i = 0; i < 8; i++) data[i] = (unsigned char)(length >> 8 * i);
    memcpy(data + 8, header, length);
    for (size_t i = 0; i < bytes; i++) data[8 + length + i] = (unsigned char)i;
    return buffer;
}

static nd_status parse(const char *header, size_t bytes, nd_state_dict *out) {
    nd_buffer *buffer = image(header, bytes);
    nd_status status = nd_safetensors_parse(buffer, "f.safetensors", out);
    nd_buffer_unref(buffer);
    return status;
}

Test(safetensors, reads_names_shapes_data_and_metadata) {
    nd_state_dict file;
    const char *header = "{\"__metadata__\":{\"format\":\"pt\"},"
                         "\"b\":{\"dtype\":\"U8\",\"shape\":[2,2],\"data_offsets\":[8,12]},"
                         "\"a\":{\"dtype\":\"I16\",\"shape\":[4],\"data_offsets\":[0,8]},"
                         "\"scalar\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[12,13]},"
                         "\"none\":{\"dtype\":\"F32\",\"shape\":[0,7],\"data_offsets\":[8,8]}}  ";
    cr_assert_eq(parse(header, 13, &file), nd_status_ok, "%s", nd_error());
    cr_expect_eq(file.n_entries, 4);
    cr_expect_str_eq(file.entries[0].name, "a");
    cr_expect_eq(file.n_meta, 1);
    cr_expect_str_eq(file.meta[0].key, "format");
    cr_expect_str_eq(file.meta[0].text, "pt");
    const nd_tensor *b = nd_state_dict_find(&file, "b"), *scalar = nd_state_dict_find(&file, "scalar");
    cr_expect(b && b->rank == 2 && b->dims[0] == 2 && ((uint8_t *)b->data)[3] == 11);
    cr_expect(scalar && scalar->rank == 0 && *(uint8_t *)scalar->data == 12);
    cr_expect_eq(nd_tensor_count(nd_state_dict_find(&file, "none")), 0);
    cr_expect_null(nd_state_dict_find(&file, "c"));
    nd_state_dict_free(&file);
}

Test(safetensors, copies_what_the_file_does_not_align) {
    nd_state_dict file;
    for (int pad = 0; pad < 8; pad++) {
        char header[128];
        snprintf(header, sizeof header,
                 "{\"a\":{\"dtype\":\"F64\",\"shape\":[3],\"data_offsets\":[0,24]}}%*s", pad, "");
        cr_assert_eq(parse(header, 24, &file), nd_status_ok, "%s", nd_error());
        const nd_tensor *a = nd_state_dict_find(&file, "a");
        cr_expect_eq((uintptr_t)a->data % sizeof(double), 0);
        cr_expect_eq(((unsigned char *)a->data)[23], 23);
        nd_state_dict_free(&file);
    }
}

#define A(rest)      "{\"a\":{" rest "}}"
#define F32(offsets) A("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":" offsets)

Test(safetensors, refuses_what_breaks_the_format) {
    static const struct {
        const char *header;
        size_t bytes;
        nd_status status;
        const char *says;
    } cases[] = {
        {"", 0, nd_status_format, "header"},
        {"[]", 0, nd_status_format, "'{'"},
        {" {}", 0, nd_status_format, "'{'"},
        {"{\"a\":", 0, nd_status_format, "header: byte"},
        {"{}x", 0, nd_status_format, "header: byte"},
        {"{\"a\":1,\"a\":2}", 0, nd_status_format, "duplicate"},
        {"{\"a\":1}", 0, nd_status_format, "'a': not an object"},
        {"{\"\\u0000\":1}", 0, nd_status_format, "header: byte"},
        {"{\"__metadata__\":{\"k\":1}}", 0, nd_status_format, "__metadata__: 'k'"},
        {"{\"__metadata__\":[]}", 0, nd_status_format, "__metadata__"},
        {"{}", 1, nd_status_format, "belong to no tensor"},
        {A("\"shape\":[1],\"data_offsets\":[0,4]"), 4, nd_status_format, "dtype"},
        {A("\"dtype\":\"F32\",\"data_offsets\":[0,4]"), 4, nd_status_format, "shape"},
        {A("\"dtype\":\"F32\",\"shape\":[1]"), 4, nd_status_format, "data_offsets"},
        {A("\"dtype\":\"F8_E5M2\",\"shape\":[1],\"data_offsets\":[0,1]"), 1, nd_status_unsupported,
         "F8_E5M2"},
        {A("\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]"), 4, nd_status_format, "shape"},
        {A("\"dtype\":\"F32\",\"shape\":[1.0],\"data_offsets\":[0,4]"), 4, nd_status_format, "shape"},
        {A("\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,4]"), 4, nd_status_format,
         "shape"},
        {A("\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]"), 1, nd_status_unsupported,
         "9 dimensions"},
        {A("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]"), 4, nd_status_format, "make 8"},
        {F32("[0,4,8]"), 4, nd_status_format, "data_offsets"},
        {F32("[4,0]"), 4, nd_status_format, "no range"},
        {F32("[-4,0]"), 4, nd_status_format, "no range"},
        {F32("[0,9223372036854775807]"), 4, nd_status_format, "outside"},
        {F32("[0,18446744073709551616]"), 4, nd_status_format, "header: byte"},
        {F32("[4,8]"), 4, nd_status_format, "outside"},
        {F32("[4,8]"), 8, nd_status_format, "hole"},
        {F32("[0,4]"), 5, nd_status_format, "1 bytes of data"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[3,6]}}",
         6, nd_status_format, "'b': data_offsets: starts at 3, inside"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[2,3]}}",
         3, nd_status_format, "'b': data_offsets: starts at 2, leaving a hole"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        nd_state_dict file;
        const nd_status status = parse(cases[i].header, cases[i].bytes, &file);
        cr_expect_eq(status, cases[i].status, "%s: %d", cases[i].header, status);
        cr_expect(strstr(nd_error(), "f.safetensors") && strstr(nd_error(), cases[i].says), "%s: says %s",
                  cases[i].header, nd_error());
        cr_expect_eq(file.n_entries, 0);
    }
}

Test(safetensors, refuses_a_bad_length) {
    nd_state_dict file;
    nd_buffer *buffer;
    cr_assert_eq(nd_buffer_new(16, &buffer), nd_status_ok);
    unsigned char *data = buffer->data;
    data[0] = 9; /* one byte past the end */
    cr_expect_eq(nd_safetensors_parse(buffer, "f", &file), nd_status_format);
    memset(data, 0xff, 8);
    cr_expect_eq(nd_safetensors_parse(buffer, "f", &file), nd_status_format);
    cr_expect(strstr(nd_error(), "header length"));
    buffer->bytes = 7;
    cr_expect_eq(nd_safetensors_parse(buffer, "f", &file), nd_status_format);
    nd_buffer_unref(buffer);
}

/* --- writing */

static nd_graph *sample(void) {
    nd_graph *graph;
    cr_assert_eq(nd_graph_new("sample", &graph), nd_status_ok);
    static const nd_dtype dtypes[] = {nd_dtype_u8, nd_dtype_f32, nd_dtype_i64, nd_dtype_bf16, nd_dtype_bool};
    static const char *const names[] = {"odd", "layer.weight", "indices", "half", "quoted \"\xc3\xa9\""};
    for (size_t i = 0; i < 5; i++) {
        nd_tensor tensor;
        const int64_t dims[] = {3, (int64_t)i + 1};
        cr_assert_eq(nd_tensor_new(dtypes[i], 2, dims, &tensor), nd_status_ok);
        memset(tensor.data, (int)i + 1, nd_tensor_bytes(&tensor));
        int value;
        cr_assert_eq(nd_graph_add_init(graph, names[i], &tensor, &value), nd_status_ok);
        nd_tensor_free(&tensor);
    }
    nd_graph_set_meta(graph, "nd.method", "dwpw");
    return graph;
}

Test(safetensors, writes_what_it_reads) {
    nd_graph *graph = sample();
    char path[64];
    snprintf(path, sizeof path, P_tmpdir "/nd_st_%d.safetensors", (int)getpid());
    cr_assert_eq(nd_safetensors_write(graph, path), nd_status_ok, "%s", nd_error());
    nd_state_dict file;
    cr_assert_eq(nd_state_dict_read(path, &file), nd_status_ok, "%s", nd_error());
    cr_expect_eq(file.n_entries, 5);
    cr_expect(file.n_meta == 1 && !strcmp(file.meta[0].text, "dwpw"));
    for (int i = 0; i < graph->n_values; i++) {
        const nd_tensor *wrote = graph->values[i].init;
        const nd_tensor *read = nd_state_dict_find(&file, graph->values[i].name);
        cr_assert(read, "%s", graph->values[i].name);
        cr_expect_eq(read->dtype, wrote->dtype);
        cr_expect_eq(read->rank, wrote->rank);
        cr_expect_arr_eq(read->dims, wrote->dims, (size_t)wrote->rank * sizeof *wrote->dims);
        cr_expect_arr_eq(read->data, wrote->data, nd_tensor_bytes(wrote));
    }
    /* Written so that reading never has to copy. */
    cr_expect_eq(file.entries[0].tensor.buffer, file.entries[1].tensor.buffer);
    nd_state_dict_free(&file);
    nd_graph_free(graph);
    unlink(path);
}

Test(safetensors, refuses_to_write_names_it_could_not_read) {
    static const char *const names[] = {"__metadata__", "\xff"};
    for (size_t i = 0; i < 2; i++) {
        nd_graph *graph = sample();
        nd_tensor tensor;
        int value;
        cr_assert_eq(nd_tensor_new(nd_dtype_f32, 0, NULL, &tensor), nd_status_ok);
        cr_assert_eq(nd_graph_add_init(graph, names[i], &tensor, &value), nd_status_ok);
        nd_tensor_free(&tensor);
        char path[64];
        snprintf(path, sizeof path, P_tmpdir "/nd_st_bad_%d.safetensors", (int)getpid());
        cr_expect_eq(nd_safetensors_write(graph, path), nd_status_unsupported, "%s", names[i]);
        cr_expect_eq(access(path, F_OK), -1, "a refused write leaves no file");
        nd_graph_free(graph);
    }
}
