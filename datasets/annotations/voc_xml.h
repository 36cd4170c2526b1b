/* One annotation file of PASCAL VOC. */
#ifndef ND_DATASETS_VOC_XML_H
#define ND_DATASETS_VOC_XML_H

#include "datasets/annotations/annotated.h"

typedef struct nd_voc_classes {
    const char *const *names;
    int32_t count;
} nd_voc_classes;

/* Adds the objects of picture number `picture`. The boxes count whole pixels from 1, both bounds
 * included. Parts of objects are passed over. nd_status_format naming file and line: XML that is cut or
 * broken, any declaration of an entity (which no annotation needs, and with which small files expand
 * without end), classes not among `classes`, boxes that are incomplete or out of the picture. */
nd_status nd_voc_read_xml(const char *text, size_t length, const char *path, const nd_voc_classes *classes,
                          int64_t picture, nd_annotated *out);

#endif
