/* Which reader a file of weights is for. */
#include "base/files/file.h"
#include "base/format/kind.h"
#include "model/model.h"

#include <string.h>

static bool ends_with(const char *text, const char *suffix) {
    const size_t length = strlen(text), tail = strlen(suffix);
    return length >= tail && !strcmp(text + length - tail, suffix);
}

static nd_status state_dict_parse(nd_buffer *bytes, const char *path, nd_state_dict *out) {
    const char *text;
    switch (nd_file_kind_of(bytes->data, bytes->bytes, &text)) {
    case nd_file_zip:
    case nd_file_pickle:
        return nd_checkpoint_parse(bytes, path, out);
    case nd_file_safetensors:
        return nd_safetensors_parse(bytes, path, out);
    case nd_file_unknown: /* its reader says what is wrong */
        if (ends_with(path, ".safetensors")) return nd_safetensors_parse(bytes, path, out);
        return nd_fail(nd_status_format, "%s: no safetensors file and no PyTorch checkpoint", path);
    default:
        return nd_fail(nd_status_format, "%s: %s; expected a safetensors file or a PyTorch checkpoint", path,
                       text);
    }
}

nd_status nd_state_dict_read(const char *path, nd_state_dict *out) {
    *out = (nd_state_dict){0};
    nd_buffer *bytes;
    ND_TRY(nd_file_map(path, &bytes));
    nd_status status = state_dict_parse(bytes, path, out);
    nd_buffer_unref(bytes);
    return status;
}
