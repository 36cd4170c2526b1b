/* Private to the zoo: weights of a file under an architecture's own names. */
#ifndef ND_MODEL_ZOO_WEIGHTS_H
#define ND_MODEL_ZOO_WEIGHTS_H

#include "model/zoo/zoo.h"

typedef struct nd_zoo_weights nd_zoo_weights;
struct nd_zoo_plan;

/* `path` and `plan` outlive it. */
nd_status nd_zoo_weights_open(const char *path, const struct nd_zoo_plan *plan, nd_zoo_weights **out);
void nd_zoo_weights_close(nd_zoo_weights *weights); /* NULL is legal */

/* Features of the head in the file; 0 where there is none. */
int64_t nd_zoo_weights_classes(const nd_zoo_weights *weights);

/* An nd_zoo_source, `context` the weights. What does not fit does not stop the building: the parameter stays
 * blank, and nd_zoo_weights_judge tells of all. */
nd_zoo_source nd_zoo_weights_source;
nd_status nd_zoo_weights_judge(nd_zoo_weights *weights, const char *arch);

/* The tensor of that name, which then counts as used; NULL when absent. */
const nd_tensor *nd_zoo_weights_take(nd_zoo_weights *weights, const char *name);

/* A parameter that a file may hold in parts. Leaves *out empty where it does not. */
typedef nd_status nd_zoo_make(nd_zoo_weights *weights, const char *name, int rank, const int64_t *dims,
                              nd_tensor *out);

/* The one convolution that RepVGG's parallel ones are at inference (Ding et al., CVPR 2021, section 3.3). */
nd_zoo_make nd_zoo_repvgg_make;

#endif
