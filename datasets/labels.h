/* Class maps: which output of the network a class of the data set is.
 *
 * A map is a text file of one of three forms, told apart by where its numbers stand:
 *   NAME CLASS   on each line: a folder of the set, or a class number of its list, and the output it is;
 *   CLASS NAME   the other way round, anything may follow;
 *   NAME         on line i (from 0): the class of output i; what follows the first word is free text.
 * The word "numbers" in place of a file stands for folders that are called by their class number. */
#ifndef ND_DATASETS_LABELS_H
#define ND_DATASETS_LABELS_H

#include "datasets/source.h"

typedef struct nd_labels nd_labels;

/* `classes`: the map, or NULL for the set's own numbers; `offset` is added to every known class in the end.
 * Every class of the source must be in the map: nd_status_format names the first that is not. */
nd_status nd_labels_open(const char *classes, int64_t offset, const nd_source *source, nd_labels **out);
void nd_labels_close(nd_labels *labels); /* NULL is legal */

/* The output that stands for a label of the source; -1 stays -1. False where there is none. */
bool nd_labels_map(const nd_labels *labels, int32_t label, int32_t *out);

void nd_labels_identify(const nd_labels *labels, nd_sha256 *hash);

#endif
