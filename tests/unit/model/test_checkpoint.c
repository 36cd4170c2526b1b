/* Files of tests/fuzz/corpus/checkpoint, which Python's own pickle and zipfile wrote
 * (make_checkpoint_seeds.py beside it says what is in each). */
#include "base/log.h"
#include "model/model.h"
#include "model/zoo/zoo.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zip.h>

static nd_status read_seed(const char *name, nd_state_dict *out) {
    char path[512];
    snprintf(path, sizeof path, ND_SOURCE_DIR "/tests/fuzz/corpus/checkpoint/%s", name);
    return nd_state_dict_read(path, out);
}

static void expect_floats(const nd_tensor *tensor, int rank, const int64_t *dims, const float *values,
                          const char *what) {
    cr_assert(tensor, "%s", what);
    cr_assert(tensor->rank == rank && !memcmp(tensor->dims, dims, (size_t)rank * sizeof *dims), "%s", what);
    float got[64];
    nd_tensor_to_f32(tensor, got);
    for (int64_t i = 0; i < nd_tensor_count(tensor); i++)
        cr_expect_eq(got[i], values[i], "%s[%lld]: %g", what, (long long)i, (double)got[i]);
}

static const float counting[24] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11,
                                   12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23};

static void expect_every(const nd_state_dict *file, const char *prefix) {
    static const struct {
        const char *name;
        nd_dtype dtype;
        int rank;
        int64_t dims[4];
        float values[3];
    } small[] = {
        {"double", nd_dtype_f64, 1, {2}, {0.5f, -2}},
        {"half", nd_dtype_f16, 2, {1, 2}, {0.5f, -2}},
        {"bfloat16", nd_dtype_bf16, 2, {2, 1}, {0.5f, -2}},
        {"num_batches_tracked", nd_dtype_i64, 0, {0}, {77}},
        {"byte", nd_dtype_u8, 1, {3}, {1, 2, 3}},
        {"none", nd_dtype_f32, 2, {0, 7}, {0}},
    };
    char name[64];
    cr_assert_eq(file->n_entries, 7);
    snprintf(name, sizeof name, "%sweight", prefix);
    expect_floats(nd_state_dict_find(file, name), 4, (const int64_t[]){2, 1, 3, 3}, counting, name);
    for (size_t i = 0; i < sizeof small / sizeof *small; i++) {
        snprintf(name, sizeof name, "%s%s", prefix, small[i].name);
        const nd_tensor *tensor = nd_state_dict_find(file, name);
        expect_floats(tensor, small[i].rank, small[i].dims, small[i].values, name);
        cr_expect_eq(tensor->dtype, small[i].dtype, "%s", name);
        cr_expect_eq((uintptr_t)tensor->data % nd_dtype_bytes(tensor->dtype), 0, "%s is not aligned", name);
    }
}

Test(checkpoint, reads_every_type_in_both_layouts) {
    static const struct {
        const char *file, *prefix;
    } files[] = {{"every.pth", ""},        {"deflated.pth", ""},       {"protocol4.pth", ""},
                 {"every_legacy.pth", ""}, {"training.pt", "module."}, {"training_legacy.pt", "module."},
                 {"own_name.pt", ""},      {"latin1.pth", ""},         {"utf8.pth", ""}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        nd_state_dict file;
        cr_assert_eq(read_seed(files[i].file, &file), nd_status_ok, "%s", nd_error());
        expect_every(&file, files[i].prefix);
        nd_state_dict_free(&file);
    }
}

Test(checkpoint, follows_strides_offsets_and_shared_storages) {
    static const char *const files[] = {"views.pt", "views_legacy.pt", "attributes.pt"};
    for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
        nd_state_dict file;
        cr_assert_eq(read_seed(files[f], &file), nd_status_ok, "%s", nd_error());
        const nd_tensor *plain = nd_state_dict_find(&file, "plain"),
                        *tied = nd_state_dict_find(&file, "tied");
        expect_floats(plain, 2, (const int64_t[]){4, 6}, counting, "plain");
        cr_expect(tied && tied->data == plain->data, "the same numbers are held twice");
        float want[24];
        for (int i = 0; i < 6; i++)
            for (int j = 0; j < 4; j++) want[4 * i + j] = (float)(i + 6 * j);
        expect_floats(nd_state_dict_find(&file, "transposed"), 2, (const int64_t[]){6, 4}, want,
                      "transposed");
        for (int c = 0; c < 2; c++)
            for (int i = 0; i < 12; i++) want[12 * c + i] = (float)(c + 2 * i);
        expect_floats(nd_state_dict_find(&file, "channels_last"), 4, (const int64_t[]){1, 2, 3, 4}, want,
                      "channels_last");
        expect_floats(nd_state_dict_find(&file, "steps"), 2, (const int64_t[]){2, 3},
                      (const float[]){7, 9, 11, 13, 15, 17}, "steps");
        expect_floats(nd_state_dict_find(&file, "repeated"), 2, (const int64_t[]){3, 2},
                      (const float[]){4, 5, 4, 5, 4, 5}, "repeated");
        nd_state_dict_free(&file);
    }
}

Test(checkpoint, reads_what_old_versions_wrote) {
    nd_state_dict file;
    cr_assert_eq(read_seed("storage_views.pt", &file), nd_status_ok, "%s", nd_error());
    const float numbers[] = {1, 2, 3, 4};
    expect_floats(nd_state_dict_find(&file, "a"), 1, (const int64_t[]){2}, numbers, "a");
    expect_floats(nd_state_dict_find(&file, "b"), 1, (const int64_t[]){2}, numbers + 2, "b");
    expect_floats(nd_state_dict_find(&file, "c"), 2, (const int64_t[]){2, 2}, numbers, "c");
    nd_state_dict_free(&file);
    cr_assert_eq(read_seed("python2.th", &file), nd_status_ok, "%s", nd_error());
    expect_floats(nd_state_dict_find(&file, "w"), 2, (const int64_t[]){2, 2}, numbers, "w");
    nd_state_dict_free(&file);
}

/* Each ends with a message that names the file and what is wrong, the tensor where one is. */
Test(checkpoint, refuses_mistakes_and_worse) {
    static const struct {
        const char *file, *says, *also;
    } files[] = {
        {"no_tensors.bad", "no dict of tensors", "'epoch', 'lr'"},
        {"two_states.bad", "no dict of tensors", "'first', 'second'"},
        {"code.bad", "'posix system'", "no code"},
        {"network.bad", "'torchvision.models.resnet ResNet'", "state_dict()"},
        {"code_legacy.bad", "'posix system'", "no code"},
        {"complex.bad", "'torch ComplexFloatStorage'", ""},
        {"outside.bad", "tensor 'weight'", "outside the 4 numbers"},
        {"offset.bad", "tensor 'weight'", "outside the 4 numbers"},
        {"overflow.bad", "tensor 'weight'", "outside the 4 numbers"},
        {"negative.bad", "tensor 'weight'", "dimension 0"},
        {"huge.bad", "tensor 'weight'", "more elements than can be counted"},
        {"repeated.bad", "tensor 'weight'", "times as large"},
        {"deep.bad", "tensor 'weight'", "12 dimensions"},
        {"missing.bad", "tensor 'weight'", "not in the archive"},
        {"short.bad", "tensor 'weight'", "has 3 bytes, not 16"},
        {"script.bad", "TorchScript", "state_dict()"},
        {"big_endian.bad", "big-endian", ""},
        {"no_pickle.bad", "no PyTorch checkpoint", ""},
        {"cut_pickle.bad", "cut short", ""},
        {"bomb.bad", "tensor 'weight'", "times as large"},
        {"cut.bad", "zip archive", ""},
        {"checksum.bad", "tensor 'weight'", "CRC"},
        {"cut_legacy.bad", "storage '", "cut short"},
        {"cut_legacy_pickle.bad", "cut short", ""},
        {"pickle.bad", "no PyTorch checkpoint", ""},
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        nd_state_dict file;
        const nd_status status = read_seed(files[i].file, &file);
        cr_expect_eq(nd_status_exit_code(status), 3, "%s: %d", files[i].file, status);
        const char *texts[] = {files[i].file, files[i].says, files[i].also};
        for (size_t k = 0; k < 3; k++)
            cr_expect(strstr(nd_error(), texts[k]), "%s: '%s' is not in: %s", files[i].file, texts[k],
                      nd_error());
        cr_expect(!file.entries && !file.n_entries, "%s leaves something behind", files[i].file);
    }
}

/* 100 MB of zeros in 100 KB: refused by what the archive says, before it is unpacked. */
Test(checkpoint, stops_a_bomb_before_it_is_unpacked) {
    nd_buffer *zeros;
    static const char pickle[] =
        "\x80\x02}(X\x01\0\0\0wctorch._utils\n_rebuild_tensor\n((U\x07storagectorch\n"
        "FloatStorage\nU\x01"
        "0U\x03"
        "cpuJ\0\0\x90\x01tQK\0K\x04\x85K\x01\x85tRu.";
    char path[64];
    cr_assert_eq(nd_buffer_new(100 << 20, &zeros), nd_status_ok);
    snprintf(path, sizeof path, P_tmpdir "/nd_bomb_%d.pth", (int)getpid());
    int error;
    zip_t *archive = zip_open(path, ZIP_CREATE | ZIP_TRUNCATE, &error);
    cr_assert(archive);
    cr_assert(zip_file_add(archive, "b/data.pkl", zip_source_buffer(archive, pickle, sizeof pickle - 1, 0),
                           0) >= 0);
    cr_assert(
        zip_file_add(archive, "b/data/0", zip_source_buffer(archive, zeros->data, zeros->bytes, 0), 0) >= 0);
    cr_assert_eq(zip_close(archive), 0);
    nd_buffer_unref(zeros);
    nd_state_dict file;
    cr_expect_eq(nd_state_dict_read(path, &file), nd_status_unsupported);
    cr_expect(strstr(nd_error(), "tensor 'w'") && strstr(nd_error(), "times as large"), "%s", nd_error());
    unlink(path);
}

/* --- files that are something else */

static void expect_named(const char *name, const char *content, size_t bytes, const char *says) {
    char path[128], spec[160];
    snprintf(path, sizeof path, P_tmpdir "/nd_kind_%d_%s", (int)getpid(), name);
    FILE *file = fopen(path, "wb");
    cr_assert(file && fwrite(content, 1, bytes, file) == bytes && !fclose(file));
    nd_graph *graph;
    for (int zoo = 0; zoo < 2; zoo++) {
        snprintf(spec, sizeof spec, "%s%s", zoo ? "resnet20:" : "", path);
        cr_expect_eq(nd_status_exit_code(nd_model_open(spec, &graph)), 3, "%s", spec);
        cr_expect(strstr(nd_error(), says) && strstr(nd_error(), path), "%s: %s", spec, nd_error());
    }
    unlink(path);
}

Test(checkpoint, other_files_are_called_what_they_are) {
    static const char pointer[] = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
    static const char page[] = "\n<!DOCTYPE HTML>\n<html><body>404</body></html>";
    static const char *const endings[] = {"w.pth", "w.safetensors", "w.onnx"};
    for (size_t i = 0; i < 3; i++) {
        expect_named(endings[i], pointer, sizeof pointer - 1, "a Git LFS pointer");
        expect_named(endings[i], page, sizeof page - 1, "an HTML page");
        expect_named(endings[i], "", 0, "an empty file");
        expect_named(endings[i], "\x89HDF\r\n\x1a\n1234", 12, "an HDF5 file");
    }
}

Test(checkpoint, stands_where_another_format_was_expected) {
    static const struct {
        const char *from, *as, *says;
    } files[] = {{"every.pth", "model.onnx", "weights without their network"},
                 {"every.pth", "model.pth", "weights without their network"},
                 {"every_legacy.pth", "model.onnx", "a PyTorch checkpoint"}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char from[512], to[128];
        snprintf(from, sizeof from, ND_SOURCE_DIR "/tests/fuzz/corpus/checkpoint/%s", files[i].from);
        snprintf(to, sizeof to, P_tmpdir "/nd_stands_%d_%s", (int)getpid(), files[i].as);
        cr_assert_eq(symlink(from, to), 0);
        nd_graph *graph;
        cr_expect_eq(nd_model_open(to, &graph), nd_status_format);
        cr_expect(strstr(nd_error(), files[i].says), "%s", nd_error());
        unlink(to);
    }
    nd_graph *graph;
    cr_expect_eq(nd_model_open("resnet20:" ND_SOURCE_DIR "/datasets/glyphs/glyphs.onnx", &graph),
                 nd_status_format);
    cr_expect(strstr(nd_error(), "an ONNX model"), "%s", nd_error());
    /* What it is counts, not what it is called. */
    cr_expect_eq(nd_zoo_open("resnet20", ND_SOURCE_DIR "/tests/fuzz/corpus/checkpoint/every.pth", &graph),
                 nd_status_format);
    cr_expect(strstr(nd_error(), "does not fit resnet20: missing conv1.weight"), "%s", nd_error());
}
