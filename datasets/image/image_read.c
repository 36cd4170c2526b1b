#include "datasets/image/image.h"

#include "base/files/file.h"

#include <string.h>

static const struct {
    const char *signature;
    size_t length;
    nd_status (*decode)(const uint8_t *data, size_t bytes, const char *name, nd_image *out);
} nd_image_formats[] = {
    {"\x89PNG\r\n\x1a\n", 8, nd_image_decode_png},
    {"\xff\xd8\xff", 3, nd_image_decode_jpeg},
};

nd_status nd_image_decode(const void *data, size_t bytes, const char *name, nd_image *out) {
    *out = (nd_image){0};
    for (size_t i = 0; i < sizeof nd_image_formats / sizeof *nd_image_formats; i++) {
        const size_t length = nd_image_formats[i].length;
        if (bytes < length || memcmp(data, nd_image_formats[i].signature, length) != 0) continue;
        nd_status status = nd_image_formats[i].decode(data, bytes, name, out);
        if (status) nd_image_free(out);
        return status;
    }
    return nd_fail(nd_status_format, "%s: neither PNG nor JPEG", name);
}

nd_status nd_image_read(const char *path, nd_image *out) {
    *out = (nd_image){0};
    nd_buffer *file;
    ND_TRY(nd_file_map(path, &file));
    nd_status status = nd_image_decode(file->data, file->bytes, path, out);
    nd_buffer_unref(file);
    return status;
}
