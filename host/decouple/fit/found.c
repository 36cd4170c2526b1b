#include "decouple/fit/found.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { most_entries = 8 }; /* more than there are finders */

typedef struct entry {
    nd_finder *by;
    double *ridge; /* [groups] */
    double *data;
} entry;

struct nd_finds {
    pthread_mutex_t lock;
    int n;
    entry entries[most_entries];
};

nd_status nd_finds_new(nd_finds **out) {
    nd_finds *found = calloc(1, sizeof *found);
    ND_REQUIRE(found, nd_status_memory, "no memory for moments");
    pthread_mutex_init(&found->lock, NULL);
    *out = found;
    return nd_status_ok;
}

static void free_entry(entry *e) {
    free(e->ridge);
    free(e->data);
    *e = (entry){0};
}

void nd_finds_clear(nd_finds *found) {
    for (int i = 0; i < found->n; i++) free_entry(&found->entries[i]);
    found->n = 0;
}

void nd_finds_free(nd_finds *found) {
    if (!found) return;
    nd_finds_clear(found);
    pthread_mutex_destroy(&found->lock);
    free(found);
}

static bool is_of(const entry *e, const nd_moments *m) {
    return !memcmp(e->ridge, m->ridge, (size_t)m->groups * sizeof *m->ridge);
}

/* Its data, or NULL; in the place of what another ridge has left. */
static const double *look_up(nd_finds *found, nd_finder *by, const nd_moments *m, entry *add) {
    const double *data = NULL;
    (void)pthread_mutex_lock(&found->lock);
    int i = 0;
    while (i < found->n && found->entries[i].by != by) i++;
    if (i < found->n && is_of(&found->entries[i], m)) {
        data = found->entries[i].data; /* another thread may have been faster */
    } else if (add && i < most_entries) {
        free_entry(&found->entries[i]);
        found->entries[i] = *add;
        if (i == found->n) found->n++;
        data = add->data;
        *add = (entry){0};
    }
    (void)pthread_mutex_unlock(&found->lock);
    return data;
}

/* Threads that ask for the same at once all look for it: none waits, and the first one's is kept. */
nd_status nd_moments_find(nd_backend *backend, const nd_conv *conv, const nd_moments *m, nd_finder *by,
                          size_t count, const double **out) {
    *out = look_up(m->finds, by, m, NULL);
    if (*out) return nd_status_ok;
    nd_status status = nd_status_ok;
    entry add = {.by = by};
    add.ridge = nd_alloc_array((size_t)m->groups, sizeof *add.ridge);
    add.data = nd_alloc_array(count, sizeof *add.data);
    ND_REQUIRE_DONE(add.ridge && add.data, nd_status_memory, "conv %s: no memory for fitting it", conv->name);
    memcpy(add.ridge, m->ridge, (size_t)m->groups * sizeof *add.ridge);
    ND_TRY_DONE(by(backend, conv, m, add.data));
    *out = look_up(m->finds, by, m, &add);
    ND_REQUIRE_DONE(*out, nd_status_internal, "conv %s: more is found than there is room for", conv->name);
done:
    free_entry(&add);
    return status;
}
