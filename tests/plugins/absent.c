/* The library that is not there when the plugin is loaded. */
int nd_broken_absent(void);

__attribute__((visibility("default"))) int nd_broken_absent(void) {
    return 0;
}
