#include "model/model.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Reads every byte of every tensor, so that a range outside the file shows. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    nd_buffer *bytes;
    if (nd_buffer_new(size, &bytes)) return 0;
    memcpy(bytes->data, data, size);
    nd_state_dict file;
    if (!nd_safetensors_parse(bytes, "fuzz", &file)) {
        volatile unsigned char sum = 0;
        for (size_t i = 0; i < file.n_entries; i++) {
            const unsigned char *data_of = file.entries[i].tensor.data;
            for (size_t j = 0; j < nd_tensor_bytes(&file.entries[i].tensor); j++) sum ^= data_of[j];
            if (!nd_state_dict_find(&file, file.entries[i].name)) __builtin_trap();
        }
        nd_state_dict_free(&file);
    }
    nd_buffer_unref(bytes);
    return 0;
}
