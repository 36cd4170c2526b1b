/* The one table of row fields. Every writer, `compare` and `report` is driven by it; adding a field is adding
 * a line, and renaming one is adding its old name at the end.
 *     ND_FIELD(name, type, role, text)   type: int, real, text, flag, or an array: ints, reals
 *                                        role: key, measured, provenance
 * Two rows are comparable when all their key fields are equal. */
#ifndef ND_FIELD
#    define ND_FIELD(name, type, role, text)
#endif
#ifndef ND_FIELD_WAS
#    define ND_FIELD_WAS(old, name)
#endif

/* every row */
ND_FIELD(schema, int, key, "version of this table")
ND_FIELD(verb, text, key, "the verb that made the row")
ND_FIELD(model, text, key, "MODEL, files without their folder")
ND_FIELD(weights_sha256, text, key, "SHA-256 of all initializers by name")
ND_FIELD(method, text, key, "none, dwpw, pwdw, auto, spatial, channel, ...")
ND_FIELD(form, text, key, "dwpw, pwdw, mixed or none")
ND_FIELD(ranks, text, key, "uniform, adaptive or dense")
ND_FIELD(rank, int, key, "T, or null where it differs by layer")
ND_FIELD(settings_sha256, text, key, "SHA-256 of every setting that shaped the model")
ND_FIELD(backend, text, key, "ref, cpu or cuda")
ND_FIELD(device, text, key, "device name")
ND_FIELD(dtype, text, key, "fp32, tf32, fp16 or bf16")
ND_FIELD(batch, int, key, "images a run")
ND_FIELD(threads, int, key, "CPU threads")

/* cost */
ND_FIELD(conv_macs, int, measured, "multiply-accumulates of all convolutions, one image")
ND_FIELD(total_macs, int, measured, "multiply-accumulates of convolutions and inner products, one image")
ND_FIELD(params, int, measured, "weights and biases of convolutions and inner products")
ND_FIELD(conv_macs_ratio, real, measured, "original / new")
ND_FIELD(total_macs_ratio, real, measured, "original / new")
ND_FIELD(params_ratio, real, measured, "original / new")

/* accuracy */
ND_FIELD(dataset, text, key, "DATASET, files without their folder")
ND_FIELD(dataset_sha256, text, key, "SHA-256 of the list of items and labels")
ND_FIELD(preprocess, text, key, "PREPROCESS, spelled out")
ND_FIELD(n, int, key, "images evaluated")
ND_FIELD(skipped, int, measured, "broken images left out")
ND_FIELD(unlabelled, int, measured, "images without a class, in no accuracy; null: none")
ND_FIELD(nan_images, int, measured, "images with a NaN among their scores, in no agreement; null: none")
ND_FIELD(top1_correct, int, measured, "images whose best class is right")
ND_FIELD(top5_correct, int, measured, "images with the right class among the best five")
ND_FIELD(top1, real, measured, "per cent")
ND_FIELD(top5, real, measured, "per cent")
ND_FIELD(drop_top1, real, measured, "original - new, points")
ND_FIELD(drop_top1_lo, real, measured, "lower end of the paired 95 % interval")
ND_FIELD(drop_top1_hi, real, measured, "upper end")
ND_FIELD(drop_top5, real, measured, "original - new, points")
ND_FIELD(drop_top5_lo, real, measured, "lower end of the paired 95 % interval")
ND_FIELD(drop_top5_hi, real, measured, "upper end")
ND_FIELD(search_dataset, text, measured,
         "labelled images that chose the ranks: a drop on them is no test result")
ND_FIELD(search_sha256, text, measured, "SHA-256 of their list")
ND_FIELD(search_n, int, measured, "how many they are")
ND_FIELD(agreement, real, measured, "per cent of images with the original's best class")
ND_FIELD(logit_rel_mse, real, measured, "sum |l' - l|^2 / sum |l - mean l|^2")

/* layer */
ND_FIELD(layer, text, key, "layer name; null for a whole network")
ND_FIELD(ni, int, key, "input channels")
ND_FIELD(no, int, key, "output channels")
ND_FIELD(kh, int, key, "kernel height")
ND_FIELD(kw, int, key, "kernel width")
ND_FIELD(stride, int, key, "vertical stride")
ND_FIELD(h, int, key, "output height")
ND_FIELD(w, int, key, "output width")
ND_FIELD(rel_error, reals, measured, "|W' - W| / |W| by rank, or of the rank chosen")
ND_FIELD(held_error, reals, measured,
         "relative output error on calibration images that the same fit without them has not seen")
ND_FIELD(energy, reals, measured,
         "share kept of the squares of the kernel, by rank; of a calibrated layer, of those of its output")

/* a published table beside ours */
ND_FIELD(paper_table, text, key, "published table")
ND_FIELD(item, text, key, "row of the table")
ND_FIELD(quantity, text, key, "what is compared: conv_macs, drop_top1, ...")
ND_FIELD(unit, text, key, "unit of the three values: G, M, x, %, points")
ND_FIELD(published, real, measured, "as printed")
ND_FIELD(ours, real, measured, "computed or measured by nd")
ND_FIELD(difference, real, measured, "ours - published")
ND_FIELD(missing, text, measured, "what it takes to compute ours")
ND_FIELD(kind, text, provenance, "published, reported or derived")
ND_FIELD(source, text, provenance, "where the published value stands")

/* time */
ND_FIELD(implementation, text, key, "dense, unfused, fused, best")
ND_FIELD(original, text, key, "MODEL that the ratio is to; null where it is this model")
ND_FIELD(engine, text, measured, "what ran, as its library names it")
ND_FIELD(layout, text, measured, "order of its activations in memory: NHWC or NCHW")
ND_FIELD(tuned, flag, key, "engines were chosen by measuring them (--tune); null: as the backend guesses")
ND_FIELD(workspace_bytes, int, measured, "scratch memory beside inputs and outputs")
ND_FIELD(cold, flag, key, "buffers rotated through more than twice the last cache")
ND_FIELD(ns_median, real, measured, "median time of a run, ns")
ND_FIELD(ns_q1, real, measured, "first quartile, ns")
ND_FIELD(ns_q3, real, measured, "third quartile, ns")
ND_FIELD(ns_min, real, measured, "fastest sample, ns")
ND_FIELD(samples_ns, reals, measured, "every accepted sample in order, ns")
ND_FIELD(sessions, ints, measured, "accepted samples of each session, in order")
ND_FIELD(discarded, int, measured, "samples thrown away (throttling, interruption)")
ND_FIELD(ratio, real, measured, "dense time / this time, paired blocks")
ND_FIELD(ratio_lo, real, measured, "lower end of the bootstrap 95 % interval")
ND_FIELD(ratio_hi, real, measured, "upper end")
ND_FIELD(gflops, real, measured, "2 x MACs actually done / median time")
ND_FIELD(gbps, real, measured, "inputs, outputs and weights once / median time, GB/s")
ND_FIELD(gflops_effective, real, measured, "2 x MACs of the dense layer / median time")
ND_FIELD(roofline_ns, real, measured, "time at the peaks measured in this run")
ND_FIELD(peak_gflops, real, measured, "arithmetic peak measured in this run")
ND_FIELD(peak_gbps, real, measured, "copy bandwidth measured in this run, bytes read and written")
ND_FIELD(rotated_bytes, int, measured, "what the buffers of cold runs rotate through")
ND_FIELD(noisy, flag, measured, "the interval of the ratio was still wide at the time limit")
ND_FIELD(expected_ratio, real, measured, "of --latency-ratio: by the times of the layers alone")
ND_FIELD(layers, int, measured, "how often the network has this layer")

/* sweep and compare */
ND_FIELD(rule, text, key, "how ranks were chosen: rank, energy, macs-ratio, ...")
ND_FIELD(target, real, key, "T, threshold, ratio or points, by rule")
ND_FIELD(calib, text, key, "DATASET the network was calibrated on; null for weights alone")
ND_FIELD(point, text, provenance, "SHA-256 that names a point of a sweep, so that it is not done twice")
ND_FIELD(pareto, flag, measured, "no other row of the sweep is better in both accuracy and MACs")
ND_FIELD(pareto_time, flag, measured, "the same for accuracy and measured time, where that is known")
ND_FIELD(verdict, text, measured, "FASTER, SAME, SLOWER or UNSURE")
ND_FIELD(change, real, measured, "new ratio / base ratio; above 1 is faster")
ND_FIELD(change_lo, real, measured, "lower end of the bootstrap 95 % interval")
ND_FIELD(change_hi, real, measured, "upper end")
ND_FIELD(p_value, real, measured, "Mann-Whitney, Holm-corrected over all rows")
ND_FIELD(margin, real, measured, "relative change that is called the same")

/* check and devices */
ND_FIELD(operation, text, key, "operation that was checked, or that a single kernel does")
ND_FIELD(seed, int, key, "seed of the inputs")
ND_FIELD(compared, int, measured, "cases compared")
ND_FIELD(failed, int, measured, "cases that differed")
ND_FIELD(unsupported, int, measured, "cases the backend does not do")
ND_FIELD(worst, real, measured, "largest error / bound")
ND_FIELD(worst_case, text, measured, "where it was")
ND_FIELD(memory_bytes, int, measured, "memory of the device, or null where it does not say")
ND_FIELD(why, text, measured, "why a backend has no device")

/* provenance */
ND_FIELD(nd_version, text, provenance, "version of nd")
ND_FIELD(commit, text, provenance, "git commit it was built from")
ND_FIELD(dirty, flag, provenance, "built from a changed tree")
ND_FIELD(compiler, text, provenance, "host compiler")
ND_FIELD(host_cpu, text, provenance, "processor")
ND_FIELD(gpu, text, provenance, "GPU name and UUID hash")
ND_FIELD(driver, text, provenance, "GPU driver")
ND_FIELD(threads_why, text, provenance,
         "what says how many CPU threads: --threads, affinity, cgroup, OMP_NUM_THREADS")
ND_FIELD(libraries, text, provenance, "versions of the backend's libraries")
ND_FIELD(clocks, text, provenance, "SM and memory clocks before and after, throttle reasons")
ND_FIELD(command, text, provenance, "command line as typed, so that it can be run again")
ND_FIELD(utc, text, provenance, "start, RFC 3339")
ND_FIELD(seconds, real, provenance, "time the row took to make")

/* names in older files: they are read, never written */
ND_FIELD_WAS(impl, implementation)

#undef ND_FIELD
#undef ND_FIELD_WAS
