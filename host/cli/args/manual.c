#include "cli/args/manual.h"

#include "cli/args/args.h"

#include <ctype.h>
#include <string.h>

/* Backslashes and hyphens are escaped, and a line never begins with a control character of roff. */
static void print_roff(FILE *file, const char *text) {
    if (*text == '.' || *text == '\'') fputs("\\&", file);
    for (; *text; text++) {
        if (*text == '\\')
            fputs("\\e", file);
        else if (*text == '-')
            fputs("\\-", file);
        else
            fputc(*text, file);
    }
}

/* "\fBterm\fR \fIargument\fR", then what it means, as a sentence. */
static void print_item(FILE *file, const char *term, const char *argument, const char *text) {
    fputs(".TP\n\\fB", file);
    print_roff(file, term);
    fputs("\\fR", file);
    if (argument && *argument) {
        fputs(" \\fI", file);
        print_roff(file, argument);
        fputs("\\fR", file);
    }
    fputc('\n', file);
    print_roff(file, text);
    fputs(".\n", file);
}

static void print_options_roff(FILE *file, const char *verb) {
    char term[64];
    fputs(".SH OPTIONS\n", file);
    for (size_t i = 0; i < nd_option_count; i++) {
        const nd_option *option = &nd_option_table[i];
        if (verb ? !nd_option_takes(option, verb) : strcmp(option->verbs, "*") != 0) continue;
        const char letter[5] = {'-', option->letter, ',', ' '};
        snprintf(term, sizeof term, "%s--%s", option->letter ? letter : "", option->name);
        print_item(file, term, option->argument, option->text);
    }
}

static void print_items(FILE *file, const char *heading, const char *const (*items)[2], size_t count) {
    fprintf(file, ".SH %s\n", heading);
    for (size_t i = 0; i < count; i++) print_item(file, items[i][0], NULL, items[i][1]);
}

static void print_overview_roff(FILE *file) {
    static const char *const environment[][2] = {
        {"ND_CACHE", "folder of what is measured once and kept; else XDG_CACHE_HOME/nd, else ~/.cache/nd"},
        {"ND_PLUGINS", "folder of the backends' plugins, before the installed ones"},
        {"ND_SHARE", "folder of the bundled network, images and published tables"},
    };
    fputs(".SH VERBS\n", file);
    for (const nd_verb *verb = nd_verb_table; verb->name; verb++)
        print_item(file, verb->name, verb->arguments, verb->text);
    fputs(".SH MODELS AND DATA\n", file);
    fputs("A MODEL is file.onnx, ARCH:weights (safetensors or a PyTorch checkpoint), ARCH (random weights) "
          "or glyphs.\n"
          "A DATASET is imagefolder:DIR, list:FILE, cifar10:PATH, glyphs or synthetic; :test or :calib after "
          "it chooses a split. Sets with annotated boxes are voc:DIR[:SPLIT] and coco:FILE:IMAGES.\n"
          "Lists are 2,3,4, ranges 1..9, 1..9+2 and 1..64*2, and mixtures of them.\n",
          file);
    print_options_roff(file, NULL);
    print_items(file, "ENVIRONMENT", environment, sizeof environment / sizeof *environment);
}

void nd_manual_page(const nd_verb *verb, FILE *file) {
    static const char *const exits[][2] = {
        {"0", "done"},
        {"1", "a gate or check failed"},
        {"2", "usage"},
        {"3", "a bad input file"},
        {"4", "a backend or device is missing"},
        {"5", "inconclusive, with --strict"},
        {"6", "out of memory or threads"},
    };
    fputs(".TH ND", file);
    if (verb) fputc('-', file);
    for (const char *letter = verb ? verb->name : ""; *letter; letter++) fputc(toupper(*letter), file);
    fprintf(file, " 1\n.SH NAME\nnd%s%s \\- ", verb ? "\\-" : "", verb ? verb->name : "");
    print_roff(file,
               verb ? verb->text : "network decoupling: rewrite, evaluate and time convolutional networks");
    fprintf(file, "\n.SH SYNOPSIS\n.B nd %s\n", verb ? verb->name : "");
    fputs(verb ? ".I " : ".I verb arguments\n", file);
    if (verb) print_roff(file, *verb->arguments ? verb->arguments : " ");
    fputs("\n.RI [ options ]\n", file);
    if (verb)
        print_options_roff(file, verb->name);
    else
        print_overview_roff(file);
    print_items(file, "EXIT STATUS", exits, sizeof exits / sizeof *exits);
    fputs(".SH SEE ALSO\n", file);
    if (verb) fputs("\\fBnd\\fR(1)\n", file);
    for (const nd_verb *other = nd_verb_table; !verb && other->name; other++)
        fprintf(file, "\\fBnd\\-%s\\fR(1)%s\n", other->name, other[1].name ? "," : "");
}

static void print_options_of(FILE *file, const char *verb, const char *before) {
    for (size_t i = 0; i < nd_option_count; i++)
        if (nd_option_takes(&nd_option_table[i], verb))
            fprintf(file, "%s--%s", before, nd_option_table[i].name);
}

static void complete_bash(FILE *file) {
    fputs("_nd() {\n    local word=${COMP_WORDS[COMP_CWORD]} words=\n    COMPREPLY=()\n    case "
          "${COMP_CWORD}:${COMP_WORDS[1]} in\n"
          "    1:*) words='",
          file);
    for (const nd_verb *verb = nd_verb_table; verb->name; verb++) fprintf(file, " %s", verb->name);
    fputs(" help' ;;\n", file);
    for (const nd_verb *verb = nd_verb_table; verb->name; verb++) {
        fprintf(file, "    *:%s) words='", verb->name);
        print_options_of(file, verb->name, " ");
        fputs("' ;;\n", file);
    }
    fputs("    esac\n"
          "    if [[ $word == -* || $COMP_CWORD == 1 ]]; then\n"
          "        COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n"
          "    else\n"
          "        COMPREPLY=($(compgen -f -- \"$word\"))\n"
          "    fi\n}\ncomplete -o filenames -F _nd nd\n",
          file);
}

/* Single quotes end and begin again around one. */
static void print_quoted(FILE *file, const char *text) {
    for (; *text; text++)
        if (*text == '\'')
            fputs("'\\''", file);
        else
            fputc(*text, file);
}

/* Brackets and colons mean something to _arguments. */
static void print_zsh(FILE *file, const char *text) {
    for (; *text; text++) {
        if (strchr("[]:\\", *text)) fputc('\\', file);
        if (*text == '\'')
            fputs("'\\''", file);
        else
            fputc(*text, file);
    }
}

static void complete_zsh(FILE *file) {
    fputs("#compdef nd\nlocal -a verbs\nverbs=(\n", file);
    for (const nd_verb *verb = nd_verb_table; verb->name; verb++) {
        fprintf(file, "    '%s:", verb->name);
        print_zsh(file, verb->text);
        fputs("'\n", file);
    }
    fputs(")\nif (( CURRENT == 2 )); then\n    _describe verb verbs\n    return\nfi\ncase $words[2] in\n",
          file);
    for (const nd_verb *verb = nd_verb_table; verb->name; verb++) {
        fprintf(file, "%s) _arguments '1: :' '*:file:_files'", verb->name);
        for (size_t i = 0; i < nd_option_count; i++) {
            const nd_option *option = &nd_option_table[i];
            if (!nd_option_takes(option, verb->name)) continue;
            fprintf(file, " \\\n    '--%s[", option->name);
            print_zsh(file, option->text);
            fputc(']', file);
            if (option->argument) {
                fputc(':', file);
                print_zsh(file, option->argument);
                fputs(":_files", file);
            }
            fputc('\'', file);
        }
        fputs(" ;;\n", file);
    }
    fputs("esac\n", file);
}

static void complete_fish(FILE *file) {
    for (const nd_verb *verb = nd_verb_table; verb->name; verb++) {
        fprintf(file, "complete -c nd -n __fish_use_subcommand -a %s -d '", verb->name);
        print_quoted(file, verb->text);
        fputs("'\n", file);
        for (size_t i = 0; i < nd_option_count; i++) {
            const nd_option *option = &nd_option_table[i];
            if (!nd_option_takes(option, verb->name)) continue;
            fprintf(file, "complete -c nd -n '__fish_seen_subcommand_from %s' -l %s%s -d '", verb->name,
                    option->name, option->argument ? " -r" : "");
            print_quoted(file, option->text);
            fputs("'\n", file);
        }
    }
}

nd_status nd_manual_completion(const char *shell, FILE *file) {
    static const struct {
        const char *shell;
        void (*print)(FILE *file);
    } shells[] = {{"bash", complete_bash}, {"zsh", complete_zsh}, {"fish", complete_fish}};
    for (size_t i = 0; i < sizeof shells / sizeof *shells; i++)
        if (!strcmp(shells[i].shell, shell)) {
            shells[i].print(file);
            return nd_status_ok;
        }
    return nd_fail(nd_status_usage, "--completion %s: there are bash, zsh and fish", shell);
}
