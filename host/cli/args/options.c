#include "cli/cli.h"

/* Everything the command line understands. Help, completions and the man page are printed from here. */
const nd_option nd_option_table[] = {
    /* what to do it with */
    {"backend", 0, "NAME", false, "inspect decouple quantize eval bench sweep reproduce check devices",
     "auto, ref, cpu or cuda; a comma list in bench and sweep (default auto)"},
    {"device", 0, "N", false, "inspect decouple quantize eval bench sweep reproduce check",
     "device of the backend, as `nd devices` numbers them (default 0)"},
    {"threads", 0, "N", false, "inspect decouple quantize eval bench sweep reproduce check",
     "CPU threads, 0 for all cores; a list in bench (default 0)"},
    {"isa", 0, "NAME", false, "inspect decouple quantize eval bench sweep reproduce check",
     "force our CPU kernels to scalar, avx2, avx2_vnni, avx512, avx512_vnni, avx512_bf16 or amx"},
    {"dtype", 0, "TYPE", false, "decouple eval bench sweep check",
     "fp32, tf32, fp16, bf16, int8 or e4m3; a list in bench and sweep, which quantise for the last two; in "
     "decouple what --latency-ratio times (default fp32)"},
    {"batch", 0, "N", false, "decouple eval bench sweep reproduce",
     "images a run; a list in bench and sweep; in decouple of --latency-ratio (default 1; in eval 32, fewer "
     "for many networks)"},
    {"input", 0, "HxW", false, "inspect decouple quantize eval bench sweep",
     "image size for a model that does not fix it"},
    {"tune", 0, NULL, false, "eval bench sweep check", "measure alternatives per layer and cache the winner"},

    /* decoupling */
    {"output", 'o', "FILE", false, "decouple quantize compare report", "file to write"},
    {"method", 0, "NAME", false, "inspect decouple bench sweep",
     "auto, dwpw, pwdw, dwpw_lowrank, spatial, channel, prune, lowrank, or combined: spatial+dwpw, "
     "prune+channel, ...; several with commas; a list in sweep, where dwpw/spatial is the better one in each "
     "layer (default auto)"},
    {"rank", 0, "T", false, "inspect decouple bench sweep",
     "T terms per channel in every chosen layer; a list in bench and sweep"},
    {"energy", 0, "E", false, "decouple bench sweep",
     "smallest rank whose mean energy per slice reaches E (the paper's rule)"},
    {"frobenius", 0, "E", false, "decouple bench sweep",
     "smallest rank that keeps E of the kernel's squared norm"},
    {"macs-ratio", 0, "R", false, "decouple bench sweep",
     "make the network R times smaller in MACs, ranks by error per MAC"},
    {"conv-only", 0, NULL, false, "decouple bench sweep", "count convolutions alone in --macs-ratio"},
    {"latency-ratio", 0, "R", false, "decouple sweep",
     "make the network R times faster on the backend, by measured times of its layers"},
    {"max-drop", 0, "POINTS", false, "decouple quantize bench sweep",
     "fewest MACs whose measured drop on the labelled --data is at most POINTS; with --quantize auto what 8 "
     "bits may cost, there or without --data in best classes of --calib images (default 1)"},
    {"top", 0, "N", false, "decouple quantize", "top-1 or top-5 in --max-drop (default 1)"},
    {"confident", 0, NULL, false, "decouple quantize",
     "--max-drop bounds the upper end of the 95 % interval, not the drop itself"},
    {"ranks", 0, "KIND", false, "inspect decouple bench sweep",
     "uniform or adaptive; a list in sweep (default adaptive where there is a budget or --calib, else "
     "uniform)"},
    {"round", 0, "N", false, "decouple bench sweep", "round ranks to a multiple of N"},
    {"layer", 0, "PATTERN=SETTING", true, "decouple bench sweep",
     "rank, method, method:rank or dense for the layers that match"},
    {"skip", 0, "PATTERN", true, "inspect decouple quantize bench sweep",
     "leave matching layers dense; `none` decouples the first conv as well"},
    {"calib", 0, "DATASET", false, "decouple quantize bench sweep reproduce",
     "calibrate on these unlabelled images; `synthetic` needs no data"},
    {"calib-images", 0, "N", false, "decouple quantize bench sweep reproduce",
     "how many of them (default 256)"},
    {"calib-preprocess", 0, "RECIPE", false, "decouple quantize bench sweep reproduce",
     "what is done to them (default --preprocess)"},
    {"calib-mirror", 0, NULL, false, "decouple bench sweep",
     "and on their mirror images, where left and right are alike to the network"},
    {"quantize", 0, "KIND", false, "decouple quantize bench sweep",
     "int8, e4m3 or auto: then quantise the network, with ranges on --calib (in bench else on synthetic "
     "images); "
     "auto is int8 that leaves layers in fp32 where --max-drop or their time asks for it"},
    {"ridge", 0, "L", false, "decouple bench sweep",
     "ridge towards the original weights (default by images held out)"},
    {"quick", 0, NULL, false, "decouple bench sweep",
     "allocate by each layer's output error and what such errors do to the scores, without curves"},
    {"light", 0, NULL, false, "decouple bench sweep", "calibrate gain and bias only"},
    {"output-metric", 0, NULL, false, "decouple bench sweep",
     "choose filters by what they do to the scores: one backward pass"},
    {"match-scores", 0, NULL, false, "decouple bench sweep",
     "in the end, gains and biases that make the scores follow the original's"},
    {"relu-aware", 0, NULL, false, "decouple bench sweep", "refit through the ReLU that follows"},

    /* data */
    {"data", 0, "DATASET", false, "decouple quantize eval sweep reproduce",
     "imagefolder:DIR, list:FILE, cifar10:PATH, glyphs; with boxes voc:DIR, coco:FILE:IMAGES"},
    {"preprocess", 0, "RECIPE", false, "decouple quantize eval bench sweep reproduce",
     "a named recipe, or resize=,interp=,crop=,centre=,fit=,pad=,place=,order=,scale=,mean=,std="},
    {"decode", 0, "NAME", false, "eval sweep",
     "detectors: how their outputs are read, ssd, retinanet, yolo or yolox; none: boxes, scores and labels "
     "as "
     "the graph gives them, or raw numbers compared with the original's"},
    {"score", 0, "S", false, "eval sweep",
     "with --decode: the original's detections from this score on are what is to be found (default 0.25)"},
    {"classes", 0, "FILE", false, "decouple quantize eval sweep reproduce",
     "which output each class of --data is: lines of NAME CLASS or CLASS NAME, or the name of output i on "
     "line i; "
     "`numbers`: folders are called by their class"},
    {"label-offset", 0, "N", false, "decouple quantize eval sweep reproduce",
     "added to every class of --data: 1 for networks with a background output"},
    {"original", 0, "MODEL", false, "eval bench",
     "what MODEL was made from: drop, interval, agreement; in bench, what its time is compared with"},
    {"first", 0, "N", false, "decouple quantize eval sweep", "start at image N (default 0)"},
    {"limit", 0, "N", false, "decouple quantize eval sweep reproduce", "at most N images (default all)"},
    {"scores", 0, "FILE", false, "eval",
     "write the scores in NumPy's format: [images][classes], in front of them [networks] where there are "
     "several"},
    {"workers", 0, "N", false, "eval sweep", "decoding threads"},

    /* checks, sweeps, gates */
    {"op", 0, "PATTERN", false, "check", "only cases whose name matches, such as separable/*"},
    {"seed", 0, "N", false, "check", "seed of the inputs (default 1)"},
    {"list", 0, NULL, false, "check", "name the cases and run none"},
    {"bench", 0, NULL, false, "sweep", "also time every network end to end against the original"},
    {"shard", 0, "I/N", false, "sweep", "do the I-th of N shares (from 1)"},
    {"strict", 0, NULL, false, "bench compare decouple",
     "exit 5 when the measurement is inconclusive, or when nothing was decoupled"},

    {"margin", 0, "R", false, "compare",
     "relative change of a stack's or network's ratio that is the same (default 0.03)"},
    {"layer-margin", 0, "R", false, "compare", "the same for single layers (default 0.1)"},
    {"time-margin", 0, "R", false, "compare", "the same for absolute times (default 0.25)"},
    {"absolute", 0, "NS", false, "compare", "changes below NS nanoseconds are the same (default 5000)"},
    {"points", 0, "P", false, "compare", "accuracy that may be lost, in points (default 0.1)"},
    {"margins", 0, "FILE", false, "compare", "margins measured by --aa, used where they are wider"},
    {"confirm", 0, NULL, false, "compare", "measure NEW once more before saying SLOWER or FASTER"},
    {"aa", 0, "N", false, "compare", "N runs of one build: this machine's noise; -o writes the margins"},
    {"plots", 0, "FOLDER", false, "report", "write every plot as SVG and PNG"},
    {"impl", 0, "LIST", false, "bench",
     "dense, direct, winograd, unfused, fused, best (default all); dense is always timed"},
    {"cache", 0, "LIST", false, "bench",
     "cold, hot (default both): rotate buffers through the caches or not"},
    {"sessions", 0, "N", false, "bench",
     "at most N sessions with fresh buffers, fewer when tight (default 10)"},
    {"whole", 0, NULL, false, "bench", "with a suite: also its network end to end, with random weights"},
    {"no-layers", 0, NULL, false, "bench", "time networks end to end, and no single layers"},
    {"nodes", 0, NULL, false, "bench",
     "also the time of every kernel within the networks, by events between them, which add to their sum"},
    {"svd", 0, NULL, false, "bench", "time the decompositions that decouple the layers, and nothing else"},
    {"time-limit", 0, "S", false, "decouple bench sweep",
     "seconds for all implementations of a layer together (default 15, in decouple and sweep 5)"},

    /* output */
    {"json", 0, "FILE", false, "*", "write rows as JSON lines; - is stdout, which then holds nothing else"},
    {"csv", 0, "FILE", false, "*",
     "write rows as CSV; texts that a spreadsheet would run have an apostrophe before them"},
    {"md", 0, "FILE", false, "*", "write rows as a Markdown table"},
    {"sql", 0, "FILE", false, "*", "write rows as SQL"},
    {"quiet", 'q', NULL, false, "*", "no warnings, no progress"},
    {"verbose", 'v', NULL, false, "*", "say what is being done"},
    {"help", 'h', NULL, false, "*", "this help"},
};

const size_t nd_option_count = sizeof nd_option_table / sizeof *nd_option_table;
