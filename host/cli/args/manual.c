#include "cli/args/manual.h"

#include "cli/args/args.h"

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

static void print_option_roff(FILE *file, const nd_option *option) {
    fputs(".TP\n", file);
    if (option->letter) fprintf(file, "\\fB\\-%c\\fR, ", option->letter);
    fputs("\\fB\\-\\-", file);
    print_roff(file, option->name);
    fputs("\\fR", file);
    if (option->argument) {
        fputs(" \\fI", file);
        print_roff(file, option->argument);
        fputs("\\fR", file);
    }
    fputc('\n', file);
    print_roff(file, option->text);
    fputs(".\n", file);
    if (!strcmp(option->verbs, "*")) return;
    fputs("Taken by ", file);
    print_roff(file, option->verbs);
    fputs(".\n", file);
}

void nd_manual_page(FILE *file) {
    static const char *const exits[] = {
        "0", "done",
        "1", "a gate or check failed",
        "2", "usage",
        "3", "a bad input file",
        "4", "a backend or device is missing",
        "5", "inconclusive, with --strict",
    };
    fputs(".TH ND 1\n.SH NAME\nnd \\- network decoupling: rewrite, evaluate and time convolutional networks\n"
          ".SH SYNOPSIS\n.B nd\n.I verb\n.RI [ arguments ]\n.RI [ options ]\n.SH VERBS\n",
          file);
    for (const nd_verb *verb = nd_verb_table; verb->name; verb++) {
        fprintf(file, ".TP\n\\fB%s\\fR ", verb->name);
        print_roff(file, verb->arguments);
        fputc('\n', file);
        print_roff(file, verb->text);
        fputs(".\n", file);
    }
    fputs(".SH OPTIONS\nLists are 2,3,4, ranges 1..9, 1..9+2 and 1..64*2, and mixtures of them.\n", file);
    for (size_t i = 0; i < nd_option_count; i++) print_option_roff(file, &nd_option_table[i]);
    fputs(".SH EXIT STATUS\n", file);
    for (size_t i = 0; i < sizeof exits / sizeof *exits; i += 2) {
        fprintf(file, ".TP\n\\fB%s\\fR\n", exits[i]);
        print_roff(file, exits[i + 1]);
        fputs(".\n", file);
    }
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
