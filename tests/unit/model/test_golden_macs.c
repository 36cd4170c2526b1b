/* The figures in results/golden/macs_*.csv: MACs and parameters are deterministic, so a change is a change of
 * the cost model or of an architecture, and shows as a diff. ND_BLESS=1 writes the files anew. */
#include "decouple/plan/survey.h"
#include "model/infer/infer.h"
#include "model/zoo/zoo.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static nd_graph *open_blank(const nd_zoo_entry *entry, nd_survey *survey) {
    nd_graph *graph;
    cr_assert_eq(nd_zoo_build(entry, nd_zoo_blank, NULL, &graph), nd_status_ok);
    cr_assert_eq(nd_graph_fold(graph), nd_status_ok);
    cr_assert_eq(nd_graph_infer(graph, &(nd_infer_settings){.batch = 1}), nd_status_ok);
    cr_assert_eq(nd_survey_make(graph, survey), nd_status_ok);
    return graph;
}

static void compare_or_bless(const char *name, const char *text) {
    char path[512];
    snprintf(path, sizeof path, ND_SOURCE_DIR "/results/golden/%s", name);
    if (getenv("ND_BLESS")) {
        FILE *file = fopen(path, "w");
        cr_assert(file && fputs(text, file) >= 0 && fclose(file) == 0, "%s", path);
        return;
    }
    FILE *file = fopen(path, "r");
    cr_assert(file, "%s", path);
    char line[256];
    int number = 0;
    while (fgets(line, sizeof line, file)) {
        number++;
        const size_t length = strlen(line);
        cr_assert(!strncmp(text, line, length), "%s:%d: stored %snow %.*s", path, number, line,
                  (int)strcspn(text, "\n"), text);
        text += length;
    }
    cr_expect_str_empty(text, "%s: the stored file ends after line %d", path, number);
    fclose(file);
}

Test(golden, macs_of_the_zoo) {
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    fprintf(out, "model,conv_macs,total_macs,params\n");
    for (size_t i = 0; i < nd_zoo_count; i++) {
        nd_survey survey;
        nd_graph *graph = open_blank(&nd_zoo_table[i], &survey);
        fprintf(out, "%s,%" PRId64 ",%" PRId64 ",%" PRId64 "\n", nd_zoo_table[i].name, survey.cost.conv_macs,
                survey.cost.total_macs, survey.cost.params);
        nd_survey_free(&survey);
        nd_graph_free(graph);
    }
    fclose(out);
    compare_or_bless("macs_zoo.csv", text);
    free(text);
}

Test(golden, macs_of_uniform_ranks) {
    static const char *const archs[] = {"vgg16", "resnet18", "resnet50", "resnet20", "alexnet"};
    static const char *const methods[] = {"dwpw", "pwdw", "auto"};
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    fprintf(out, "model,method,rank,conv_macs,total_macs,params\n");
    for (size_t a = 0; a < sizeof archs / sizeof *archs; a++) {
        nd_survey survey;
        nd_graph *graph = open_blank(nd_zoo_find(archs[a]), &survey);
        for (size_t m = 0; m < sizeof methods / sizeof *methods; m++) {
            for (int terms = 1; terms <= 9; terms++) {
                nd_decouple_settings settings = nd_decouple_defaults();
                settings.method = methods[m];
                settings.target = terms;
                nd_cost cost;
                cr_assert_eq(nd_survey_cost(graph, &survey, &settings, NULL, &cost), nd_status_ok, "%s",
                             nd_error());
                fprintf(out, "%s,%s,%d,%" PRId64 ",%" PRId64 ",%" PRId64 "\n", archs[a], methods[m], terms,
                        cost.conv_macs, cost.total_macs, cost.params);
            }
        }
        nd_survey_free(&survey);
        nd_graph_free(graph);
    }
    fclose(out);
    compare_or_bless("macs_uniform.csv", text);
    free(text);
}
