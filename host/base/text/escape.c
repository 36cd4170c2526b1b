#include "base/text/escape.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* Length of the UTF-8 character at `text` and the character; 0 where there is none. */
static int utf8_next(const unsigned char *text, uint32_t *character) {
    static const struct {
        unsigned char mask, lead;
        uint32_t least;
    } kinds[] = {{0x80, 0x00, 0}, {0xe0, 0xc0, 0x80}, {0xf0, 0xe0, 0x800}, {0xf8, 0xf0, 0x10000}};
    for (int length = 1; length <= 4; length++) {
        if ((*text & kinds[length - 1].mask) != kinds[length - 1].lead) continue;
        *character = *text & (unsigned char)~kinds[length - 1].mask;
        for (int i = 1; i < length; i++) {
            if ((text[i] & 0xc0) != 0x80) return 0;
            *character = *character << 6 | (text[i] & 0x3f);
        }
        const bool surrogate = *character >= 0xd800 && *character < 0xe000;
        return *character < kinds[length - 1].least || *character > 0x10ffff || surrogate ? 0 : length;
    }
    return 0;
}

static bool is_control(uint32_t c) {
    static const struct {
        uint32_t first, last;
    } ranges[] = {{0, 0x1f},        {0x7f, 0x9f},     {0x61c, 0x61c},   {0x200e, 0x200f},
                  {0x2028, 0x202e}, {0x2066, 0x2069}, {0xfeff, 0xfeff}, {0xfff9, 0xfffb}};
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (c >= ranges[i].first && c <= ranges[i].last) return true;
    return false;
}

bool nd_escape_next(const char **text, const char *keep, char out[nd_escape_longest]) {
    const unsigned char *at = (const unsigned char *)*text;
    uint32_t character;
    const int length = utf8_next(at, &character);
    const bool shown = length && (!is_control(character) || (length == 1 && strchr(keep, (int)character)));
    *text += length ? length : 1;
    if (shown) {
        memcpy(out, at, (size_t)length);
        out[length] = '\0';
    } else {
        snprintf(out, nd_escape_longest, length > 1 ? "\\u%04x" : "\\x%02x",
                 length ? (unsigned)character : *at);
    }
    return !shown;
}

void nd_escape(const char *text, const char *keep, char *out, size_t size) {
    if (!size) return;
    *out = '\0';
    for (size_t used = 0; *text && size - used >= nd_escape_longest; used += strlen(out + used))
        (void)nd_escape_next(&text, keep, out + used);
}

void nd_escape_write(const char *text, const char *keep, FILE *file) {
    char shown[nd_escape_longest];
    while (*text) {
        (void)nd_escape_next(&text, keep, shown);
        fputs(shown, file);
    }
}

void nd_escape_bytes(const char *text, char *out, size_t size) {
    uint32_t character;
    if (!size) return;
    *out = '\0';
    for (size_t used = 0; *text && size - used > nd_escape_byte; used += strlen(out + used)) {
        const int length = utf8_next((const unsigned char *)text, &character);
        if (length)
            snprintf(out + used, size - used, "%.*s", length, text);
        else
            snprintf(out + used, size - used, "\\x%02x", *(const unsigned char *)text);
        text += length ? length : 1;
    }
}
