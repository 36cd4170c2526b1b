#include "cli/args/args.h"

#include "base/text/text.h"

#include <stdlib.h>
#include <string.h>

bool nd_option_takes(const nd_option *option, const char *verb) {
    const size_t length = strlen(verb);
    if (!strcmp(option->verbs, "*")) return true;
    for (const char *at = option->verbs; (at = strstr(at, verb)); at += length) {
        bool starts = at == option->verbs || at[-1] == ' ';
        bool ends = at[length] == ' ' || !at[length];
        if (starts && ends) return true;
    }
    return false;
}

static const nd_option *option_find(const char *name, size_t length) {
    for (size_t i = 0; i < nd_option_count; i++)
        if (strlen(nd_option_table[i].name) == length && !memcmp(nd_option_table[i].name, name, length))
            return &nd_option_table[i];
    return NULL;
}

static const nd_option *option_letter(char letter) {
    for (size_t i = 0; i < nd_option_count; i++)
        if (nd_option_table[i].letter && nd_option_table[i].letter == letter) return &nd_option_table[i];
    return NULL;
}

/* Takes the option at argv[*at], and its value from the same word or the next. */
static nd_status args_option(nd_args *args, int *at) {
    const char *word = args->argv[*at];
    const nd_option *option;
    const char *text = NULL;
    if (word[1] == '-') {
        size_t length = strcspn(word + 2, "=");
        option = option_find(word + 2, length);
        if (word[2 + length]) text = word + 2 + length + 1;
    } else {
        option = option_letter(word[1]);
        if (word[2]) text = word + 2;
    }
    ND_REQUIRE(option, nd_status_usage, "%s: no such option; see nd %s --help", word, args->verb);
    ND_REQUIRE(nd_option_takes(option, args->verb), nd_status_usage, "--%s is an option of %s, not of %s",
               option->name, option->verbs, args->verb);
    if (option->argument && !text) {
        ND_REQUIRE(*at + 1 < args->argc, nd_status_usage, "--%s needs a value: %s", option->name,
                   option->argument);
        text = args->argv[++*at];
    }
    ND_REQUIRE(option->argument || !text, nd_status_usage, "--%s takes no value", option->name);
    ND_REQUIRE(option->repeats || !nd_args_has(args, option->name), nd_status_usage, "--%s is given twice",
               option->name);
    args->values[args->n_values++] = (struct nd_args_value){option, text};
    return nd_status_ok;
}

nd_status nd_args_parse(const nd_verb *verb, int argc, char **argv, nd_args *out) {
    *out = (nd_args){.verb = verb->name, .argc = argc, .argv = argv};
    out->positional = nd_arena_alloc(&out->arena, ((size_t)argc + 1) * sizeof *out->positional);
    out->values = nd_arena_alloc(&out->arena, ((size_t)argc + 1) * sizeof *out->values);
    out->automatic = nd_arena_alloc(&out->arena, sizeof *out->automatic);
    ND_REQUIRE(out->positional && out->values && out->automatic, nd_status_memory,
               "no memory for the command line");
    *out->automatic = (nd_auto){0};
    bool options = true;
    for (int i = 2; i < argc; i++) {
        if (options && !strcmp(argv[i], "--"))
            options = false;
        else if (options && argv[i][0] == '-' && argv[i][1])
            ND_TRY(args_option(out, &i));
        else
            out->positional[out->n_positional++] = argv[i];
    }
    if (nd_args_has(out, "help")) return nd_status_ok;
    const int given = (int)out->n_positional;
    ND_REQUIRE(given >= verb->min_positional && (verb->max_positional < 0 || given <= verb->max_positional),
               nd_status_usage, "usage: nd %s %s", verb->name, verb->arguments);
    return nd_status_ok;
}

void nd_args_free(nd_args *args) {
    nd_arena_free(&args->arena);
    *args = (nd_args){0};
}

const char *nd_args_nth(const nd_args *args, const char *option, size_t index) {
    for (size_t i = 0; i < args->n_values; i++)
        if (!strcmp(args->values[i].option->name, option) && index-- == 0) return args->values[i].text;
    return NULL;
}

bool nd_args_has(const nd_args *args, const char *option) {
    for (size_t i = 0; i < args->n_values; i++)
        if (!strcmp(args->values[i].option->name, option)) return true;
    return false;
}

const char *nd_args_text(const nd_args *args, const char *option, const char *otherwise) {
    for (size_t i = args->n_values; i-- > 0;)
        if (!strcmp(args->values[i].option->name, option)) return args->values[i].text;
    return otherwise;
}

nd_status nd_args_int(const nd_args *args, const char *option, int64_t otherwise, int64_t low, int64_t high,
                      int64_t *out) {
    const char *text = nd_args_text(args, option, NULL);
    *out = otherwise;
    if (!text) return nd_status_ok;
    ND_REQUIRE(nd_text_int(text, out), nd_status_usage, "--%s %s: not a whole number", option, text);
    ND_REQUIRE(*out >= low || high < INT64_MAX, nd_status_usage, "--%s %s: must be at least %lld", option,
               text, (long long)low);
    ND_REQUIRE(*out >= low && *out <= high, nd_status_usage, "--%s %s: must be from %lld to %lld", option,
               text, (long long)low, (long long)high);
    return nd_status_ok;
}

nd_status nd_args_real(const nd_args *args, const char *option, double otherwise, double low, double high,
                       double *out) {
    const char *text = nd_args_text(args, option, NULL);
    *out = otherwise;
    if (!text) return nd_status_ok;
    ND_REQUIRE(nd_text_real(text, out), nd_status_usage, "--%s %s: not a number", option, text);
    ND_REQUIRE(*out >= low && *out <= high, nd_status_usage, "--%s %s: must be from %g to %g", option, text,
               low, high);
    return nd_status_ok;
}

nd_status nd_args_ints(const nd_args *args, const char *option, int64_t otherwise, int64_t **out,
                       size_t *count) {
    const char *text = nd_args_text(args, option, NULL);
    if (text) {
        nd_status status = nd_text_ints(text, out, count);
        return status ? nd_fail_in(status, "--%s", option) : nd_status_ok;
    }
    *out = malloc(sizeof **out);
    ND_REQUIRE(*out, nd_status_memory, "no memory");
    **out = otherwise;
    *count = 1;
    return nd_status_ok;
}

nd_status nd_args_words(nd_args *args, const char *option, const char *otherwise, char ***out,
                        size_t *count) {
    return nd_text_split(&args->arena, nd_args_text(args, option, otherwise), ',', out, count);
}
