#include "cli/args/help.h"

#include "cli/args/args.h"

static const char nd_help_specifications[] =
    "\n"
    "MODEL       file.onnx, ARCH:weights (safetensors or a PyTorch checkpoint), ARCH (random weights), or "
    "glyphs\n"
    "DATASET     imagefolder:DIR, list:FILE, cifar10:PATH, glyphs or synthetic; :test or :calib chooses a "
    "split;\n"
    "            with annotated boxes voc:DIR[:SPLIT] or coco:FILE:IMAGES\n"
    "lists       2,3,4   1..9   1..9+2   1..64*2\n"
    "exit codes  0 done, 1 gate or check failed, 2 usage, 3 bad input file, 4 backend or device missing,\n"
    "            5 inconclusive with --strict, 6 out of memory or threads\n";

static void help_option(const nd_option *option, FILE *file) {
    char letter[5] = "    ", name[64];
    if (option->letter) snprintf(letter, sizeof letter, "-%c, ", option->letter);
    snprintf(name, sizeof name, "%s--%s %s", letter, option->name, option->argument ? option->argument : "");
    fprintf(file, "  %-30s %s\n", name, option->text);
}

void nd_help_print(const nd_verb *verb, FILE *file) {
    if (!verb) {
        fputs("usage: nd VERB [ARGUMENTS] [OPTIONS]\n\n", file);
        for (verb = nd_verb_table; verb->name; verb++)
            fprintf(file, "  %-10s %-26s %s\n", verb->name, verb->arguments, verb->text);
        fputs("\nnd VERB --help lists a verb's options; nd --version says what was built.\n", file);
    } else {
        fprintf(file, "usage: nd %s%s%s [OPTIONS]\n%s\n\n", verb->name, *verb->arguments ? " " : "",
                verb->arguments, verb->text);
        for (size_t i = 0; i < nd_option_count; i++)
            if (nd_option_takes(&nd_option_table[i], verb->name)) help_option(&nd_option_table[i], file);
    }
    fputs(nd_help_specifications, file);
}

void nd_help_version(FILE *file) {
    nd_row row = {0};
    nd_row_provenance(&row, 0, NULL);
    const char *version = row.values[nd_field_nd_version].text, *commit = row.values[nd_field_commit].text;
    const char *compiler = row.values[nd_field_compiler].text;
    fprintf(file, "nd %s (%s%s), %s\n", version ? version : "?", commit ? commit : "?",
            row.values[nd_field_dirty].i ? ", changed" : "", compiler ? compiler : "?");
    nd_row_free(&row);
}
