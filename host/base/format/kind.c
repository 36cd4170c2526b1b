#include "base/format/kind.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

#define MAGIC(text) text, sizeof text - 1

/* In the order in which they are tried. */
static const struct {
    size_t at;
    const char *magic;
    size_t length;
    nd_file_kind kind;
    const char *text;
} nd_file_magics[] = {
    {0, MAGIC("version https://git-lfs.github.com/spec/"), nd_file_other,
     "a Git LFS pointer: the file it stands for was not fetched (git lfs pull)"},
    {0, MAGIC("PK\3\4"), nd_file_zip, "a zip archive, as PyTorch writes its checkpoints"},
    {0, MAGIC("PK\5\6"), nd_file_other, "an empty zip archive"},
    {0, MAGIC("\x80\2\x8a\nl\xfc\x9c\x46\xf9 j\xa8P\x19"), nd_file_pickle, "a PyTorch checkpoint"},
    {257, MAGIC("ustar"), nd_file_other, "a tar archive: unpack it"},
    {0, MAGIC("\x1f\x8b"), nd_file_other, "compressed by gzip: unpack it"},
    {0, MAGIC("BZh"), nd_file_other, "compressed by bzip2: unpack it"},
    {0, MAGIC("\xfd\x37zXZ\0"), nd_file_other, "compressed by xz: unpack it"},
    {0, MAGIC("\x28\xb5\x2f\xfd"), nd_file_other, "compressed by Zstandard: unpack it"},
    {0, MAGIC("7z\xbc\xaf\x27\x1c"), nd_file_other, "a 7-Zip archive: unpack it"},
    {0, MAGIC("Rar!\x1a\7"), nd_file_other, "a RAR archive: unpack it"},
    {0, MAGIC("\x89HDF\r\n\x1a\n"), nd_file_other, "an HDF5 file, as Keras writes its weights"},
    {0, MAGIC("\x93NUMPY"), nd_file_other, "a NumPy array"},
    {4, MAGIC("TFL3"), nd_file_other, "a TensorFlow Lite model: convert it to ONNX"},
    {0, MAGIC("GGUF"), nd_file_other, "a GGUF file"},
    {0, MAGIC("\x89PNG"), nd_file_other, "a PNG picture"},
    {0, MAGIC("\xff\xd8\xff"), nd_file_other, "a JPEG picture"},
    {0, MAGIC("%PDF-"), nd_file_other, "a PDF document"},
    {0, MAGIC("\x7f\x45LF"), nd_file_other, "a program or library"},
};

/* How text begins, after a byte-order mark and white space; case does not count. */
static const struct {
    const char *start, *text;
} nd_file_texts[] = {
    {"<!doctype html", "an HTML page: the download gave a web page in place of the file"},
    {"<html", "an HTML page: the download gave a web page in place of the file"},
    {"<head", "an HTML page: the download gave a web page in place of the file"},
    {"<?xml", "an XML document"},
    {"{", "JSON text"},
};

/* A ModelProto begins with its ir_version and goes on with the producer or what comes after it. */
static bool is_onnx(const unsigned char *data, size_t bytes) {
    static const char next[] = {0x12, 0x1a, 0x22, 0x28, 0x32, 0x3a, 0x42, 0x72};
    return bytes > 2 && data[0] == 0x08 && data[1] >= 1 && data[1] <= 32 &&
           memchr(next, data[2], sizeof next) != NULL;
}

static bool is_safetensors(const unsigned char *data, size_t bytes) {
    uint64_t length = 0;
    if (bytes < 10 || data[8] != '{') return false;
    for (int i = 8; i-- > 0;) length = length << 8 | data[i];
    return length >= 2 && length <= bytes - 8;
}

static const char *text_of(const unsigned char *data, size_t bytes) {
    size_t at = bytes >= 3 && !memcmp(data, "\xef\xbb\xbf", 3) ? 3 : 0;
    while (at < bytes && at < 64 && data[at] && strchr(" \t\r\n", data[at])) at++;
    for (size_t i = 0; i < sizeof nd_file_texts / sizeof *nd_file_texts; i++) {
        const size_t length = strlen(nd_file_texts[i].start);
        if (bytes - at >= length && !strncasecmp((const char *)data + at, nd_file_texts[i].start, length))
            return nd_file_texts[i].text;
    }
    return NULL;
}

static nd_file_kind say(nd_file_kind kind, const char *words, const char **text) {
    *text = words;
    return kind;
}

nd_file_kind nd_file_kind_of(const void *data, size_t bytes, const char **text) {
    const unsigned char *start = data;
    if (!bytes) return say(nd_file_other, "an empty file", text);
    if (is_onnx(start, bytes)) return say(nd_file_onnx, "an ONNX model", text);
    if (is_safetensors(start, bytes)) return say(nd_file_safetensors, "a safetensors file", text);
    for (size_t i = 0; i < sizeof nd_file_magics / sizeof *nd_file_magics; i++) {
        const size_t at = nd_file_magics[i].at, length = nd_file_magics[i].length;
        if (bytes >= at + length && !memcmp(start + at, nd_file_magics[i].magic, length))
            return say(nd_file_magics[i].kind, nd_file_magics[i].text, text);
    }
    if (bytes > 2 && start[0] == 0x80 && start[1] >= 2 && start[1] <= 5)
        return say(nd_file_pickle, "a Python pickle", text);
    const char *words = text_of(start, bytes);
    if (words) return say(nd_file_other, words, text);
    return say(nd_file_unknown, "of a format that nd does not know", text);
}
