#include "base/log.h"
#include "model/model.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void drop(void *user, nd_log_level level, const char *message) {
    (void)user, (void)level, (void)message;
}

/* Reads every byte of every tensor, so that a view outside its storage shows. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    nd_buffer *bytes;
    nd_log_set(drop, NULL);
    if (nd_buffer_new(size, &bytes)) return 0;
    if (size) memcpy(bytes->data, data, size);
    nd_state_dict file;
    const nd_status status = nd_checkpoint_parse(bytes, "fuzz", &file);
    nd_buffer_unref(bytes);
    if (status) return 0;
    volatile unsigned char sum = 0;
    for (size_t i = 0; i < file.n_entries; i++) {
        const nd_tensor *tensor = &file.entries[i].tensor;
        const unsigned char *at = tensor->data;
        if ((uintptr_t)at % nd_dtype_bytes(tensor->dtype)) __builtin_trap();
        for (size_t j = 0; j < nd_tensor_bytes(tensor); j++) sum ^= at[j];
        if (!nd_state_dict_find(&file, file.entries[i].name)) __builtin_trap();
    }
    nd_state_dict_free(&file);
    return 0;
}
