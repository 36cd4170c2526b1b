#include "cli/cli.h"

const nd_verb nd_verb_table[] = {
    {"inspect", "MODEL", "layers, shapes, MACs, parameters, energy and error by rank", 1, 1, nd_verb_inspect},
    {"decouple", "MODEL -o OUT", "replace convolutions by depthwise separable ones", 1, 1, nd_verb_decouple},
    {"quantize", "MODEL -o OUT", "8 bits by the ranges on --calib images, as an ONNX file", 1, 1,
     nd_verb_quantize},
    {"eval", "MODEL... --data DATASET", "top-1 and top-5, and the drop against an original", 1, -1,
     nd_verb_eval},
    {"bench", "MODEL|SUITE", "dense against decoupled, layer by layer and end to end", 1, 1, nd_verb_bench},
    {"sweep", "MODEL", "the cross product of lists and ranges of settings, resumable", 1, 1, nd_verb_sweep},
    {"compare", "BASE NEW | --aa N RUN...", "the nightly gate: is NEW slower or less accurate, row by row", 1,
     -1, nd_verb_compare},
    {"report", "ROWS...", "tables and plots of rows, one self-contained file", 1, -1, nd_verb_report},
    {"reproduce", "TABLE", "a published table beside ours", 0, 2, nd_verb_reproduce},
    {"check", "", "compare a backend with the reference, operation by operation", 0, 0, nd_verb_check},
    {"devices", "", "backends, their devices, and why one is missing", 0, 0, nd_verb_devices},
    {"zoo", "", "the architectures nd builds itself", 0, 0, nd_verb_zoo},
    {0},
};
