/* Which implementation runs a work: the named one, the fastest, or the first that can. */
#include "run/cpu/cpu.h"

#include <string.h>

/* An implementation may still refuse in prepare (no fast kernel in the library, too much workspace): then the
 * next is asked. Anything else is a failure. */
static nd_status plan_first(nd_cpu *cpu, const nd_work *work, nd_precision precision, nd_kernel **out) {
    for (size_t i = 0; i < nd_cpu_impl_count; i++) {
        const nd_cpu_impl *impl = &nd_cpu_impls[i];
        if (impl->kind != work->kind || !impl->supports(cpu, work, precision)) continue;
        const nd_status status = impl->prepare(cpu, work, precision, out);
        if (status != nd_status_unsupported) return status;
    }
    return nd_cpu_reference_prepare(cpu, work, precision, out);
}

/* `prefer` binds the kinds that have an implementation of that name; the others are planned as usual. */
static nd_status plan_named(nd_cpu *cpu, const nd_work *work, nd_precision precision, nd_kernel **out) {
    for (size_t i = 0; i < nd_cpu_impl_count; i++) {
        const nd_cpu_impl *impl = &nd_cpu_impls[i];
        if (impl->kind != work->kind || strcmp(impl->name, cpu->prefer)) continue;
        if (!impl->supports(cpu, work, precision)) break;
        const nd_status status = impl->prepare(cpu, work, precision, out);
        if (status != nd_status_unsupported) return status;
        break;
    }
    return plan_first(cpu, work, precision, out);
}

nd_status nd_cpu_plan(nd_cpu *cpu, const nd_work *work, nd_precision precision, nd_kernel **out) {
    if (cpu->prefer[0]) return plan_named(cpu, work, precision, out);
    return plan_first(cpu, work, precision, out);
}
