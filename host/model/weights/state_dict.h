/* Private to this room: what its readers share. */
#ifndef ND_MODEL_WEIGHTS_STATE_DICT_H
#define ND_MODEL_WEIGHTS_STATE_DICT_H

#include "model/model.h"

/* By name, as nd_state_dict_find needs them. */
void nd_state_dict_sort(nd_state_dict *file);

#endif
