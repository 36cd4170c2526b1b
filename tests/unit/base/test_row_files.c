/* Rows through files: what json, csv and sql hold reads back equal (sql by sqlite3), and damage is refused or
 * mended as promised. */
#include "base/log.h"
#include "base/rng.h"
#include "base/rows/row_write.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const hard_texts[] = {
    "plain",
    "",
    " ",
    "a,b",
    "\"",
    "\"\"",
    "say \"no\"",
    "line\nline\r\n",
    "| a | b |",
    "\\",
    "\\x20",
    "trail ",
    " lead",
    "*<b>`c`",
    "it's",
    "'); DROP --",
    "- key: value",
    "tab\there",
    "null",
    "conv*=auto",
    "\xc3\xa9t\xc3\xa9",
    "#",
    "true",
    "[1,2]",
    "1e5",
    "a\\",
    "{}",
    "=1+1",
    "+x",
    "-x",
    "@sum",
    "\t=1",
    "\r=1",
    "'=1",
    "''",
    "'",
    "no \xff UTF-8 \xc3",
};

static const double hard_reals[] = {0.0,    1.0,    -1.5,         0.1,  1.0 / 3,
                                    1e-300, 5e-324, 1e308,        -0.0, 3.14159265358979312,
                                    1e15,   1e17,   123456789.125};

enum { n_texts = sizeof hard_texts / sizeof *hard_texts, n_reals = sizeof hard_reals / sizeof *hard_reals };

static int64_t random_int(nd_rng *rng) {
    static const int64_t hard[] = {0, 1, -1, INT64_MAX, INT64_MIN, 1LL << 53, (1LL << 53) + 1};
    return nd_rng_below(rng, 2) ? hard[nd_rng_below(rng, 7)] : nd_rng_below(rng, 100000);
}

static double random_real(nd_rng *rng) {
    return nd_rng_below(rng, 2) ? hard_reals[nd_rng_below(rng, n_reals)] : nd_rng_normal(rng) * 1e6;
}

static void fill_field(nd_row *row, nd_field field, nd_rng *rng) {
    int64_t ints[5];
    double reals[5];
    for (int i = 0; i < 5; i++) ints[i] = random_int(rng), reals[i] = random_real(rng);
    size_t count = (size_t)nd_rng_below(rng, 6);
    switch (nd_field_table[field].type) {
    case nd_field_type_int:
        nd_row_set_int(row, field, field == nd_field_schema ? nd_row_schema : ints[0]);
        break;
    case nd_field_type_real:
        nd_row_set_real(row, field, reals[0]);
        break;
    case nd_field_type_text:
        nd_row_set_text(row, field, hard_texts[nd_rng_below(rng, n_texts)]);
        break;
    case nd_field_type_flag:
        nd_row_set_flag(row, field, nd_rng_below(rng, 2));
        break;
    case nd_field_type_ints:
        nd_row_set_ints(row, field, ints, count);
        break;
    case nd_field_type_reals:
        nd_row_set_reals(row, field, reals, count);
        break;
    }
}

/* `vary` in 256 of the fields differ from row to row; the others are shared, some of them null. */
static nd_row *random_rows(size_t count, uint64_t seed, int64_t vary) {
    nd_rng rng = nd_rng_seed(seed);
    nd_row *rows = calloc(count ? count : 1, sizeof *rows);
    cr_assert(rows);
    nd_row shared = {0};
    bool varies[nd_field_count];
    for (int f = 0; f < nd_field_count; f++) {
        varies[f] = nd_rng_below(&rng, 256) < vary;
        if (nd_rng_below(&rng, 3)) fill_field(&shared, (nd_field)f, &rng);
    }
    for (size_t r = 0; r < count; r++) {
        nd_row_copy(&rows[r], &shared);
        for (int f = 0; f < nd_field_count; f++)
            if (varies[f] && nd_rng_below(&rng, 4)) fill_field(&rows[r], (nd_field)f, &rng);
    }
    nd_row_free(&shared);
    return rows;
}

static char *write_rows(const char *format, const nd_row *rows, size_t count, size_t *size) {
    char *text = NULL;
    FILE *file = open_memstream(&text, size);
    nd_row_writer *writer;
    cr_assert_eq(nd_row_writer_open(format, file, "rows", &writer), nd_status_ok, "%s", nd_error());
    for (size_t i = 0; i < count; i++)
        cr_assert_eq(nd_row_writer_add(writer, &rows[i]), nd_status_ok, "%s", nd_error());
    cr_assert_eq(nd_row_writer_close(writer), nd_status_ok, "%s", nd_error());
    fclose(file);
    return text;
}

static void assert_equal(const char *what, const nd_row *a, size_t na, const nd_row *b, size_t nb) {
    cr_assert_eq(na, nb, "%s: %zu rows became %zu", what, na, nb);
    for (size_t r = 0; r < na; r++)
        for (int f = 0; f < nd_field_count; f++)
            cr_assert(nd_row_value_equal((nd_field)f, &a[r].values[f], &b[r].values[f]),
                      "%s: row %zu field %s", what, r, nd_field_table[f].name);
}

static void round_trip(const char *format, size_t count, uint64_t seed, int64_t vary) {
    nd_row *rows = random_rows(count, seed, vary), *back = NULL;
    size_t size, n = 0;
    char *text = write_rows(format, rows, count, &size);
    cr_assert_eq(nd_rows_parse(text, size, "memory", &back, &n), nd_status_ok, "%s: %s\n%s", format,
                 nd_error(), text);
    assert_equal(format, rows, count, back, n);
    nd_rows_free(rows, count);
    nd_rows_free(back, n);
    free(text);
}

static const char *const read_formats[] = {"json", "csv", NULL};

Test(row_files, json_and_csv_read_back_equal) {
    for (int f = 0; read_formats[f]; f++)
        for (uint64_t seed = 1; seed <= 12; seed++)
            for (int64_t vary = 0; vary <= 256; vary += 64)
                round_trip(read_formats[f], seed % 5 + 1, seed, vary);
}

/* One run, written twice, read twice: the same rows. */
Test(row_files, formats_agree_with_each_other) {
    enum { count = 4 };
    nd_row *rows = random_rows(count, 99, 100);
    for (int f = 0; read_formats[f]; f++)
        for (int g = 0; read_formats[g]; g++) {
            size_t size, n, m;
            nd_row *once, *twice;
            char *text = write_rows(read_formats[f], rows, count, &size);
            cr_assert_eq(nd_rows_parse(text, size, "first", &once, &n), nd_status_ok, "%s", nd_error());
            free(text);
            text = write_rows(read_formats[g], once, n, &size);
            cr_assert_eq(nd_rows_parse(text, size, "second", &twice, &m), nd_status_ok, "%s", nd_error());
            free(text);
            assert_equal(read_formats[g], rows, count, twice, m);
            nd_rows_free(once, n);
            nd_rows_free(twice, m);
        }
    nd_rows_free(rows, count);
}

Test(row_files, no_rows_stay_no_rows) {
    for (int f = 0; read_formats[f]; f++) {
        size_t size, n = 7;
        nd_row *back;
        char *text = write_rows(read_formats[f], NULL, 0, &size);
        cr_assert_eq(nd_rows_parse(text, size, "empty", &back, &n), nd_status_ok, "%s", nd_error());
        cr_expect_eq(n, 0, "%s", read_formats[f]);
        nd_rows_free(back, n);
        free(text);
    }
}

static size_t count_of(const char *text, const char *part) {
    size_t count = 0;
    for (; (text = strstr(text, part)); text++) count++;
    return count;
}

/* What JSON cannot hold is told in its place, and every format says the same of it. */
Test(row_files, what_json_cannot_hold_is_told) {
    static const double odd[] = {1, INFINITY, NAN, -INFINITY, 2};
    nd_row row = {0};
    char key[65];
    nd_row_set_name(&row, nd_field_model, "a/b\xff\xc3.onnx");
    nd_row_set_reals(&row, nd_field_rel_error, odd, 5);
    nd_row_set_real(&row, nd_field_ratio, odd[1]);
    nd_row_set_real(&row, nd_field_target, odd[2]); /* a key: rows of either format are still comparable */
    nd_row_set_real(&row, nd_field_change, odd[3]);
    cr_expect_str_eq(row.values[nd_field_model].text, "b\\xff\\xc3.onnx");
    nd_row_key(&row, key);
    for (int f = 0; read_formats[f]; f++) {
        nd_row *back, copy = {0};
        size_t size, n;
        char *text = write_rows(read_formats[f], &row, 1, &size), again[65], *json;
        const bool is_json = !strcmp(read_formats[f], "json");
        cr_expect_eq(count_of(text, "null"), is_json ? 6 : 3, "%s", text);
        cr_expect(!strstr(text, "inf") && !strstr(text, "nan,"), "%s", text);
        cr_assert_eq(nd_rows_parse(text, size, read_formats[f], &back, &n), nd_status_ok, "%s", nd_error());
        assert_equal(read_formats[f], &row, 1, back, n);
        nd_row_key(back, again);
        cr_expect_str_eq(again, key);
        nd_row_copy(&copy, back);
        cr_assert_eq(nd_row_to_json(&copy, &json), nd_status_ok);
        if (is_json) cr_expect(!strncmp(json, text, strlen(json)), "%s became %s", text, json);
        free(json);
        free(text);
        nd_row_free(&copy);
        nd_rows_free(back, n);
    }
    nd_row_free(&row);
}

/* A database reads the rows, and what it prints of them as CSV reads back equal: flags are 0 and 1 there, and
 * reals are asked for with 17 digits. */
Test(row_files, sqlite_reads_what_sql_says) {
    if (system("sqlite3 -version >/dev/null 2>&1")) cr_skip_test("sqlite3 is not installed");
    enum { count = 5 };
    char folder[] = "/tmp/nd-rows-XXXXXX", here[4096];
    cr_assert(getcwd(here, sizeof here) && mkdtemp(folder) && !chdir(folder)); /* tests are processes */
    nd_row *rows = random_rows(count, 17, 128), *back;
    size_t size, n;
    for (int i = 0; i < count * nd_field_count; i++) {
        const nd_field field = (nd_field)(i % nd_field_count);
        const nd_row_value *value = &rows[i / nd_field_count].values[field];
        if (!value->set || nd_field_table[field].type != nd_field_type_text) continue;
        /* The program drops a carriage return at the end of a line, and an apostrophe of its would be taken
         * for ours. */
        if (strchr(value->text, '\r') || *value->text == '\'')
            nd_row_set_text(&rows[i / nd_field_count], field, "line\nline");
    }
    char *text = write_rows("sql", rows, count, &size);
    FILE *script = fopen("rows.sql", "w");
    cr_assert(script);
    cr_assert_eq(fwrite(text, 1, size, script), size);
    fputs(".mode csv\n.headers on\n.once rows.csv\nSELECT ", script);
    for (int f = 0; f < nd_field_count; f++) {
        const char *name = nd_field_table[f].name, *comma = f ? ", " : "";
        switch (nd_field_table[f].type) {
        case nd_field_type_flag:
            fprintf(script, "%sCASE \"%s\" WHEN 1 THEN 'true' WHEN 0 THEN 'false' END AS \"%s\"", comma, name,
                    name);
            break;
        case nd_field_type_real:
            fprintf(script, "%sCASE WHEN \"%s\" IS NOT NULL THEN printf('%%!.17g', \"%s\") END AS \"%s\"",
                    comma, name, name, name);
            break;
        default:
            fprintf(script, "%s\"%s\"", comma, name);
        }
    }
    fputs(" FROM nd_rows ORDER BY rowid;\n", script);
    fclose(script);
    free(text);
    cr_assert_eq(system("sqlite3 -batch :memory: <rows.sql >said 2>&1"), 0);
    cr_assert_eq(nd_rows_read("rows.csv", &back, &n), nd_status_ok, "%s", nd_error());
    assert_equal("sql", rows, count, back, n);
    cr_expect(!unlink("rows.sql") && !unlink("rows.csv") && !unlink("said") && !chdir(here) &&
              !rmdir(folder));
    nd_rows_free(rows, count);
    nd_rows_free(back, n);
}

Test(row_files, md_and_sql_are_not_read) {
    nd_row *rows = random_rows(2, 3, 128), *back;
    size_t size, n;
    static const char *const formats[] = {"md", "sql"};
    for (int f = 0; f < 2; f++) {
        char *text = write_rows(formats[f], rows, 2, &size);
        cr_expect_eq(nd_rows_parse(text, size, "rows.txt", &back, &n), nd_status_format);
        cr_expect(strstr(nd_error(), "rows.txt: rows as") && strstr(nd_error(), formats[f]), "%s",
                  nd_error());
        free(text);
    }
    nd_rows_free(rows, 2);
}

Test(row_files, md_hides_what_does_not_vary) {
    nd_row rows[3] = {0};
    for (int i = 0; i < 3; i++) {
        nd_row_set_text(&rows[i], nd_field_model, "glyphs");
        nd_row_set_int(&rows[i], nd_field_rank, i + 1);
        nd_row_set_real(&rows[i], nd_field_top1, 90);
    }
    size_t size;
    char *text = write_rows("md", rows, 3, &size);
    cr_expect(strstr(text, "- model: glyphs\n"));
    cr_expect(strstr(text, "| # | rank | top1 |\n"), "%s", text);
    free(text);
    for (int i = 0; i < 3; i++) nd_row_free(&rows[i]);
}

Test(row_files, damage_is_refused_with_file_and_line) {
    static const struct {
        const char *text, *says;
    } bad[] = {
        {"{\"rank\":1}\n{\"rank\":\"x\"}\n", "bad:2"},
        {"rank,top1\n1,2\n3\n", "bad:3"},
        {"rank,top1\n1,2,3\n", "bad:2"},
        {"rank,model\n1,\"open\n", "bad:2"},
        {"rank\nfour\n", "rank"},
        {"top1\n1.5x\n", "top1"},
        {"INSERT INTO nd_rows (\"rank\") VALUES (1);\n", "sql"},
        {"CREATE TABLE x", "sql"},
        {"| # | rank |\n|--:|--:|\n| 1 | 1 |\n", "md"},
        {"samples_ns\n\"[1,2\"\n", "samples_ns"},
        {"samples_ns\n\"[1,,2]\"\n", "samples_ns"},
        {"samples_ns\n\"[1,2]x\"\n", "samples_ns"},
        {"{\"schema\":1}\n{\"schema\":2,\"rank\":1}\n", "bad:2: field schema is 2"},
        {"{\"schema\":1}\n{\"schema\":2,\"rank\":1}", "bad:2: field schema is 2"},
        {"schema,rank\n1,1\n2,1\n", "bad:3: field schema is 2"},
        {"{\"schema\":1}\n{\"schema\":1,\"rank\":\"x\"}", "bad:2: field rank"},
        {"{\"notes\":[", "bad:1"},
        {"a line\nanother", "bad:1: no column"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        nd_row *rows;
        size_t count;
        nd_status status = nd_rows_parse(bad[i].text, strlen(bad[i].text), "bad", &rows, &count);
        cr_expect_eq(status, nd_status_format, "accepted: %s", bad[i].text);
        cr_expect(strstr(nd_error(), bad[i].says), "%s: says %s", bad[i].text, nd_error());
        cr_expect_eq(count, 0);
        if (!status) nd_rows_free(rows, count);
    }
}

static void drop_message(void *user, nd_log_level level, const char *message) {
    (void)user, (void)level, (void)message;
}

/* Cutting a valid file anywhere never crashes, and never invents a row. */
Test(row_files, truncation_anywhere_is_survived) {
    nd_log_set(drop_message, NULL);
    for (int f = 0; read_formats[f]; f++) {
        nd_row *rows = random_rows(2, 5, 128), *back;
        size_t size, count;
        char *text = write_rows(read_formats[f], rows, 2, &size);
        for (size_t cut = 0; cut < size; cut += 7) {
            char *copy = malloc(cut ? cut : 1); /* exact size, so that reading past it is seen */
            cr_assert(copy);
            memcpy(copy, text, cut);
            if (!nd_rows_parse(copy, cut, "cut", &back, &count)) {
                cr_expect_leq(count, 2);
                nd_rows_free(back, count);
            }
            free(copy);
        }
        free(text);
        nd_rows_free(rows, 2);
    }
}

static void write_file(const char *path, const char *text) {
    FILE *file = fopen(path, "w");
    cr_assert(file);
    fputs(text, file);
    fclose(file);
}

Test(row_files, a_torn_line_is_mended) {
    static const struct {
        const char *before, *after;
    } cases[] = {
        {"{\"schema\":1}\n{\"schema\":1,\"mod", "{\"schema\":1}\n"},
        {"{\"schema\":1}\n{\"schema\":1}", "{\"schema\":1}\n{\"schema\":1}\n"},
        {"{\"schema\":1}\n", "{\"schema\":1}\n"},
        {"{\"sch", ""},
        {"", ""},
    };
    char path[] = "rows-XXXXXX";
    close(mkstemp(path));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_file(path, cases[i].before);
        cr_assert_eq(nd_rows_mend(path), nd_status_ok, "%s", nd_error());
        char text[64] = "";
        FILE *file = fopen(path, "r");
        cr_assert(file);
        size_t length = fread(text, 1, sizeof text - 1, file);
        fclose(file);
        text[length] = 0;
        cr_expect_str_eq(text, cases[i].after);
    }
    unlink(path);
    cr_expect_eq(nd_rows_mend(path), nd_status_ok);
}

/* A sweep must not take a line off somebody's notes, nor a field off the rows of another nd. */
Test(row_files, what_would_lose_something_is_left_alone) {
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"a line\nanother", ":1: "},
        {"{\"a\":1}\n{\"b\":2}\n", ":1: a is no field"},
        {"{\"schema\":1}\n{\"schema\":1,\"later\":2,\"rank\":1}\n", ":2: later is no field"},
        {"{\"schema\":1}\n\n{\"rank\":1}\n", ":3: not a row of nd: it has no field schema"},
        {"{\"schema\":1}\n{}\n", ":2: not a row of nd: it has no field schema"},
        {"{\"schema\":1}\n{\"schema\":2}\n", ":2: field schema is 2"},
        {"{\"schema\":1}\n{\"schema\":1,\"rank\":\"x\"}\n", ":2: field rank"},
        {"{\"schema\":1}\n{\"schema\":1,\"later\":1}", ":2: later is no field"},
        {"{\"schema\":1}\n{\"notes\":[1,", ":2: "},
        {"{\"schema\":1,\n{\"schema\":1,\"mod", ":1: "},
        {"{\n  \"schema\": 1\n}\n", ":1: "},
    };
    char path[] = "rows-XXXXXX", back[64] = "";
    close(mkstemp(path));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_file(path, cases[i].text);
        cr_expect_eq(nd_rows_mend(path), nd_status_format, "%s", cases[i].text);
        const char *said = strstr(nd_error(), path);
        cr_expect(said && !strncmp(said + strlen(path), cases[i].says, strlen(cases[i].says)) &&
                      strstr(said, "; the file is left as it is"),
                  "%s", nd_error());
        FILE *file = fopen(path, "r");
        cr_assert(file);
        back[fread(back, 1, sizeof back - 1, file)] = 0;
        fclose(file);
        cr_expect_str_eq(back, cases[i].text);
    }
    unlink(path);
}

Test(row_files, names_have_no_folder) {
    static const struct {
        const char *spec, *name;
    } cases[] = {
        {"glyphs", "glyphs"},
        {"glyphs:test", "glyphs:test"},
        {"synthetic:seed=3", "synthetic:seed=3"},
        {"/data/nets/a.onnx", "a.onnx"},
        {"vgg16:/data/w.safetensors", "vgg16:w.safetensors"},
        {"imagefolder:../val/", "imagefolder:val"},
        {"imagefolder:/", "imagefolder:"},
        {"cifar10:b.bin", "cifar10:b.bin"},
        {"dir:odd/a.onnx", "dir:a.onnx"},
        {"/odd:dir/a.onnx", "a.onnx"},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        nd_row row = {0};
        nd_row_set_name(&row, nd_field_model, cases[i].spec);
        cr_assert(row.values[nd_field_model].set);
        cr_expect_str_eq(row.values[nd_field_model].text, cases[i].name);
        nd_row_set_name(&row, nd_field_dataset, NULL);
        cr_expect_not(row.values[nd_field_dataset].set);
        nd_row_free(&row);
    }
}

/* Files of earlier versions have a field by its old name; what is written has the new one. */
Test(row_files, renamed_fields_are_read) {
    static const char *const files[] = {"{\"schema\":1,\"verb\":\"bench\",\"impl\":\"fused\"}\n",
                                        "schema,verb,impl\n1,bench,fused\n"};
    for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
        nd_row *rows;
        size_t count;
        char *json;
        cr_assert_eq(nd_rows_parse(files[f], strlen(files[f]), "old", &rows, &count), nd_status_ok, "%s",
                     nd_error());
        cr_assert_eq(count, 1);
        cr_assert(rows[0].values[nd_field_implementation].set);
        cr_expect_str_eq(rows[0].values[nd_field_implementation].text, "fused");
        cr_assert_eq(nd_row_to_json(&rows[0], &json), nd_status_ok);
        cr_expect_str_eq(json, "{\"schema\":1,\"verb\":\"bench\",\"implementation\":\"fused\"}");
        free(json);
        nd_rows_free(rows, count);
    }
}

Test(row_files, appending_writes_one_header) {
    char path[] = "rows-XXXXXX";
    close(mkstemp(path));
    for (int i = 0; i < 3; i++) {
        FILE *file = fopen(path, "a");
        nd_row_writer *writer;
        nd_row row = {0};
        nd_row_set_int(&row, nd_field_rank, i);
        cr_assert_eq(nd_row_writer_open("csv", file, path, &writer), nd_status_ok);
        cr_assert_eq(nd_row_writer_add(writer, &row), nd_status_ok);
        cr_assert_eq(nd_row_writer_close(writer), nd_status_ok);
        fclose(file);
        nd_row_free(&row);
    }
    nd_row *rows;
    size_t count;
    cr_assert_eq(nd_rows_read(path, &rows, &count), nd_status_ok, "%s", nd_error());
    cr_assert_eq(count, 3);
    for (int i = 0; i < 3; i++) cr_expect_eq(rows[i].values[nd_field_rank].i, i);
    nd_rows_free(rows, count);
    unlink(path);
}

Test(row_files, unknown_format_is_refused) {
    nd_row_writer *writer;
    cr_expect_eq(nd_row_writer_open("xml", stdout, "stdout", &writer), nd_status_usage);
    cr_expect_null(writer);
}

/* A spreadsheet runs a cell that starts with one of = + - @, a tab or a carriage return; numbers
 * are numbers. */
Test(row_files, no_text_in_csv_is_a_formula) {
    static const char *const texts[] = {"=cmd|x",  "+cmd|x",  "-cmd|x", "@cmd|x",
                                        "\tcmd|x", "\rcmd|x", "'cmd|x"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        nd_row row = {0}, *back;
        size_t size, count;
        nd_row_set_text(&row, nd_field_model, texts[i]);
        nd_row_set_real(&row, nd_field_drop_top1, -1.5);
        char *csv = write_rows("csv", &row, 1, &size), guarded[16];
        snprintf(guarded, sizeof guarded, "'%s", texts[i]);
        cr_expect(strstr(csv, guarded), "%s", csv);
        cr_expect(strstr(csv, ",-1.5,"), "%s", csv);
        for (const char *c = csv; *c; c++) {
            const bool starts = c == csv || strchr(",\n", c[-1]) || (c[-1] == '"' && strchr(",\n", c[-2]));
            if (starts) cr_expect(!strchr("=+@\t\r", *c), "%s", c);
        }
        cr_assert_eq(nd_rows_parse(csv, size, "csv", &back, &count), nd_status_ok, "%s", nd_error());
        assert_equal("csv", &row, 1, back, count);
        nd_rows_free(back, count);
        nd_row_free(&row);
        free(csv);
    }
}
