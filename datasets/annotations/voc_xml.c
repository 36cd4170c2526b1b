#include "datasets/annotations/voc_xml.h"

#include "base/text/text.h"

#include <expat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { nd_voc_depth_max = 32, nd_voc_text_max = 256 };

typedef struct nd_voc_reader {
    XML_Parser parser;
    const char *path;
    const nd_voc_classes *classes;
    nd_annotated *out;
    int64_t picture;
    nd_status status;              /* the first failure; its message is recorded */
    char where[1024];              /* the elements around, "annotation/object/name" */
    size_t ends[nd_voc_depth_max]; /* of `where` without the element of that depth */
    int depth;
    char text[nd_voc_text_max];
    size_t length;        /* of the text of the innermost element, cut or not */
    double width, height; /* of the picture; 0 where not said yet */
    size_t first;         /* of the objects of this file in `out` */
    int64_t *lines;       /* of their boxes */
    size_t lines_capacity;
    struct {
        double bounds[4]; /* xmin, ymin, xmax, ymax */
        unsigned seen;    /* of them, by bits */
        int32_t label;    /* -1: not said yet */
        bool difficult;
        int64_t line;
    } object;
} nd_voc_reader;

static int64_t voc_line(const nd_voc_reader *reader) {
    return (int64_t)XML_GetCurrentLineNumber(reader->parser);
}

static void voc_stop(nd_voc_reader *reader, nd_status status) {
    if (!reader->status) reader->status = status;
    XML_StopParser(reader->parser, XML_FALSE);
}

/* --- fields: what is done with the text of an element */

static nd_status voc_number(const nd_voc_reader *reader, double *out) {
    ND_REQUIRE(nd_text_real(reader->text, out), nd_status_format, "%s:%lld: %s: \"%.40s\" is no number",
               reader->path, (long long)voc_line(reader), reader->where, reader->text);
    return nd_status_ok;
}

static nd_status voc_bound(nd_voc_reader *reader, int index) {
    reader->object.seen |= 1u << index;
    return voc_number(reader, &reader->object.bounds[index]);
}

static nd_status voc_xmin(nd_voc_reader *reader) {
    return voc_bound(reader, 0);
}

static nd_status voc_ymin(nd_voc_reader *reader) {
    return voc_bound(reader, 1);
}

static nd_status voc_xmax(nd_voc_reader *reader) {
    return voc_bound(reader, 2);
}

static nd_status voc_ymax(nd_voc_reader *reader) {
    return voc_bound(reader, 3);
}

static nd_status voc_width(nd_voc_reader *reader) {
    return voc_number(reader, &reader->width);
}

static nd_status voc_height(nd_voc_reader *reader) {
    return voc_number(reader, &reader->height);
}

static nd_status voc_difficult(nd_voc_reader *reader) {
    double value;
    ND_TRY(voc_number(reader, &value));
    reader->object.difficult = value != 0;
    return nd_status_ok;
}

static nd_status voc_name(nd_voc_reader *reader) {
    for (int32_t i = 0; i < reader->classes->count; i++)
        if (!strcmp(reader->classes->names[i], reader->text)) reader->object.label = i;
    ND_REQUIRE(reader->object.label >= 0, nd_status_format,
               "%s:%lld: class \"%.80s\" is none of the %d of the set", reader->path,
               (long long)voc_line(reader), reader->text, (int)reader->classes->count);
    return nd_status_ok;
}

static nd_status voc_object(nd_voc_reader *reader) {
    const double *bounds = reader->object.bounds;
    ND_REQUIRE(reader->object.label >= 0, nd_status_format, "%s:%lld: an object without a name", reader->path,
               (long long)reader->object.line);
    ND_REQUIRE(reader->object.seen == 15, nd_status_format,
               "%s:%lld: an object without all of xmin, ymin, xmax, ymax", reader->path,
               (long long)reader->object.line);
    nd_object object = {
        .box = {bounds[0] - 1, bounds[1] - 1, bounds[2] - bounds[0] + 1, bounds[3] - bounds[1] + 1},
        .label = reader->object.label,
        .difficult = reader->object.difficult};
    object.area = object.box.width * object.box.height;
    int64_t *lines = nd_array_grow(reader->lines, reader->out->count - reader->first, &reader->lines_capacity,
                                   sizeof *lines);
    ND_REQUIRE(lines, nd_status_memory, "%s: no memory for its objects", reader->path);
    reader->lines = lines;
    lines[reader->out->count - reader->first] = reader->object.line;
    return nd_annotated_add(reader->out, reader->picture, &object);
}

static const struct {
    const char *where;
    nd_status (*read)(nd_voc_reader *reader);
} nd_voc_fields[] = {
    {"annotation/size/width", voc_width},        {"annotation/size/height", voc_height},
    {"annotation/object/name", voc_name},        {"annotation/object/difficult", voc_difficult},
    {"annotation/object/bndbox/xmin", voc_xmin}, {"annotation/object/bndbox/ymin", voc_ymin},
    {"annotation/object/bndbox/xmax", voc_xmax}, {"annotation/object/bndbox/ymax", voc_ymax},
    {"annotation/object", voc_object},
};

/* --- what expat calls */

static void XMLCALL voc_begin(void *user, const XML_Char *name, const XML_Char **attributes) {
    (void)attributes;
    nd_voc_reader *reader = user;
    const size_t used = strlen(reader->where), length = strlen(name);
    if (reader->depth == nd_voc_depth_max || used + length + 2 > sizeof reader->where) {
        voc_stop(reader, nd_fail(nd_status_format, "%s:%lld: elements within elements: more than %d",
                                 reader->path, (long long)voc_line(reader), nd_voc_depth_max));
        return;
    }
    if (!reader->depth && strcmp(name, "annotation")) {
        voc_stop(reader, nd_fail(nd_status_format, "%s:%lld: <%.40s> is no annotation of PASCAL VOC",
                                 reader->path, (long long)voc_line(reader), name));
        return;
    }
    reader->ends[reader->depth++] = used;
    snprintf(reader->where + used, sizeof reader->where - used, "%s%s", used ? "/" : "", name);
    reader->length = 0;
    if (strcmp(reader->where, "annotation/object") != 0) return;
    memset(&reader->object, 0, sizeof reader->object);
    reader->object.label = -1;
    reader->object.line = voc_line(reader);
}

static void voc_trim(nd_voc_reader *reader) {
    static const char blank[] = " \t\r\n";
    size_t end = reader->length < sizeof reader->text ? reader->length : sizeof reader->text - 1;
    reader->text[end] = '\0';
    end = strlen(reader->text);
    while (end && strchr(blank, reader->text[end - 1])) reader->text[--end] = '\0';
    const size_t lead = strspn(reader->text, blank);
    memmove(reader->text, reader->text + lead, end - lead + 1);
}

static void XMLCALL voc_end(void *user, const XML_Char *name) {
    (void)name;
    nd_voc_reader *reader = user;
    if (reader->status) return;
    voc_trim(reader);
    nd_status status = nd_status_ok;
    for (size_t i = 0; i < sizeof nd_voc_fields / sizeof *nd_voc_fields; i++)
        if (!strcmp(nd_voc_fields[i].where, reader->where)) status = nd_voc_fields[i].read(reader);
    reader->where[reader->ends[--reader->depth]] = '\0';
    reader->length = 0;
    if (status) voc_stop(reader, status);
}

static void XMLCALL voc_text(void *user, const XML_Char *text, int length) {
    nd_voc_reader *reader = user;
    if (reader->length < sizeof reader->text) {
        const size_t room = sizeof reader->text - reader->length;
        memcpy(reader->text + reader->length, text, (size_t)length < room ? (size_t)length : room);
    }
    reader->length += (size_t)length;
}

static void XMLCALL voc_entity(void *user, const XML_Char *name, int is_parameter, const XML_Char *value,
                               int length, const XML_Char *base, const XML_Char *system,
                               const XML_Char *public, const XML_Char *notation) {
    (void)is_parameter, (void)value, (void)length, (void)base, (void)system, (void)public, (void)notation;
    nd_voc_reader *reader = user;
    voc_stop(reader, nd_fail(nd_status_format, "%s:%lld: declares the entity \"%.40s\": refused",
                             reader->path, (long long)voc_line(reader), name));
}

/* The size may stand behind the objects. */
static nd_status voc_check(const nd_voc_reader *reader) {
    for (size_t i = reader->first; i < reader->out->count; i++) {
        const nd_place place = {reader->path, reader->lines[i - reader->first]};
        ND_TRY(nd_box_check(reader->out->items[i].object.box, reader->width, reader->height, place));
    }
    return nd_status_ok;
}

static nd_status voc_parse(nd_voc_reader *reader, const char *text, size_t length) {
    enum { piece = 1 << 20 }; /* expat counts in int */
    XML_SetUserData(reader->parser, reader);
    XML_SetElementHandler(reader->parser, voc_begin, voc_end);
    XML_SetCharacterDataHandler(reader->parser, voc_text);
    XML_SetEntityDeclHandler(reader->parser, voc_entity);
    for (size_t at = 0; at <= length; at += piece) {
        const size_t rest = length - at;
        const bool last = rest <= piece;
        if (XML_Parse(reader->parser, text + at, last ? (int)rest : piece, last)) continue;
        if (reader->status) return reader->status;
        return nd_fail(nd_status_format, "%s:%lld: %s", reader->path, (long long)voc_line(reader),
                       XML_ErrorString(XML_GetErrorCode(reader->parser)));
    }
    return voc_check(reader);
}

nd_status nd_voc_read_xml(const char *text, size_t length, const char *path, const nd_voc_classes *classes,
                          int64_t picture, nd_annotated *out) {
    nd_voc_reader reader = {.parser = XML_ParserCreate(NULL),
                            .path = path,
                            .classes = classes,
                            .out = out,
                            .picture = picture,
                            .first = out->count};
    ND_REQUIRE(reader.parser, nd_status_memory, "%s: no memory", path);
    const nd_status status = voc_parse(&reader, text, length);
    XML_ParserFree(reader.parser);
    free(reader.lines);
    return status;
}
