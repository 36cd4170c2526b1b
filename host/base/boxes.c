#include "base/boxes.h"

#include <math.h>

double nd_box_overlap(nd_box found, nd_box object, bool crowd) {
    const double width = fmin(found.width + found.x, object.width + object.x) - fmax(found.x, object.x);
    if (!(width > 0)) return 0;
    const double height = fmin(found.height + found.y, object.height + object.y) - fmax(found.y, object.y);
    if (!(height > 0)) return 0;
    const double both = width * height, area = found.width * found.height;
    return both / (crowd ? area : area + object.width * object.height - both);
}
