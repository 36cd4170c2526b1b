#include "datasets/prefetch.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { nd_prefetch_message = 1024, nd_prefetch_workers_max = 256 };

typedef struct nd_prefetch_slot {
    float *pixels;
    nd_frame frame;
    bool ready;
    nd_status status;
    char message[nd_prefetch_message]; /* nd_error() of the worker: messages are kept per thread */
} nd_prefetch_slot;

/* Pictures are numbered from 0 to count. [taken, claimed) are in slots (number modulo ahead), loading or
 * ready. */
struct nd_prefetch {
    nd_source const *source;
    nd_preprocess preprocess;
    int64_t first, count, height, width, ahead;
    size_t floats; /* in a picture */
    float *pixels;
    nd_prefetch_slot *slots;
    pthread_t *threads;
    int n_threads;

    pthread_mutex_t lock;
    pthread_cond_t room,
        ready; /* a slot came free or the end is near; a picture became ready or a worker idle */
    int64_t claimed, taken;
    int busy; /* workers that load */
    bool stop;
};

/* A picture that cannot be read is named by its reader. */
static nd_status prefetch_prepare(const nd_prefetch *self, int64_t index, const nd_image *image,
                                  nd_prefetch_slot *slot) {
    char where[512];
    const nd_status status =
        nd_preprocess_run(&self->preprocess, image, self->height, self->width, slot->pixels);
    slot->frame =
        nd_preprocess_frame(&self->preprocess, image->height, image->width, self->height, self->width);
    if (!status || !self->source->where) return status;
    self->source->where(self->source, index, where, sizeof where);
    return nd_fail_in(status, "%s", where);
}

static void prefetch_load(nd_prefetch *self, int64_t number, nd_prefetch_slot *slot) {
    nd_image image;
    const int64_t index = self->first + number;
    slot->status = self->source->load(self->source, index, &image);
    if (!slot->status) slot->status = prefetch_prepare(self, index, &image, slot);
    nd_image_free(&image);
    if (!slot->status) return;
    strncpy(slot->message, nd_error(), sizeof slot->message - 1);
    slot->message[sizeof slot->message - 1] = '\0';
}

static void *prefetch_work(void *argument) {
    nd_prefetch *self = argument;
    pthread_mutex_lock(&self->lock);
    while (!self->stop) {
        if (self->claimed == self->count || self->claimed - self->taken == self->ahead) {
            pthread_cond_wait(&self->room, &self->lock);
            continue;
        }
        const int64_t number = self->claimed++;
        nd_prefetch_slot *slot = &self->slots[number % self->ahead];
        self->busy++;
        pthread_mutex_unlock(&self->lock);
        prefetch_load(self, number, slot);
        pthread_mutex_lock(&self->lock);
        self->busy--;
        slot->ready = true;
        pthread_cond_signal(&self->ready);
    }
    pthread_mutex_unlock(&self->lock);
    return NULL;
}

nd_status nd_prefetch_take(nd_prefetch *self, float *dst, nd_frame *frame, int64_t *index) {
    *index = -1;
    if (self->taken == self->count) return nd_status_ok;
    nd_prefetch_slot *slot = &self->slots[self->taken % self->ahead];
    pthread_mutex_lock(&self->lock);
    while (!slot->ready) pthread_cond_wait(&self->ready, &self->lock);
    pthread_mutex_unlock(&self->lock);
    /* Nobody else touches a ready slot until it counts as taken. */
    const nd_status status = slot->status ? nd_fail(slot->status, "%s", slot->message) : nd_status_ok;
    if (!status) memcpy(dst, slot->pixels, self->floats * sizeof *dst);
    *frame = slot->frame;
    *index = self->first + self->taken;
    pthread_mutex_lock(&self->lock);
    slot->ready = false;
    self->taken++;
    pthread_cond_signal(&self->room);
    pthread_mutex_unlock(&self->lock);
    return status;
}

void nd_prefetch_rewind(nd_prefetch *self) {
    pthread_mutex_lock(&self->lock);
    const int64_t end = self->count;
    self->count = self->claimed; /* nothing more is claimed while the workers finish */
    while (self->busy) pthread_cond_wait(&self->ready, &self->lock);
    for (int64_t i = 0; i < self->ahead; i++) self->slots[i].ready = false;
    self->claimed = self->taken = 0;
    self->count = end;
    pthread_cond_broadcast(&self->room);
    pthread_mutex_unlock(&self->lock);
}

static nd_status prefetch_allocate(nd_prefetch *self) {
    self->floats = (size_t)(nd_preprocess_channels(&self->preprocess) * self->height * self->width);
    self->pixels = nd_alloc_array((size_t)self->ahead, self->floats * sizeof *self->pixels);
    self->slots = nd_alloc_array((size_t)self->ahead, sizeof *self->slots);
    self->threads = nd_alloc_array(nd_prefetch_workers_max, sizeof *self->threads);
    ND_REQUIRE(self->pixels && self->slots && self->threads, nd_status_memory,
               "no memory for %lld pictures of %zu numbers ahead", (long long)self->ahead, self->floats);
    for (int64_t i = 0; i < self->ahead; i++) self->slots[i].pixels = self->pixels + (size_t)i * self->floats;
    return nd_status_ok;
}

static nd_status prefetch_start(nd_prefetch *self, int workers) {
    if (workers > nd_prefetch_workers_max) workers = nd_prefetch_workers_max;
    while (self->n_threads < workers &&
           !pthread_create(&self->threads[self->n_threads], NULL, prefetch_work, self))
        self->n_threads++;
    ND_REQUIRE(self->n_threads, nd_status_memory, "no thread to decode pictures in");
    return nd_status_ok;
}

nd_status nd_prefetch_open(const nd_prefetch_settings *settings, nd_prefetch **out) {
    *out = NULL;
    nd_prefetch *self = calloc(1, sizeof *self);
    ND_REQUIRE(self, nd_status_memory, "no memory");
    self->source = settings->source;
    self->preprocess = *settings->preprocess;
    self->first = settings->first;
    self->count = settings->count;
    self->height = settings->height;
    self->width = settings->width;
    self->ahead = settings->ahead;
    pthread_mutex_init(&self->lock, NULL);
    pthread_cond_init(&self->room, NULL);
    pthread_cond_init(&self->ready, NULL);
    nd_status status = prefetch_allocate(self);
    if (!status) status = prefetch_start(self, settings->workers);
    if (status)
        nd_prefetch_close(self);
    else
        *out = self;
    return status;
}

void nd_prefetch_close(nd_prefetch *self) {
    if (!self) return;
    pthread_mutex_lock(&self->lock);
    self->stop = true;
    pthread_cond_broadcast(&self->room);
    pthread_mutex_unlock(&self->lock);
    for (int i = 0; i < self->n_threads; i++) pthread_join(self->threads[i], NULL);
    pthread_cond_destroy(&self->ready);
    pthread_cond_destroy(&self->room);
    pthread_mutex_destroy(&self->lock);
    free(self->threads);
    free(self->slots);
    free(self->pixels);
    free(self);
}
