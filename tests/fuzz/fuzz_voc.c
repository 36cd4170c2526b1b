#include "datasets/annotations/voc_xml.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* An annotation of PASCAL VOC: what is taken has a known class and a box in its picture. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const names[] = {"dog", "person"};
    const nd_voc_classes classes = {names, 2};
    nd_annotated annotated = {0};
    if (nd_voc_read_xml((const char *)data, size, "fuzz.xml", &classes, 3, &annotated)) {
        if (!strstr(nd_error(), "fuzz.xml:")) __builtin_trap();
    } else {
        for (size_t i = 0; i < annotated.count; i++) {
            const nd_object *object = &annotated.items[i].object;
            if (annotated.items[i].picture != 3 || object->label < 0 || object->label > 1) __builtin_trap();
            if (!(object->box.width >= 0 && object->box.height >= 0 && object->box.x >= -nd_box_tolerance))
                __builtin_trap();
        }
    }
    free(annotated.items);
    return 0;
}
