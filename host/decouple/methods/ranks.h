/* How the terms of a layer are spread over its slices. */
#ifndef ND_DECOUPLE_RANKS_H
#define ND_DECOUPLE_RANKS_H

/* Every slice (an input channel of dwpw, an output channel of pwdw) has the same number of terms, or the most
 * energetic terms of the whole layer are taken. */
typedef enum nd_ranks { nd_ranks_uniform, nd_ranks_adaptive } nd_ranks;

#endif
