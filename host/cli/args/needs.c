#include "cli/args/needs.h"

#include "base/text/text.h"
#include "cli/args/args.h"

#include <string.h>

/* In these verbs ("*": all) every one of `options` does nothing, `with` one of `others` or without all of
 * them; "quantize=auto" is that option with that value. */
static const struct rule {
    const char *verbs, *options;
    bool with;
    const char *others;
} rules[] = {
    {"*",
     "light quick ridge calib-images calib-preprocess calib-mirror output-metric relu-aware match-scores",
     false, "calib"},
    {"decouple", "quick", false, "macs-ratio latency-ratio max-drop"},
    {"bench sweep", "quick", false, "macs-ratio latency-ratio"},
    {"decouple", "conv-only", false, "macs-ratio max-drop"},
    {"bench sweep", "conv-only", false, "macs-ratio"},
    {"decouple", "confident top", false, "max-drop"},
    {"eval sweep", "score", false, "decode"},
    {"sweep", "decode", false, "data"},
    {"eval", "scores", true, "decode"},
    {"decouple", "data first limit", false, "max-drop quantize=auto"},
    {"quantize", "data top confident", false, "quantize=auto"},
    {"quantize bench sweep", "max-drop", false, "quantize=auto"},
    {"sweep", "quantize", false, "dtype"},
    {"decouple", "batch dtype time-limit", false, "latency-ratio"},
    {"decouple quantize sweep reproduce", "classes label-offset", false, "data"},
    {"decouple quantize bench sweep reproduce", "preprocess", false, "data calib"},
    {"quantize sweep reproduce", "first limit", false, "data"},
    {"sweep", "workers", false, "data calib"},
    {"sweep", "time-limit", false, "bench latency-ratio"},
    {"inspect", "ranks skip", false, "rank"},
    {"compare", "output", false, "aa"},
    {"compare", "json csv md sql confirm strict", true, "aa"},
    {"check", "json csv md sql seed", true, "list"},
    {"bench",
     "method rank energy frobenius macs-ratio ranks round layer skip whole svd light ridge calib-mirror "
     "output-metric relu-aware match-scores",
     true, "original"},
    {"bench", "cache", true, "no-layers original"},
    {"bench",
     "cache dtype batch nodes whole no-layers energy frobenius macs-ratio ranks round layer skip calib", true,
     "svd"},
};

static const nd_option *option_of(const char *name) {
    for (size_t i = 0; i < nd_option_count; i++)
        if (!strcmp(nd_option_table[i].name, name)) return &nd_option_table[i];
    return NULL;
}

/* With this value, or NULL: with any. The bundled network brings its data. */
static bool is_given(const nd_args *args, const char *option, const char *value) {
    const bool brings = !strcmp(args->verb, "sweep") && !strcmp(option, "data");
    if (value) return !strcmp(nd_args_text(args, option, ""), value);
    return nd_args_has(args, option) || (brings && !strcmp(args->positional[0], "glyphs"));
}

/* The first of `others` that is given; and all that the verb has, as a text: "--data DATASET or --calib
 * DATASET". */
static const char *find_given(const nd_args *args, char *const *others, char *text, size_t size) {
    *text = '\0';
    for (; *others; others++) {
        char *value = strchr(*others, '=');
        if (value) *value++ = '\0';
        const nd_option *option = option_of(*others);
        if (!option || !nd_option_takes(option, args->verb)) continue;
        if (is_given(args, *others, value)) return *others;
        const char *argument = value ? value : option->argument;
        const size_t used = strlen(text);
        snprintf(text + used, size - used, "%s--%s%s%s", used ? " or " : "", *others, argument ? " " : "",
                 argument ? argument : "");
    }
    return NULL;
}

static nd_status check_rule(const nd_args *args, const struct rule *rule, nd_arena *arena) {
    char **options, **others, text[256];
    size_t n_options, n_others;
    ND_TRY(nd_text_split(arena, rule->options, ' ', &options, &n_options));
    ND_TRY(nd_text_split(arena, rule->others, ' ', &others, &n_others));
    const char *given = find_given(args, others, text, sizeof text);
    if (rule->with != (given != NULL)) return nd_status_ok;
    for (size_t i = 0; i < n_options; i++) {
        if (!nd_args_has(args, options[i])) continue;
        if (given) return nd_fail(nd_status_usage, "--%s does nothing beside --%s", options[i], given);
        return nd_fail(nd_status_usage, "--%s does nothing without %s", options[i], text);
    }
    return nd_status_ok;
}

nd_status nd_cli_check_needs(const nd_args *args) {
    nd_arena arena = {0};
    nd_status status = nd_status_ok;
    for (size_t i = 0; i < sizeof rules / sizeof *rules && !status; i++) {
        const nd_option verbs = {.verbs = rules[i].verbs};
        if (nd_option_takes(&verbs, args->verb)) status = check_rule(args, &rules[i], &arena);
    }
    nd_arena_free(&arena);
    return status;
}
