/* Text from outside as a terminal may see it. */
#include "base/log.h"
#include "base/status.h"
#include "base/text/escape.h"

#include <criterion/criterion.h>
#include <string.h>

static const struct {
    const char *text, *keep, *shown;
} cases[] = {
    {"layer1.0.conv", "", "layer1.0.conv"},
    {"\x1b[2Jgone", "", "\\x1b[2Jgone"},
    {"a\nb\tc\r", "", "a\\x0ab\\x09c\\x0d"},
    {"a\nb\tc", "\n", "a\nb\\x09c"},
    {"\x7f", "", "\\x7f"},
    {"\xc2\x9b"
     "31m",
     "", "\\u009b31m"}, /* CSI as one character */
    {"\x9b"
     "31m",
     "", "\\x9b31m"}, /* and as a byte that is no UTF-8 */
    {"\xe2\x80\xae"
     "evil",
     "", "\\u202eevil"},                            /* right-to-left override */
    {"\xc3\xa9t\xc3\xa9", "", "\xc3\xa9t\xc3\xa9"}, /* letters stay */
    {"\xf0\x9f\x98\x80", "", "\xf0\x9f\x98\x80"},
    {"\xc3", "", "\\xc3"},                   /* a character cut off */
    {"\xed\xa0\x80", "", "\\xed\\xa0\\x80"}, /* a surrogate is no character */
    {"\xc0\x80", "", "\\xc0\\x80"},          /* nor is an overlong one */
    {"\\x1b", "", "\\x1b"},                  /* escaping again changes nothing */
    {"", "", ""},
};

Test(escape, nothing_reaches_a_terminal_raw) {
    char shown[64], again[64];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        nd_escape(cases[i].text, cases[i].keep, shown, sizeof shown);
        cr_expect_str_eq(shown, cases[i].shown, "case %zu: %s", i, shown);
        nd_escape(shown, cases[i].keep, again, sizeof again);
        cr_expect_str_eq(again, shown, "case %zu", i);
    }
}

Test(escape, what_does_not_fit_is_cut_and_ended) {
    char shown[12];
    for (size_t size = 0; size <= sizeof shown; size++) {
        memset(shown, '#', sizeof shown);
        nd_escape("\x1b\x1b\x1b\x1b", "", shown, size);
        if (size) cr_expect_lt(strlen(shown), size);
        for (size_t i = size; i < sizeof shown; i++) cr_expect_eq(shown[i], '#', "size %zu", size);
    }
}

Test(escape, only_bytes_that_are_no_character) {
    static const char *const texts[][2] = {
        {"a\nb\x1b\xc3\xa9\xe2\x80\xae", "a\nb\x1b\xc3\xa9\xe2\x80\xae"},
        {"bad\xff\xfe.onnx", "bad\\xff\\xfe.onnx"},
        {"\xc3", "\\xc3"},
        {"\xed\xa0\x80", "\\xed\\xa0\\x80"},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char escaped[64], again[64];
        memset(escaped, '#', sizeof escaped);
        nd_escape_bytes(texts[i][0], escaped, nd_escape_byte * strlen(texts[i][0]) + 1);
        cr_expect_str_eq(escaped, texts[i][1], "case %zu: %s", i, escaped);
        nd_escape_bytes(escaped, again, sizeof again);
        cr_expect_str_eq(again, escaped, "case %zu", i);
    }
}

static void keep_message(void *user, nd_log_level level, const char *message) {
    (void)level;
    snprintf(user, 128, "%s", message);
}

Test(escape, messages_and_logs_are_escaped_where_they_are_made) {
    char logged[128] = "";
    (void)nd_fail(nd_status_format, "%s: no", "a\x1b[2J\nb");
    cr_expect_str_eq(nd_error(), "a\\x1b[2J\\x0ab: no");
    (void)nd_fail_in(nd_status_format, "%s", "\x9b");
    cr_expect_str_eq(nd_error(), "\\x9b: a\\x1b[2J\\x0ab: no");
    nd_log_set(keep_message, logged);
    nd_log(nd_log_warn, "%s", "\x07");
    nd_log_set(NULL, NULL);
    cr_expect_str_eq(logged, "\\x07");
}

Test(escape, a_long_message_keeps_its_start_and_its_end) {
    static char path[5001];
    memset(path, '0', sizeof path - 1);
    (void)nd_fail(nd_status_input, "open %s: name too long", path);
    const char *message = nd_error(), *end = ": name too long";
    cr_expect(!strncmp(message, "open 000", 8) && !strcmp(message + strlen(message) - strlen(end), end), "%s",
              message);
    cr_expect(strstr(message, " ... "));
    cr_expect_lt(strlen(message), 2048);
}
