#include "datasets/image/preprocess.h"

#include "base/text/text.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define IMAGENET_STATISTICS "scale=1/255,mean=0.485:0.456:0.406,std=0.229:0.224:0.225"

const nd_preprocess_recipe nd_preprocess_recipes[] = {
    {"torchvision-224", "resize=256,crop=224,centre=even," IMAGENET_STATISTICS,
     "torchvision's classifiers (weights V1)"},
    {"torchvision-224-bicubic", "resize=256,crop=224,centre=even,interp=bicubic," IMAGENET_STATISTICS,
     "timm's defaults at crop 0.875"},
    {"torchvision-224-half", "resize=256,crop=224,centre=even,scale=1/255,mean=0.5,std=0.5",
     "torchvision's GoogLeNet (transform_input)"},
    {"torchvision-232", "resize=232,crop=224,centre=even," IMAGENET_STATISTICS,
     "torchvision's classifiers (weights V2)"},
    {"caffe-224", "resize=256,crop=224,order=bgr,mean=104:117:123", "Caffe's VGG and ResNet"},
    {"caffe-227", "resize=256,crop=227,order=bgr,mean=104:117:123", "Caffe's AlexNet and SqueezeNet"},
    {"cifar10", IMAGENET_STATISTICS, "CIFAR ResNets trained with ImageNet's statistics"},
    {"letterbox-640", "fit=640,pad=114,scale=1/255", "YOLOv5 and v8, in the middle of a grey border"},
    {"letterbox-416", "fit=416,pad=128,scale=1/255", "Darknet's YOLOv3"},
    {"yolox-640", "fit=640,pad=114,place=corner,order=bgr", "YOLOX, left above"},
    {"fit-320", "fit=320,place=corner,scale=1/255", "nudenet, left above on black"},
    {"ssd-300", "resize=300x300,order=bgr,mean=104:117:123", "Caffe's SSD300, stretched (warp)"},
    {"torchvision-ssd-300", "resize=300x300,scale=1/255,mean=0.48235:0.45882:0.40784,std=0.00392156862745098",
     "torchvision's ssd300_vgg16, stretched (warp)"},
    {"glyphs", "scale=1/255,mean=0.5,std=0.25", "the bundled network"},
    {0},
};

static const char *const nd_order_names[nd_order_count] = {"rgb", "bgr", "grey"};

enum { nd_preprocess_side_max = 1 << 15 };

/* "256" (both the same) or "HxW". */
static bool preprocess_read_size(const char *text, int64_t *height, int64_t *width) {
    char first[24];
    const char *cross = strchr(text, 'x');
    const size_t length = cross ? (size_t)(cross - text) : strlen(text);
    if (length >= sizeof first) return false;
    memcpy(first, text, length);
    first[length] = '\0';
    return nd_text_int(first, height) && nd_text_int(cross ? cross + 1 : first, width) && *height > 0 &&
           *width > 0 && *height <= nd_preprocess_side_max && *width <= nd_preprocess_side_max;
}

static bool preprocess_read_resize(const char *text, nd_preprocess *out) {
    out->resize_short = out->resize_height = out->resize_width = 0;
    if (!strcmp(text, "none")) return true;
    int64_t height, width;
    if (!preprocess_read_size(text, &height, &width)) return false;
    const bool exact = strchr(text, 'x') != NULL;
    out->resize_short = exact ? 0 : height;
    out->resize_height = exact ? height : 0;
    out->resize_width = exact ? width : 0;
    return true;
}

static bool preprocess_read_crop(const char *text, nd_preprocess *out) {
    out->crop_height = out->crop_width = 0;
    return !strcmp(text, "none") || preprocess_read_size(text, &out->crop_height, &out->crop_width);
}

static bool preprocess_read_fit(const char *text, nd_preprocess *out) {
    out->fit_height = out->fit_width = 0;
    return !strcmp(text, "none") || preprocess_read_size(text, &out->fit_height, &out->fit_width);
}

static bool preprocess_read_pad(const char *text, nd_preprocess *out) {
    int64_t pad;
    if (!nd_text_int(text, &pad) || pad < 0 || pad > 255) return false;
    out->pad = (int)pad;
    return true;
}

static bool preprocess_read_place(const char *text, nd_preprocess *out) {
    out->corner = !strcmp(text, "corner");
    return out->corner || !strcmp(text, "centre");
}

static bool preprocess_read_centre(const char *text, nd_preprocess *out) {
    out->centre_even = !strcmp(text, "even");
    return out->centre_even || !strcmp(text, "floor");
}

static bool preprocess_read_order(const char *text, nd_preprocess *out) {
    for (int i = 0; i < nd_order_count; i++) {
        if (strcmp(nd_order_names[i], text) != 0) continue;
        out->order = (nd_order)i;
        return true;
    }
    return false;
}

static bool preprocess_read_filter(const char *text, nd_preprocess *out) {
    return nd_filter_find(text, &out->filter);
}

/* A number or a fraction of two. */
static bool preprocess_read_number(const char *text, double *out) {
    char above[32];
    const char *slash = strchr(text, '/');
    const size_t length = slash ? (size_t)(slash - text) : strlen(text);
    if (length >= sizeof above) return false;
    memcpy(above, text, length);
    above[length] = '\0';
    double below = 1;
    if (!nd_text_real(above, out) || (slash && !nd_text_real(slash + 1, &below)) || below == 0) return false;
    *out /= below;
    return isfinite(*out);
}

static bool preprocess_read_scale(const char *text, nd_preprocess *out) {
    return preprocess_read_number(text, &out->scale) && out->scale != 0;
}

/* One number for all channels, or three. */
static bool preprocess_read_triple(const char *text, double out[3]) {
    for (int c = 0; c < 3; c++) {
        char part[64];
        const size_t length = strcspn(text, ":");
        if (length >= sizeof part) return false;
        memcpy(part, text, length);
        part[length] = '\0';
        if (!preprocess_read_number(part, &out[c])) return false;
        text += length;
        if (c == 0 && !*text) {
            out[1] = out[2] = out[0];
            return true;
        }
        if (c < 2 && *text++ != ':') return false;
    }
    return !*text;
}

static bool preprocess_read_mean(const char *text, nd_preprocess *out) {
    return preprocess_read_triple(text, out->mean);
}

static bool preprocess_read_std(const char *text, nd_preprocess *out) {
    return preprocess_read_triple(text, out->std) && out->std[0] != 0 && out->std[1] != 0 && out->std[2] != 0;
}

static const struct {
    const char *key;
    bool (*read)(const char *text, nd_preprocess *out);
    const char *expected;
} nd_preprocess_keys[] = {
    {"resize", preprocess_read_resize, "a side in pixels, HxW or none"},
    {"crop", preprocess_read_crop, "a side in pixels, HxW or none"},
    {"fit", preprocess_read_fit, "a side in pixels, HxW or none"},
    {"pad", preprocess_read_pad, "a whole number from 0 to 255"},
    {"place", preprocess_read_place, "centre or corner"},
    {"centre", preprocess_read_centre, "floor or even"},
    {"order", preprocess_read_order, "rgb, bgr or grey"},
    {"scale", preprocess_read_scale, "a number other than 0, or a fraction such as 1/255"},
    {"mean", preprocess_read_mean, "a number, or three as A:B:C"},
    {"std", preprocess_read_std, "a number other than 0, or three as A:B:C"},
    {"interp", preprocess_read_filter, "bilinear or bicubic"},
};
enum { nd_preprocess_key_count = sizeof nd_preprocess_keys / sizeof *nd_preprocess_keys };

static nd_status preprocess_set(const char *text, nd_preprocess *out, bool seen[nd_preprocess_key_count]) {
    const char *equals = strchr(text, '=');
    const size_t length = equals ? (size_t)(equals - text) : 0;
    for (int i = 0; equals && i < nd_preprocess_key_count; i++) {
        if (strlen(nd_preprocess_keys[i].key) != length ||
            memcmp(nd_preprocess_keys[i].key, text, length) != 0)
            continue;
        ND_REQUIRE(!seen[i], nd_status_usage, "preprocess: %s stands twice", nd_preprocess_keys[i].key);
        seen[i] = true;
        ND_REQUIRE(nd_preprocess_keys[i].read(equals + 1, out), nd_status_usage,
                   "preprocess: %s: expected %s", text, nd_preprocess_keys[i].expected);
        return nd_status_ok;
    }
    return nd_fail(nd_status_usage,
                   "preprocess: \"%s\" is neither a recipe nor one of resize=, crop=, fit=, pad=, place=, "
                   "centre=, order=, scale=, mean=, std=, interp=",
                   text);
}

static const char *preprocess_find(const char *name) {
    for (const nd_preprocess_recipe *recipe = nd_preprocess_recipes; recipe->name; recipe++)
        if (!strcmp(recipe->name, name)) return recipe->settings;
    return NULL;
}

static nd_status preprocess_apply(const char *text, nd_preprocess *out) {
    nd_arena arena = {0};
    bool seen[nd_preprocess_key_count] = {0};
    char **parts;
    size_t count;
    nd_status status = nd_text_split(&arena, text, ',', &parts, &count);
    for (size_t i = 0; !status && i < count; i++) {
        const char *recipe = i == 0 ? preprocess_find(parts[0]) : NULL;
        status = recipe ? preprocess_apply(recipe, out) : preprocess_set(parts[i], out, seen);
    }
    nd_arena_free(&arena);
    return status;
}

nd_status nd_preprocess_parse(const char *text, nd_preprocess *out) {
    *out = (nd_preprocess){.scale = 1, .std = {1, 1, 1}};
    if (*text) ND_TRY(preprocess_apply(text, out));
    ND_REQUIRE(!out->fit_height || (!out->resize_short && !out->resize_height && !out->crop_height),
               nd_status_usage, "preprocess: fit with resize or crop; one of them says how large");
    return nd_status_ok;
}

typedef struct nd_preprocess_text {
    char *text;
    size_t size, used;
} nd_preprocess_text;

static void __attribute__((format(printf, 2, 3)))
nd_preprocess_add(nd_preprocess_text *out, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    const int length = vsnprintf(out->text + out->used, out->size - out->used, format, arguments);
    va_end(arguments);
    out->used += length > 0 ? (size_t)length : 0;
    if (out->used >= out->size) out->used = out->size - 1;
}

static void preprocess_add_triple(nd_preprocess_text *out, const char *key, const double value[3],
                                  double nothing) {
    if (value[0] == nothing && value[1] == nothing && value[2] == nothing) return;
    if (value[0] == value[1] && value[1] == value[2])
        nd_preprocess_add(out, ",%s=%.9g", key, value[0]);
    else
        nd_preprocess_add(out, ",%s=%.9g:%.9g:%.9g", key, value[0], value[1], value[2]);
}

const char *nd_preprocess_format(const nd_preprocess *self, char *text, size_t size) {
    nd_preprocess_text out = {text, size, 0};
    if (self->fit_height)
        nd_preprocess_add(&out, "fit=%lldx%lld,pad=%d,place=%s", (long long)self->fit_height,
                          (long long)self->fit_width, self->pad, self->corner ? "corner" : "centre");
    else if (self->resize_short)
        nd_preprocess_add(&out, "resize=%lld", (long long)self->resize_short);
    else if (self->resize_height)
        nd_preprocess_add(&out, "resize=%lldx%lld", (long long)self->resize_height,
                          (long long)self->resize_width);
    else
        nd_preprocess_add(&out, "resize=none");
    if (self->crop_height && self->crop_height == self->crop_width)
        nd_preprocess_add(&out, ",crop=%lld", (long long)self->crop_height);
    else if (self->crop_height)
        nd_preprocess_add(&out, ",crop=%lldx%lld", (long long)self->crop_height, (long long)self->crop_width);
    if (self->crop_height && self->centre_even) nd_preprocess_add(&out, ",centre=even");
    nd_preprocess_add(&out, ",order=%s", nd_order_names[self->order]);
    const double inverse = 1 / self->scale;
    if (fabs(inverse) > 1 && fabs(inverse - round(inverse)) < 1e-9)
        nd_preprocess_add(&out, ",scale=1/%.0f", inverse);
    else if (self->scale != 1)
        nd_preprocess_add(&out, ",scale=%.9g", self->scale);
    preprocess_add_triple(&out, "mean", self->mean, 0);
    preprocess_add_triple(&out, "std", self->std, 1);
    if (!self->fit_height && self->crop_height && self->pad) nd_preprocess_add(&out, ",pad=%d", self->pad);
    if (self->resize_short || self->resize_height || self->fit_height)
        nd_preprocess_add(&out, ",interp=%s", nd_filter_name(self->filter));
    return text;
}

int64_t nd_preprocess_channels(const nd_preprocess *self) {
    return self->order == nd_order_grey ? 1 : 3;
}

/* To the nearest pixel, at least one. */
static int64_t preprocess_scaled(int64_t side, double scale) {
    const int64_t scaled = llround((double)side * scale);
    return scaled > 0 ? scaled : 1;
}

/* What a picture of the given size becomes before the crop; the longer side is cut to whole pixels. */
static void preprocess_resized(const nd_preprocess *self, int64_t *height, int64_t *width) {
    if (self->fit_height) {
        const double scale =
            fmin((double)self->fit_height / (double)*height, (double)self->fit_width / (double)*width);
        *height = preprocess_scaled(*height, scale);
        *width = preprocess_scaled(*width, scale);
    } else if (self->resize_height) {
        *height = self->resize_height;
        *width = self->resize_width;
    } else if (self->resize_short) {
        const bool tall = *height > *width;
        const int64_t side = self->resize_short;
        const int64_t longer = tall ? side * *height / *width : side * *width / *height;
        *height = tall ? longer : side;
        *width = tall ? side : longer;
    }
}

#define ND_SIZE_RULES "Give crop=N, fit=N or resize=HxW"

nd_status nd_preprocess_size(const nd_preprocess *self, int64_t set_height, int64_t set_width,
                             int64_t *height, int64_t *width) {
    *height = set_height;
    *width = set_width;
    if (self->crop_height || self->fit_height) {
        *height = self->fit_height ? self->fit_height : self->crop_height;
        *width = self->fit_height ? self->fit_width : self->crop_width;
        return nd_status_ok;
    }
    if (self->resize_height || (*height && *width)) {
        preprocess_resized(self, height, width);
        return nd_status_ok;
    }
    return nd_fail(nd_status_usage, "preprocess: how large are the pictures to be? " ND_SIZE_RULES);
}

/* Where the crop starts; negative in the border of a smaller picture. */
static int64_t preprocess_margin(const nd_preprocess *self, int64_t have, int64_t want) {
    if (self->corner) return 0;
    const bool even = self->centre_even;
    if (have < want) return -((want - have) / 2);
    const int64_t half = (have - want) / 2, odd = (have - want) % 2;
    return half + (even && odd && half % 2);
}

/* 3 x 256 table of what each byte value becomes in each output channel. */
typedef float nd_preprocess_table[3][256];

static void preprocess_tabulate(const nd_preprocess *self, nd_preprocess_table table) {
    for (int c = 0; c < 3; c++)
        for (int v = 0; v < 256; v++) table[c][v] = (float)((v * self->scale - self->mean[c]) / self->std[c]);
}

/* ITU-R 601 luma in 16-bit fixed point, as Pillow's convert("L"). */
static uint8_t preprocess_luma(const uint8_t *rgb) {
    return (uint8_t)((rgb[0] * 19595 + rgb[1] * 38470 + rgb[2] * 7471 + 0x8000) >> 16);
}

static uint8_t preprocess_sample(nd_order order, const uint8_t *rgb, int channel) {
    if (order == nd_order_grey) return preprocess_luma(rgb);
    return rgb[order == nd_order_bgr ? 2 - channel : channel];
}

/* The window of height x width of the image, through the tables; `pad` outside. */
static void preprocess_crop(const nd_preprocess *self, const nd_image *image, int64_t height, int64_t width,
                            float *dst) {
    const int64_t top = preprocess_margin(self, image->height, height);
    const int64_t left = preprocess_margin(self, image->width, width);
    nd_preprocess_table table;
    preprocess_tabulate(self, table);
    for (int c = 0; c < nd_preprocess_channels(self); c++) {
        for (int64_t y = top; y < top + height; y++) {
            const bool row = y >= 0 && y < image->height;
            for (int64_t x = left; x < left + width; x++) {
                const bool inside = row && x >= 0 && x < image->width;
                const int64_t pixel = inside ? y * image->width + x : 0;
                const uint8_t value = preprocess_sample(self->order, image->rgb + 3 * pixel, c);
                *dst++ = table[c][inside ? value : self->pad];
            }
        }
    }
}

nd_status nd_preprocess_run(const nd_preprocess *self, const nd_image *image, int64_t height, int64_t width,
                            float *dst) {
    int64_t resized_height = image->height, resized_width = image->width;
    preprocess_resized(self, &resized_height, &resized_width);
    ND_REQUIRE(
        self->crop_height || self->fit_height || (resized_height == height && resized_width == width),
        nd_status_usage,
        "preprocess: a picture of %lldx%lld becomes %lldx%lld, and %lldx%lld are wanted. " ND_SIZE_RULES,
        (long long)image->height, (long long)image->width, (long long)resized_height,
        (long long)resized_width, (long long)height, (long long)width);
    const nd_image *ready = image;
    nd_image resized = {0};
    if (resized_height != image->height || resized_width != image->width) {
        ND_TRY(nd_image_resize(image, resized_width, resized_height, self->filter, &resized));
        ready = &resized;
    }
    preprocess_crop(self, ready, height, width, dst);
    nd_image_free(&resized);
    return nd_status_ok;
}

nd_frame nd_preprocess_frame(const nd_preprocess *self, int64_t picture_height, int64_t picture_width,
                             int64_t height, int64_t width) {
    int64_t resized_height = picture_height, resized_width = picture_width;
    preprocess_resized(self, &resized_height, &resized_width);
    return (nd_frame){
        .width = (double)picture_width,
        .height = (double)picture_height,
        .scale_x = (double)resized_width / (double)picture_width,
        .scale_y = (double)resized_height / (double)picture_height,
        .left = -(double)preprocess_margin(self, resized_width, width),
        .top = -(double)preprocess_margin(self, resized_height, height),
    };
}
