/* glyphs, the bundled set: sheets of 32 x 32 tiles, a column a class and a row a sample
 * (datasets/glyphs/make.py). */
#include "datasets/source.h"

#include "base/files/file.h"

#include <stdlib.h>
#include <string.h>

enum { nd_glyphs_side = 32, nd_glyphs_classes = 62 };

typedef struct nd_glyphs {
    nd_source source;
    nd_image sheet;
} nd_glyphs;

static int32_t glyphs_label(const nd_source *source, int64_t index) {
    (void)source;
    return (int32_t)(index % nd_glyphs_classes);
}

/* Row y of tile `index`. */
static const uint8_t *glyphs_row(const nd_source *source, int64_t index, int64_t y) {
    const nd_image *sheet = &((const nd_glyphs *)source)->sheet;
    const int64_t top = index / nd_glyphs_classes * nd_glyphs_side,
                  left = index % nd_glyphs_classes * nd_glyphs_side;
    return sheet->rgb + ((top + y) * sheet->width + left) * 3;
}

static nd_status glyphs_load(const nd_source *source, int64_t index, nd_image *out) {
    ND_TRY(nd_image_new(nd_glyphs_side, nd_glyphs_side, "glyphs", out));
    for (int64_t y = 0; y < nd_glyphs_side; y++)
        memcpy(out->rgb + y * nd_glyphs_side * 3, glyphs_row(source, index, y), nd_glyphs_side * 3);
    return nd_status_ok;
}

static void glyphs_identify(const nd_source *source, int64_t index, nd_sha256 *hash) {
    const uint8_t label = (uint8_t)glyphs_label(source, index);
    nd_sha256_add(hash, &label, 1);
    for (int64_t y = 0; y < nd_glyphs_side; y++)
        nd_sha256_add(hash, glyphs_row(source, index, y), nd_glyphs_side * 3);
}

static void glyphs_close(nd_source *source) {
    nd_glyphs *glyphs = (nd_glyphs *)source;
    nd_image_free(&glyphs->sheet);
    free(glyphs);
}

static nd_status glyphs_read(nd_glyphs *glyphs, nd_split split) {
    char path[4096];
    ND_TRY(
        nd_file_bundled(split == nd_split_calib ? "glyphs/calib.png" : "glyphs/test.png", path, sizeof path));
    ND_TRY(nd_image_read(path, &glyphs->sheet));
    ND_REQUIRE(glyphs->sheet.width == nd_glyphs_classes * nd_glyphs_side &&
                   glyphs->sheet.height % nd_glyphs_side == 0,
               nd_status_format, "%s: not a sheet of %d columns of tiles", path, nd_glyphs_classes);
    glyphs->source.count = glyphs->sheet.height / nd_glyphs_side * nd_glyphs_classes;
    return nd_status_ok;
}

nd_status nd_source_open_glyphs(const char *path, nd_split asked, nd_split otherwise, nd_source **out) {
    *out = NULL;
    ND_REQUIRE(!*path, nd_status_usage, "glyphs takes no path, but \"%s\" is given", path);
    nd_glyphs *glyphs = calloc(1, sizeof *glyphs);
    ND_REQUIRE(glyphs, nd_status_memory, "glyphs: no memory");
    glyphs->source = (nd_source){.height = nd_glyphs_side,
                                 .width = nd_glyphs_side,
                                 .preprocess = "glyphs",
                                 .label = glyphs_label,
                                 .load = glyphs_load,
                                 .identify = glyphs_identify,
                                 .close = glyphs_close};
    nd_status status = glyphs_read(glyphs, asked == nd_split_none ? otherwise : asked);
    if (status)
        glyphs_close(&glyphs->source);
    else
        *out = &glyphs->source;
    return status;
}
