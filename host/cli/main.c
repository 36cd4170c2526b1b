#include "cli/cli.h"
#include <stdio.h>
int main(void) {
    return 0;
}
