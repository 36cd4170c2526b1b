#include "cli/cli.h"

#include "datasets/image/preprocess.h"
#include "model/images.h"

#include <string.h>

/* The recipe the models have in common, spelled out; empty where none asks for one. */
static nd_status cli_recipe(const nd_graph *const *models, size_t count, char *recipe, size_t size) {
    const char *first = NULL;
    *recipe = '\0';
    for (size_t i = 0; i < count; i++) {
        const char *asked = nd_graph_meta(models[i], "nd.preprocess");
        if (!asked) continue;
        nd_preprocess preprocess;
        char text[256];
        nd_status status = nd_preprocess_parse(asked, &preprocess);
        if (status) return nd_fail_in(nd_status_format, "%s: metadata nd.preprocess", models[i]->name);
        nd_preprocess_format(&preprocess, text, sizeof text);
        ND_REQUIRE(!first || !strcmp(recipe, text), nd_status_usage,
                   "the models were trained on images preprocessed differently, %s and %s; evaluate them "
                   "apart, or "
                   "say --preprocess",
                   first, asked);
        memcpy(recipe, text, strlen(text) + 1 < size ? strlen(text) + 1 : size);
        first = asked;
    }
    return nd_status_ok;
}

nd_status nd_cli_dataset(const nd_args *args, const nd_graph *const *models, size_t count,
                         nd_dataset_settings settings, nd_batches **out) {
    char recipe[256];
    int64_t workers;
    *out = NULL;
    ND_TRY(nd_args_int(args, "workers", 0, 0, 256, &workers));
    settings.workers = (int)workers;
    settings.preprocess = nd_args_text(args, "preprocess", NULL);
    if (settings.calibration)
        settings.preprocess = nd_args_text(args, "calib-preprocess", settings.preprocess);
    if (!settings.calibration) {
        settings.classes = nd_args_text(args, "classes", NULL);
        ND_TRY(nd_args_int(args, "label-offset", 0, -INT32_MAX, INT32_MAX, &settings.label_offset));
    }
    if (!settings.preprocess) {
        ND_TRY(cli_recipe(models, count, recipe, sizeof recipe));
        if (*recipe) settings.preprocess = recipe;
    }
    for (size_t i = 0; i < count && !settings.height; i++) {
        if (models[i]->n_inputs < 1) continue;
        const nd_image_input image = nd_image_input_of(&models[i]->values[models[i]->inputs[0]]);
        if (image.channels > 0)
            settings.channels_last = image.channels_last; /* also where its size is open */
        if (image.height <= 0 || image.width <= 0) continue;
        settings.height = image.height;
        settings.width = image.width;
    }
    return nd_dataset_open(&settings, out);
}
