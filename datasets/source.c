#include "datasets/source.h"

nd_status nd_source_refuse_split(const char *path, nd_split asked) {
    ND_REQUIRE(asked == nd_split_none, nd_status_usage,
               "%s: has no splits; leave \":test\" or \":calib\" away", path);
    return nd_status_ok;
}
