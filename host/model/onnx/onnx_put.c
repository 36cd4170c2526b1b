#include "model/onnx/onnx_out.h"

#include <stdlib.h>
#include <string.h>

enum {
    nd_onnx_external_align = 64,  /* of tensors in the data file */
    nd_onnx_external_least = 1024 /* smaller tensors stay in the model, where shape inference sees them */
};

nd_status nd_onnx_put_external(nd_onnx_writer *writer, const Nd__Onnx__Tensor *proto, nd_span bytes) {
    static const uint8_t zeros[nd_onnx_external_align];
    nd_pieces *data = &writer->external->data;
    const size_t gap = (size_t)(-data->bytes % nd_onnx_external_align);
    ND_TRY(nd_pieces_add(data, (nd_span){zeros, gap}));
    char *offset = nd_arena_printf(&writer->arena, "%llu", (unsigned long long)data->bytes);
    char *length = nd_arena_printf(&writer->arena, "%zu", bytes.bytes);
    ND_REQUIRE(offset && length, nd_status_memory, "no memory to write a model");
    ND_TRY(nd_pieces_add(data, bytes));
    Nd__Onnx__Entry entries[3] = {ND__ONNX__ENTRY__INIT, ND__ONNX__ENTRY__INIT, ND__ONNX__ENTRY__INIT};
    Nd__Onnx__Entry *pointers[3] = {&entries[0], &entries[1], &entries[2]};
    entries[0].key = "location", entries[0].value = (char *)(uintptr_t)writer->external->location;
    entries[1].key = "offset", entries[1].value = offset;
    entries[2].key = "length", entries[2].value = length;
    Nd__Onnx__Tensor outside = *proto;
    outside.n_external_data = 3;
    outside.external_data = pointers;
    outside.has_data_location = 1;
    outside.data_location = 1;
    return nd_pieces_add_message(&writer->body, nd_onnx_graph_initializer, &outside.base);
}

nd_status nd_onnx_put_tensor(nd_onnx_writer *writer, const char *name, const nd_tensor *tensor) {
    Nd__Onnx__Tensor proto = ND__ONNX__TENSOR__INIT;
    const nd_span bytes = {tensor->data, nd_tensor_bytes(tensor)};
    proto.n_dims = (size_t)tensor->rank;
    proto.dims = (int64_t *)(uintptr_t)tensor->dims; /* packing only reads */
    proto.has_data_type = 1;
    proto.data_type = nd_onnx_dtype_code(tensor->dtype);
    proto.name = (char *)(uintptr_t)name;
    if (writer->outside && bytes.bytes >= nd_onnx_external_least)
        return nd_onnx_put_external(writer, &proto, bytes);
    const size_t head = nd__onnx__tensor__get_packed_size(&proto);
    uint8_t *packed = nd_arena_alloc(&writer->arena, head + 2 * nd_wire_varint_max);
    ND_REQUIRE(packed, nd_status_memory, "no memory to write a model");
    nd__onnx__tensor__pack(&proto, packed);
    const size_t key = nd_wire_put_header(packed + head, nd_onnx_tensor_raw, bytes.bytes);
    nd_span parts[] = {{packed, head + key}, bytes};
    nd_pieces message = {.items = parts, .count = 2, .bytes = head + key + bytes.bytes};
    return nd_pieces_add_pieces(&writer->body, nd_onnx_graph_initializer, &message);
}

nd_status nd_onnx_put_info(nd_pieces *pieces, uint32_t number, const char *name, nd_dtype dtype, int rank,
                           const int64_t *dims) {
    Nd__Onnx__ValueInfo info = ND__ONNX__VALUE_INFO__INIT;
    Nd__Onnx__Type type = ND__ONNX__TYPE__INIT;
    Nd__Onnx__Type__TensorType tensor = ND__ONNX__TYPE__TENSOR_TYPE__INIT;
    Nd__Onnx__Type__Shape shape = ND__ONNX__TYPE__SHAPE__INIT;
    Nd__Onnx__Type__Dimension parts[nd_rank_max], *pointers[nd_rank_max];
    for (int i = 0; i < rank; i++) {
        nd__onnx__type__dimension__init(&parts[i]);
        pointers[i] = &parts[i];
        parts[i].has_dim_value = dims[i] >= 0;
        if (parts[i].has_dim_value) parts[i].dim_value = dims[i];
        if (!i && dims[i] < 0) parts[i].dim_param = "N";
    }
    info.name = (char *)(uintptr_t)name;
    info.type = &type;
    type.tensor_type = &tensor;
    tensor.has_elem_type = 1;
    tensor.elem_type = nd_onnx_dtype_code(dtype);
    if (rank >= 0) tensor.shape = &shape;
    shape.n_dim = rank > 0 ? (size_t)rank : 0;
    shape.dim = pointers;
    return nd_pieces_add_message(pieces, number, &info.base);
}

nd_status nd_onnx_put_meta(nd_onnx_writer *writer, const nd_meta *meta) {
    Nd__Onnx__Entry entry = ND__ONNX__ENTRY__INIT;
    entry.key = (char *)(uintptr_t)meta->key;
    entry.value = (char *)(uintptr_t)meta->text;
    return nd_pieces_add_message(&writer->model, nd_onnx_model_metadata, &entry.base);
}
