/* What a file is by its first bytes, whatever its name says. */
#ifndef ND_BASE_FORMAT_KIND_H
#define ND_BASE_FORMAT_KIND_H

#include <stddef.h>

typedef enum nd_file_kind {
    nd_file_unknown,
    nd_file_onnx,
    nd_file_safetensors,
    nd_file_zip,    /* a PyTorch checkpoint is one */
    nd_file_pickle, /* an older checkpoint is a row of them */
    nd_file_other,  /* something that nothing here reads, but that can be named */
} nd_file_kind;

/* *text says it in words that can stand after "FILE: ": "an HTML page, ...". */
nd_file_kind nd_file_kind_of(const void *data, size_t bytes, const char **text);

#endif
