/* The equation of an Einsum: "bij,bjk->bik". */
#include "model/onnx/onnx_parts.h"

#include <string.h>

/* The letters up to what is none, at most nd_rank_max; -1 where one comes twice or there is an ellipsis. */
static int einsum_letters(const char **text, int64_t *letters) {
    int n = 0;
    for (; **text && **text != ',' && **text != '-'; ++*text) {
        if (**text == ' ') continue;
        bool bad = n == nd_rank_max || !((**text | 32) >= 'a' && (**text | 32) <= 'z');
        for (int i = 0; i < n; i++) bad = bad || letters[i] == **text;
        if (bad) return -1;
        letters[n++] = (unsigned char)**text;
    }
    return n;
}

/* Without a result those letters, sorted, that come once. */
static int einsum_result(const nd_attr *attr, int64_t *letters) {
    int n = 0;
    for (int letter = 'A'; letter <= 'z' && n < nd_rank_max; letter++) {
        int found = 0;
        for (int i = 0; i < attr->n; i++) found += attr->list[i] == letter;
        for (int i = 0; i < attr->size; i++) found += attr->ends[i] == letter;
        if (found == 1) letters[n++] = letter;
    }
    return n;
}

static bool einsum_has(const int64_t *letters, int64_t n, int64_t letter) {
    for (int64_t i = 0; i < n; i++)
        if (letters[i] == letter) return true;
    return false;
}

/* Whether every letter of one list is in one of two others. */
static bool einsum_covered(const int64_t *letters, int64_t n, const int64_t *a, int64_t n_a, const int64_t *b,
                           int64_t n_b) {
    for (int64_t i = 0; i < n; i++)
        if (!einsum_has(a, n_a, letters[i]) && !einsum_has(b, n_b, letters[i])) return false;
    return true;
}

bool nd_onnx_einsum(const char *text, nd_attr *attr) {
    const char *at = text;
    attr->n = einsum_letters(&at, attr->list);
    if (attr->n < 0 || *at++ != ',') return false;
    attr->size = einsum_letters(&at, attr->ends);
    if (attr->size < 0 || (*at && strncmp(at, "->", 2))) return false;
    if (*at) {
        at += 2;
        attr->groups = einsum_letters(&at, attr->axes);
    } else {
        attr->groups = einsum_result(attr, attr->axes);
    }
    return attr->groups > 0 && !*at &&
           einsum_covered(attr->list, attr->n, attr->axes, attr->groups, attr->ends, attr->size) &&
           einsum_covered(attr->ends, attr->size, attr->axes, attr->groups, attr->list, attr->n) &&
           einsum_covered(attr->axes, attr->groups, attr->list, attr->n, attr->ends, attr->size);
}
