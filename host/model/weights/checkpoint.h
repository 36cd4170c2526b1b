/* Private to this room: a PyTorch checkpoint under way. Its pickle says which tensors there are and which
 * storages they view; the container has the bytes of the storages. */
#ifndef ND_MODEL_WEIGHTS_CHECKPOINT_H
#define ND_MODEL_WEIGHTS_CHECKPOINT_H

#include "base/format/pickle.h"
#include "model/weights/state_dict.h"

/* The numbers that one or several tensors view, as the pickle's persistent identification has them. */
typedef struct nd_storage {
    const char *key; /* of `length` bytes, not ended */
    size_t length;
    nd_dtype dtype;
    int64_t count;      /* numbers that may be viewed */
    int64_t first;      /* where they begin in the stored ones: old files have storages that view another */
    int64_t root_count; /* numbers that are stored */
} nd_storage;

/* Where they are: `data` is aligned for the type and lives as long as `buffer`, which the container owns. */
typedef struct nd_storage_bytes {
    nd_buffer *buffer;
    unsigned char *data;
} nd_storage_bytes;

typedef struct nd_checkpoint nd_checkpoint;

typedef struct nd_checkpoint_container {
    /* Parses the pickle of the whole; its values live in the checkpoint's arena. */
    nd_status (*open)(nd_checkpoint *checkpoint, nd_pickle_result *out);
    nd_status (*storage)(nd_checkpoint *checkpoint, const nd_storage *storage, nd_storage_bytes *out);
    void (*close)(nd_checkpoint *checkpoint);
} nd_checkpoint_container;

extern const nd_checkpoint_container nd_checkpoint_zip, nd_checkpoint_legacy;

struct nd_checkpoint {
    const char *file; /* for messages */
    nd_buffer *bytes;
    nd_arena arena;
    const nd_checkpoint_container *container;
    void *state; /* the container's */
    /* Bytes that may still be made out of the file's: unpacked, or put together by strides. An honest file
     * needs little more than its own size; a bomb is stopped before it is unpacked. */
    size_t budget;
};

enum {
    nd_checkpoint_growth = 4,
    nd_checkpoint_free = 64 << 20
}; /* budget: bytes a byte of file, and beside */

/* Takes from the budget; nd_status_unsupported when it is spent. */
nd_status nd_checkpoint_spend(nd_checkpoint *checkpoint, size_t bytes);

/* What may occur in the pickles of a checkpoint. */
extern const char *const nd_checkpoint_globals[];

/* Reads the identification of a storage; nd_status_format or unsupported, without the file's name. */
nd_status nd_storage_read(const nd_pickle *persistent, nd_storage *out);

#endif
