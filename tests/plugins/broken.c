/* Plugins that nd must refuse, by what is defined:
 *   ND_BROKEN_ABI     of another interface
 *   ND_BROKEN_NEEDS   in need of a library that is not there
 *   neither           with no entry */
#include "run/backend.h"

#ifdef ND_BROKEN_ABI
extern __attribute__((visibility("default"))) const nd_plugin nd_plugin_entry;
const nd_plugin nd_plugin_entry = {.abi = nd_plugin_abi + 6, .name = "cuda"};
#else
int nd_broken_absent(void);
int nd_broken(void);

int nd_broken(void) {
#    ifdef ND_BROKEN_NEEDS
    return nd_broken_absent();
#    else
    return 0;
#    endif
}
#endif
