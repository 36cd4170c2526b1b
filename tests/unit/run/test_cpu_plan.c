#include "tests/unit/help/cpu_case.h"

#include <criterion/criterion.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static nd_backend *open_tuned(void) {
    const nd_backend_settings settings = {.threads = 1, .tune = true};
    nd_backend *backend = NULL;
    cr_assert_eq(nd_backend_open("cpu", &settings, &backend), nd_status_ok, "%s", nd_error());
    return backend;
}

/* Lines of the cache; the name on the last one. */
static int cached(const char *folder, char name[64]) {
    char path[256], line[256], key[128];
    int lines = 0;
    snprintf(path, sizeof path, "%s/cpu_plans.txt", folder);
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    while (fgets(line, sizeof line, file)) {
        lines++;
        cr_assert_eq(sscanf(line, "%127s %63s", key, name), 2);
    }
    fclose(file);
    return lines;
}

static void overwrite(const char *folder, const char *with) {
    char path[256], line[256], key[128];
    snprintf(path, sizeof path, "%s/cpu_plans.txt", folder);
    FILE *file = fopen(path, "r");
    cr_assert_not_null(file);
    cr_assert_not_null(fgets(line, sizeof line, file));
    cr_assert_eq(sscanf(line, "%127s", key), 1);
    fclose(file);
    file = fopen(path, "w");
    cr_assert_not_null(file);
    fprintf(file, "%s %s\n\nnot a line\n", key, with);
    fclose(file);
}

Test(cpu_plan, a_measured_choice_is_right_and_remembered) {
    char folder[] = "/tmp/nd_plan_XXXXXX", name[64], engine[64];
    cr_assert_not_null(mkdtemp(folder));
    setenv("ND_CACHE", folder, 1);
    const cpu_separable s = {1, 32, 12, 12, 32, 3, 3, 1, 1, 1, {2}, 1, nd_act_relu, true, false};
    cpu_case c;
    cpu_case_separable(&c, &s, 5);
    for (int i = 0; i < 2; i++) {
        nd_backend *backend = open_tuned();
        cr_expect_lt(cpu_case_error(&c, backend, nd_precision_fp32, engine), 1e-5);
        nd_backend_close(backend);
        cr_expect_eq(cached(folder, name), 1, "measured once");
    }

    /* What the file says is obeyed; what it says of implementations that do not exist is not. */
    overwrite(folder, "pair");
    nd_backend *backend = open_tuned();
    cr_expect_lt(cpu_case_error(&c, backend, nd_precision_fp32, engine), 1e-5);
    cr_expect(strstr(engine, " + "), "%s", engine);
    overwrite(folder, "nothing-of-that-name");
    cr_expect_lt(cpu_case_error(&c, backend, nd_precision_fp32, engine), 1e-5);
    cr_expect(!strncmp(engine, "nd:separable", 12), "%s", engine);
    nd_backend_close(backend);
    cpu_case_free(&c);

    char path[256];
    snprintf(path, sizeof path, "%s/cpu_plans.txt", folder);
    unlink(path);
    rmdir(folder);
}
