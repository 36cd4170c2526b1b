#include "cli/cli.h"

/* Everything the command line understands. Help, completions and the man page are printed from here. */
const nd_option nd_option_table[] = {
    /* what to do it with */
    {"backend", 0, "NAME", false, "*",
     "auto, ref, cpu or cuda; a comma list in bench and sweep (default auto)"},
    {"device", 0, "N", false, "*", "device of the backend, as `nd devices` numbers them (default 0)"},
    {"threads", 0, "N", false, "*", "CPU threads, 0 for all cores; a list in bench (default 0)"},
    {"isa", 0, "NAME", false, "*", "force our CPU kernels to scalar, avx2 or avx512"},
    {"dtype", 0, "TYPE", false, "eval bench sweep check",
     "fp32, tf32, fp16 or bf16; a list in bench and sweep (default fp32)"},
    {"batch", 0, "N", false, "inspect eval bench sweep reproduce", "images a run; a list in bench and sweep"},
    {"input", 0, "HxW", false, "inspect decouple eval bench sweep",
     "image size for a model that does not fix it"},
    {"tune", 0, NULL, false, "eval bench sweep", "measure alternatives per layer and cache the winner"},

    /* decoupling */
    {"output", 'o', "FILE", false, "decouple report", "file to write"},
    {"method", 0, "NAME", false, "inspect decouple bench sweep reproduce",
     "auto, dwpw, pwdw, spatial, channel, spatial+dwpw, channel+dwpw, ...; a list in sweep (default auto)"},
    {"rank", 0, "T", false, "inspect decouple bench sweep",
     "T terms per channel in every chosen layer; a list in bench and sweep"},
    {"energy", 0, "E", false, "decouple sweep",
     "smallest rank whose mean energy per slice reaches E (the paper's rule)"},
    {"frobenius", 0, "E", false, "decouple sweep", "smallest rank that keeps E of the kernel's squared norm"},
    {"macs-ratio", 0, "R", false, "decouple sweep",
     "make the network R times smaller in MACs, ranks by error per MAC"},
    {"conv-only", 0, NULL, false, "decouple sweep", "count convolutions alone in --macs-ratio"},
    {"latency-ratio", 0, "R", false, "decouple sweep",
     "make the network R times faster by measured layer times"},
    {"max-drop", 0, "P", false, "decouple sweep",
     "cheapest setting that loses at most P points of top-5 on --data"},
    {"ranks", 0, "KIND", false, "inspect decouple bench sweep",
     "uniform or adaptive; a list in sweep (default uniform)"},
    {"round", 0, "N", false, "decouple sweep", "round ranks to a multiple of N"},
    {"layer", 0, "PATTERN=SETTING", true, "decouple sweep",
     "rank, method, method:rank or dense for the layers that match"},
    {"skip", 0, "PATTERN", true, "inspect decouple sweep",
     "leave matching layers dense; `none` decouples the first conv as well"},
    {"calib", 0, "DATASET", false, "decouple sweep reproduce",
     "calibrate on these unlabelled images; `synthetic` needs none"},
    {"calib-images", 0, "N", false, "decouple sweep reproduce", "how many of them (default 256)"},
    {"ridge", 0, "L", false, "decouple sweep",
     "ridge towards the original weights (default by pixels per unknown)"},
    {"quick", 0, NULL, false, "decouple sweep",
     "allocate by each layer's output error, without measuring curves"},
    {"light", 0, NULL, false, "decouple sweep", "calibrate gain and bias only"},
    {"output-metric", 0, NULL, false, "decouple sweep", "weigh a layer's error by its effect on the output"},
    {"relu-aware", 0, NULL, false, "decouple sweep", "refit through the ReLU that follows"},

    /* data */
    {"data", 0, "DATASET", false, "decouple eval sweep reproduce",
     "imagefolder:DIR, list:FILE, cifar10:PATH or glyphs"},
    {"preprocess", 0, "RECIPE", false, "decouple eval sweep reproduce",
     "a named recipe or resize=,crop=,order=,scale=,mean=,std="},
    {"original", 0, "MODEL", false, "eval", "also measure this model: drop, interval, agreement"},
    {"first", 0, "N", false, "eval sweep", "start at image N (default 0)"},
    {"limit", 0, "N", false, "eval sweep reproduce", "at most N images (default all)"},
    {"workers", 0, "N", false, "eval sweep", "decoding threads"},

    /* checks, sweeps, gates */
    {"op", 0, "PATTERN", false, "check", "only cases whose name matches, such as separable/*"},
    {"seed", 0, "N", false, "check", "seed of the inputs (default 1)"},
    {"list", 0, NULL, false, "check", "name the cases and run none"},
    {"shard", 0, "I/N", false, "sweep", "do the I-th of N shares (from 1)"},
    {"strict", 0, NULL, false, "bench compare", "exit 5 when the measurement is inconclusive"},

    {"impl", 0, "LIST", false, "bench", "dense, unfused, fused, best (default all); dense is always timed"},
    {"cache", 0, "LIST", false, "bench",
     "cold, hot (default both): rotate buffers through the caches or not"},
    {"whole", 0, NULL, false, "bench", "with a suite: also its network end to end, with random weights"},
    {"time-limit", 0, "S", false, "bench compare",
     "seconds for all implementations of a layer together (default 15)"},

    /* output */
    {"json", 0, "FILE", false, "*", "write rows as JSON lines; - is stdout, which then holds nothing else"},
    {"csv", 0, "FILE", false, "*", "write rows as CSV"},
    {"md", 0, "FILE", false, "*", "write rows as a Markdown table"},
    {"sql", 0, "FILE", false, "*", "write rows as SQL"},
    {"quiet", 'q', NULL, false, "*", "no warnings, no progress"},
    {"verbose", 'v', NULL, false, "*", "say what is being done"},
    {"help", 'h', NULL, false, "*", "this help"},
};

const size_t nd_option_count = sizeof nd_option_table / sizeof *nd_option_table;
