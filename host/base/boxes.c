#include "base/boxes.h"

#include <math.h>

nd_box nd_box_in(const nd_frame *frame, nd_box box) {
    return (nd_box){box.x * frame->scale_x + frame->left, box.y * frame->scale_y + frame->top,
                    box.width * frame->scale_x, box.height * frame->scale_y};
}

static double box_within(double value, double most) {
    return fmin(fmax(value, 0), most);
}

nd_box nd_box_out(const nd_frame *frame, nd_box box) {
    const double x = box_within((box.x - frame->left) / frame->scale_x, frame->width);
    const double y = box_within((box.y - frame->top) / frame->scale_y, frame->height);
    const double right = box_within((box.x + box.width - frame->left) / frame->scale_x, frame->width);
    const double below = box_within((box.y + box.height - frame->top) / frame->scale_y, frame->height);
    return (nd_box){x, y, fmax(right - x, 0), fmax(below - y, 0)};
}

double nd_box_overlap(nd_box found, nd_box object, bool crowd) {
    const double width = fmin(found.width + found.x, object.width + object.x) - fmax(found.x, object.x);
    if (!(width > 0)) return 0;
    const double height = fmin(found.height + found.y, object.height + object.y) - fmax(found.y, object.y);
    if (!(height > 0)) return 0;
    const double both = width * height, area = found.width * found.height;
    return both / (crowd ? area : area + object.width * object.height - both);
}
