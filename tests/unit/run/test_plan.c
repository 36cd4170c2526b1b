/* Places in memory: which slots share it, and for how long they live. */
#include "tests/unit/help/run_help.h"

Test(plan, slots_alive_together_never_overlap) {
    enum { count = 60, align = 16 };
    nd_rng rng = nd_rng_seed(99);
    for (int round = 0; round < 50; round++) {
        nd_slot slots[count] = {0};
        int64_t sum = 0, peak = 0;
        for (int i = 0; i < count; i++) {
            slots[i].elements = 1 + nd_rng_below(&rng, 500);
            slots[i].element = 1;
            slots[i].first = (int)nd_rng_below(&rng, 40);
            slots[i].last = slots[i].first + (int)nd_rng_below(&rng, 6);
            sum += (slots[i].elements + align - 1) / align * align;
        }
        const int64_t total = nd_plan_offsets(slots, count, align);
        for (int step = 0; step < 50; step++) {
            int64_t alive = 0;
            for (int i = 0; i < count; i++)
                if (slots[i].first <= step && step <= slots[i].last) alive += slots[i].elements;
            peak = alive > peak ? alive : peak;
        }
        cr_assert(total >= peak && total <= sum);
        cr_assert(total < sum / 2, "no room is used twice: %d of %d", (int)total, (int)sum);
        for (int i = 0; i < count; i++) {
            cr_assert(slots[i].offset % align == 0 && slots[i].offset + slots[i].elements <= total);
            for (int j = 0; j < i; j++) {
                const bool together = slots[i].first <= slots[j].last && slots[j].first <= slots[i].last;
                const bool apart = slots[i].offset + slots[i].elements <= slots[j].offset ||
                                   slots[j].offset + slots[j].elements <= slots[i].offset;
                cr_assert(!together || apart);
            }
        }
    }
}

static void poison(nd_exec *exec, const nd_slot *slot) {
    float *nan = nd_alloc_array((size_t)slot->elements, sizeof *nan);
    for (int64_t i = 0; i < slot->elements; i++) nan[i] = NAN;
    nd_view view = nd_view_row_major(1, &slot->elements);
    view.offset = slot->offset;
    cr_assert_eq(exec->backend->table->upload(exec->backend, exec->block, &view, nd_precision_fp32, nan),
                 nd_status_ok);
    free(nan);
}

/* Lifetimes are long enough: memory is poisoned before a slot's first step and after its last, and no poison
 * reaches the result. */
Test(plan, nothing_is_read_outside_of_its_lifetime) {
    net n = net_everything(1);
    nd_backend *backend = open_ref();
    float *x = random_images(input_count(n.graph)), expected[8], y[8];
    const float *in = x;
    for (int last = 0; last < 2; last++) {
        backend->channels_last = last;
        run_whole(backend, n.graph, (nd_exec_settings){0}, x, expected);
        nd_exec *exec = open_exec(backend, n.graph, (nd_exec_settings){0});
        for (int i = 0; i < exec->n_slots; i++)
            if (exec->slots[i].first <= exec->slots[i].last && !exec->slots[i].source)
                poison(exec, &exec->slots[i]);
        cr_assert_eq(nd_exec_upload(exec, 1, &in), nd_status_ok);
        for (int step = 0; step < exec->n_steps; step++) {
            const nd_step *s = &exec->steps[step];
            const nd_memory *memory[3] = {0};
            const int slots[] = {s->x, s->x2, s->y};
            for (int k = 0; k < 3; k++)
                if (slots[k] >= 0)
                    memory[k] = exec->slots[slots[k]].source ? exec->slots[slots[k]].memory : exec->block;
            cr_assert_eq(backend->table->run(backend, s->kernel, memory[0], memory[1], exec->block, NULL),
                         nd_status_ok);
            for (int i = 0; i < exec->n_slots; i++)
                if (exec->slots[i].last == step && !exec->slots[i].source) poison(exec, &exec->slots[i]);
        }
        const nd_place *place = &exec->values[n.graph->outputs[0]].place;
        nd_view view = place->view;
        view.offset += exec->slots[place->slot].offset;
        cr_assert_eq(backend->table->download(backend, exec->block, &view, nd_precision_fp32, y),
                     nd_status_ok);
        expect_close(y, expected, output_count(n.graph), 0, "poisoned");
        nd_exec_close(exec);
    }
    nd_backend_close(backend);
    nd_graph_free(n.graph);
    free(x);
}

Test(plan, a_chain_needs_two_buffers) {
    net n = net_new();
    int x = net_input(&n, 4, (int64_t[]){1, 4, 8, 8});
    for (int i = 0; i < 12; i++) x = net_conv(&n, x, 4, 4, 1, 3, 1, false);
    net_finish(&n, x, 1);
    nd_backend *backend = open_ref();
    nd_exec *exec = open_exec(backend, n.graph, (nd_exec_settings){0});
    /* and the pinned input */
    cr_assert_leq(nd_exec_activation_bytes(exec), 3 * 4 * 8 * 8 * sizeof(float));
    nd_exec_close(exec);
    nd_backend_close(backend);
    nd_graph_free(n.graph);
}

Test(view, reshape_keeps_the_order_of_elements) {
    const int64_t image[] = {2, 6, 4, 5};
    const nd_view last = nd_view_channels_last(4, image), first = nd_view_row_major(4, image);
    nd_view out;
    cr_assert(nd_view_reshape(&first, 2, (int64_t[]){2, 120}, &out) && nd_view_is_row_major(&out));
    cr_assert(!nd_view_reshape(&last, 2, (int64_t[]){2, 120}, &out));
    cr_assert(nd_view_reshape(&last, 5, (int64_t[]){2, 2, 3, 4, 5}, &out));
    cr_assert(out.strides[1] == 3 && out.strides[2] == 1 && out.strides[3] == 30 && out.strides[4] == 6);
    cr_assert(nd_view_reshape(&last, 3, (int64_t[]){2, 6, 20}, &out), "rows and columns step as one in NHWC");
    cr_assert(out.strides[2] == 6);
    cr_assert(nd_view_reshape(&last, 6, (int64_t[]){1, 2, 6, 1, 4, 5}, &out));
    cr_assert(!nd_view_reshape(&last, 2, (int64_t[]){2, 121}, &out));
    const nd_view pixel = nd_view_channels_last(4, (int64_t[]){3, 7, 1, 1});
    cr_assert(nd_view_reshape(&pixel, 2, (int64_t[]){3, 7}, &out) && nd_view_is_row_major(&out));
    const nd_view scalar = nd_view_row_major(0, NULL);
    cr_assert(nd_view_reshape(&scalar, 3, (int64_t[]){1, 1, 1}, &out) && out.rank == 3);
}
