#include "datasets/image/image.h"
#include "datasets/image/preprocess.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* PNG and JPEG by their signature, then the way of every picture: resized and cropped. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    nd_image image;
    nd_preprocess preprocess;
    float out[3 * 8 * 8];
    if (nd_preprocess_parse("resize=12,crop=8,interp=bicubic", &preprocess)) __builtin_trap();
    if (nd_image_decode(data, size, "fuzz", &image)) {
        if (image.rgb) __builtin_trap();
        return 0;
    }
    /* Without damage to the header a picture is small; one of many pixels only costs time. */
    if (image.width * image.height < 1 << 16) {
        nd_status status = nd_preprocess_run(&preprocess, &image, 8, 8, out);
        for (int i = 0; !status && i < 3 * 8 * 8; i++)
            if (!(out[i] >= 0 && out[i] <= 255)) __builtin_trap();
    }
    nd_image_free(&image);
    return 0;
}
