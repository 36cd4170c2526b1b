#include "tests/simt/compare.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

extern "C" {
#include "base/rng.h"
#include "run/plugins.h"
}

static int64_t nd_test_compared, nd_test_failed, nd_test_stretched;

nd_view nd_test_view(int64_t n, int64_t c, int64_t h, int64_t w, int64_t spread) {
    const int64_t dims[] = {n, c, h, w};
    const int64_t pixel = c + spread;
    nd_view view = nd_view_channels_last(4, dims);
    view.strides[3] = pixel;
    view.strides[2] = w * pixel;
    view.strides[0] = h * w * pixel;
    return view;
}

std::vector<float> nd_test_integers(size_t count, int low, int high, uint64_t seed) {
    nd_rng rng = nd_rng_seed(seed);
    std::vector<float> values(count);
    for (float &value : values) value = (float)(low + (int)nd_rng_below(&rng, high - low + 1));
    return values;
}

std::vector<float> nd_test_reals(size_t count, float low, float high, uint64_t seed) {
    nd_rng rng = nd_rng_seed(seed);
    std::vector<float> values(count);
    for (float &value : values) value = low + (high - low) * (float)nd_rng_uniform(&rng);
    return values;
}

static float nd_test_rounded(float value, nd_dtype storage) {
    if (storage == nd_dtype_f16) return nd_f16_to_f32(nd_f32_to_f16(value));
    if (storage == nd_dtype_bf16) return nd_bf16_to_f32(nd_f32_to_bf16(value));
    return value;
}

static void nd_test_store(nd_test_buffer &buffer, nd_dtype storage) {
    const size_t size = nd_dtype_bytes(storage);
    buffer.stored.resize(buffer.values.size() * size);
    for (size_t i = 0; i < buffer.values.size(); i++) {
        const float value = buffer.values[i];
        const uint16_t half = storage == nd_dtype_f16 ? nd_f32_to_f16(value) : nd_f32_to_bf16(value);
        if (size == 4)
            memcpy(&buffer.stored[i * size], &value, size);
        else
            memcpy(&buffer.stored[i * size], &half, size);
    }
}

static float nd_test_load(const std::vector<unsigned char> &stored, size_t i, nd_dtype storage) {
    float value;
    uint16_t half;
    if (storage == nd_dtype_f32) {
        memcpy(&value, &stored[i * sizeof value], sizeof value);
        return value;
    }
    memcpy(&half, &stored[i * sizeof half], sizeof half);
    return storage == nd_dtype_f16 ? nd_f16_to_f32(half) : nd_bf16_to_f32(half);
}

std::vector<int64_t> nd_test_positions(const nd_view &view) {
    std::vector<int64_t> positions;
    const int64_t count = nd_view_count(&view);
    for (int64_t item = 0; item < count; item++) {
        int64_t rest = item, at = view.offset;
        for (int i = view.rank - 1; i >= 0; i--) {
            at += rest % view.dims[i] * view.strides[i];
            rest /= view.dims[i];
        }
        positions.push_back(at);
    }
    return positions;
}

static size_t nd_test_reach(const std::vector<int64_t> &positions) {
    int64_t reach = 0;
    for (int64_t at : positions) reach = at + 1 > reach ? at + 1 : reach;
    return (size_t)reach;
}

static nd_test_buffer nd_test_input(const nd_test_case &test, const nd_view &view, uint64_t seed) {
    const std::vector<int64_t> positions = nd_test_positions(view);
    nd_test_buffer buffer;
    buffer.values.assign(nd_test_reach(positions), NAN);
    const std::vector<float> values =
        test.real ? nd_test_reals(positions.size(), test.low, test.high, seed)
                  : nd_test_integers(positions.size(), (int)test.low, (int)test.high, seed);
    for (size_t i = 0; i < positions.size(); i++)
        buffer.values[(size_t)positions[i]] = nd_test_rounded(values[i], test.storage);
    nd_test_store(buffer, test.storage);
    return buffer;
}

static void nd_test_fail(const std::string &name, const std::string &what) {
    nd_test_failed++;
    printf("FAIL %s: %s\n", name.c_str(), what.c_str());
}

static std::string nd_test_text(const char *format, double a, double b, size_t where) {
    char text[128];
    snprintf(text, sizeof text, format, a, b, where);
    return text;
}

/* What is wrong with an output; empty when nothing is. */
static std::string nd_test_difference(const nd_test_case &test, const std::vector<float> &expected,
                                      const std::vector<unsigned char> &got) {
    const size_t size = nd_dtype_bytes(test.storage);
    std::vector<bool> addressed(expected.size());
    for (int64_t at : nd_test_positions(test.work.y)) {
        const float want = nd_test_rounded(expected[(size_t)at], test.storage);
        const float have = nd_test_load(got, (size_t)at, test.storage);
        addressed[(size_t)at] = true;
        nd_test_compared++;
        if (!(fabs(have - want) <= test.absolute + test.relative * fabs(want)))
            return nd_test_text("got %g, expected %g at %zu", have, want, (size_t)at);
    }
    for (size_t i = 0; i < addressed.size(); i++) {
        uint32_t bits = 0;
        memcpy(&bits, &got[i * size], size);
        const uint32_t guard = size == 4 ? 0x5a5a5a5au : 0x5a5au;
        if (!addressed[i] && bits != guard)
            return nd_test_text("wrote %g (guard %g) outside the view at %zu", bits, guard, i);
    }
    return "";
}

/* Operands of a case, and what ref makes of them. */
struct nd_test_prepared {
    nd_test_buffer x, x2;
    std::vector<float> expected;
};

static bool nd_test_prepare(nd_test_case &test, nd_test_prepared &prepared) {
    nd_work &work = test.work;
    work.weights = test.weights.empty() ? nullptr : test.weights.data();
    work.bias = test.bias.empty() ? nullptr : test.bias.data();
    work.depthwise = test.depthwise.empty() ? nullptr : test.depthwise.data();
    work.channel = test.channel.empty() ? nullptr : test.channel.data();
    prepared.x = nd_test_input(test, work.x, 1);
    prepared.x2 = nd_test_input(test, work.x2, 2);
    prepared.expected.assign(nd_test_reach(nd_test_positions(work.y)), 0);
    if (nd_work_agrees(&work) &&
        !nd_ref_run(&work, prepared.x.values.data(), prepared.x2.values.data(), prepared.expected.data()))
        return true;
    nd_test_fail(test.name, "the reference refused the case");
    return false;
}

static std::string nd_test_attempt(const nd_test_case &test, const nd_test_prepared &prepared,
                                   nd_simt_order order, uint64_t seed = 7) {
    nd_simt_set_order(order, seed);
    const uint64_t before = nd_simt_launches();
    std::vector<unsigned char> y(prepared.expected.size() * nd_dtype_bytes(test.storage), 0x5a);
    if (test.launch(test, prepared.x.stored.data(), prepared.x2.stored.data(), y.data())) return nd_error();
    if (nd_simt_launches() == before) return "nothing was launched";
    return nd_test_difference(test, prepared.expected, y);
}

/* A view of the same elements with more than 2^32 between the first and the last, for offsets that 32 bits
 * cannot hold; false where the view cannot be stretched and keep its form. */
static bool nd_test_stretch(nd_view &view) {
    const int64_t reach = (int64_t)nd_test_reach(nd_test_positions(view));
    const int64_t factor = ((INT64_C(1) << 32) / reach + 16) / 16 * 16;
    int inner = 0, outer = 0;
    for (int i = 0; i < view.rank; i++) {
        inner += view.strides[i] == 1;
        outer += view.strides[i] > 1 && view.dims[i] > 1;
        if (view.strides[i] > 1) view.strides[i] *= factor;
    }
    view.offset *= factor;
    return inner == 1 && outer;
}

/* Memory of a stretched view, which exists only where it is touched. */
struct nd_test_sparse {
    size_t bytes;
    unsigned char *data;

    nd_test_sparse(const nd_view &view, size_t size) {
        bytes = nd_test_reach(nd_test_positions(view)) * size;
        void *made =
            mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        data = made == MAP_FAILED ? nullptr : static_cast<unsigned char *>(made);
    }
    ~nd_test_sparse() {
        if (data) munmap(data, bytes);
    }
};

/* Elements in the order of the views' dims. */
static void nd_test_move(const nd_view &from_view, const unsigned char *from, const nd_view &to_view,
                         unsigned char *to, size_t size) {
    const std::vector<int64_t> at = nd_test_positions(from_view), there = nd_test_positions(to_view);
    for (size_t i = 0; i < at.size(); i++)
        memcpy(to + (size_t)there[i] * size, from + (size_t)at[i] * size, size);
}

/* The case once more with its elements far apart. Where that much address space is not to be had, or a view
 * cannot be stretched, nothing is compared. */
static std::string nd_test_far(const nd_test_case &test, const nd_test_prepared &prepared) {
    nd_test_case far = test;
    const size_t size = nd_dtype_bytes(test.storage);
    nd_view *const views[] = {&far.work.x, &far.work.x2, &far.work.y};
    for (nd_view *view : views)
        if (view->rank && !nd_test_stretch(*view)) return ""; /* none: an operand that is not there */
    nd_test_sparse x(far.work.x, size), x2(far.work.x2, size), y(far.work.y, size);
    if (!x.data || !x2.data || !y.data) return "";
    nd_test_move(test.work.x, prepared.x.stored.data(), far.work.x, x.data, size);
    nd_test_move(test.work.x2, prepared.x2.stored.data(), far.work.x2, x2.data, size);
    nd_simt_set_order(nd_simt_forward, 7);
    if (far.launch(far, x.data, x2.data, y.data)) return nd_error();
    std::vector<unsigned char> got(prepared.expected.size() * size, 0x5a);
    nd_test_move(far.work.y, y.data, test.work.y, got.data(), size);
    nd_test_stretched++;
    return nd_test_difference(test, prepared.expected, got);
}

void nd_test_run(nd_test_case &test) {
    static const char *const orders[nd_simt_order_count] = {"forward", "reverse", "random"};
    nd_test_prepared prepared;
    if (!nd_test_prepare(test, prepared)) return;
    for (int order = 0; order < nd_simt_order_count; order++) {
        const std::string wrong = nd_test_attempt(test, prepared, (nd_simt_order)order);
        if (!wrong.empty())
            nd_test_fail(test.name + " [" + nd_dtype_name(test.storage) + ", " + orders[order] + "]", wrong);
    }
    const std::string wrong = nd_test_far(test, prepared);
    if (!wrong.empty()) nd_test_fail(test.name + " [" + nd_dtype_name(test.storage) + ", far apart]", wrong);
}

void nd_test_missed(const std::string &name, nd_simt_sync sync, int first, int end,
                    const std::function<bool(nd_simt_order, uint64_t)> &wrong) {
    static const char *const names[nd_simt_sync_count] = {
        "",         "block barrier", "warp barrier",   "copy wait",       "mbarrier wait",
        "fence",    "product wait",  "part's barrier", "cluster barrier", "arrival",
        "multicast"};
    enum { shuffles = 16 }; /* what two kinds of background work do to each other is a matter of luck */
    for (int which = first; which < end; which++) {
        bool seen = false;
        nd_simt_leave_out(sync, which);
        for (int order = 0; order < nd_simt_order_count && !seen; order++)
            seen = wrong((nd_simt_order)order, 0);
        for (uint64_t seed = 1; seed <= shuffles && !seen; seed++) seen = wrong(nd_simt_random, seed);
        nd_simt_leave_out(nd_simt_sync_none, 0);
        if (!seen)
            nd_test_fail(name, std::string(names[sync]) + " " + std::to_string(which) + " is not missed");
    }
}

void nd_test_races(nd_test_case &test, nd_simt_sync sync, int first, int end) {
    nd_test_prepared prepared;
    if (!nd_test_prepare(test, prepared)) return;
    nd_test_missed(test.name, sync, first, end, [&](nd_simt_order order, uint64_t seed) {
        return !(seed ? nd_test_attempt(test, prepared, order, seed) : nd_test_attempt(test, prepared, order))
                    .empty();
    });
}

void nd_test_operation(nd_test_case &test, nd_cuda_launch *launch) {
    test.launch = [launch](const nd_test_case &self, const void *x, const void *x2, void *y) {
        nd_cuda_call call = {};
        call.work = &self.work;
        call.storage = self.storage;
        call.x = x;
        call.x2 = x2;
        call.y = y;
        call.weights = self.work.weights;
        call.bias = self.work.bias;
        call.channel = self.work.channel;
        return launch(&call);
    };
    nd_test_run(test);
}

void nd_test_expect(bool truth, const char *what) {
    nd_test_compared++;
    if (truth) return;
    nd_test_failed++;
    printf("FAIL %s\n", what);
}

int nd_test_result() {
    printf("%lld values compared over %llu emulated launches, %lld cases also far apart, %lld failures\n",
           (long long)nd_test_compared, (unsigned long long)nd_simt_launches(), (long long)nd_test_stretched,
           (long long)nd_test_failed);
    return nd_test_failed || !nd_test_compared;
}

/* Tests by the first letters of their names; "" is all. */
static const struct {
    const char *name;
    void (*run)();
} nd_test_suites[] = {
    {"machine", nd_test_machine},
    {"svd", nd_test_svd},
    {"verify", nd_test_verify},
    {"sample", nd_test_sample},
    {"operations", nd_test_operations},
    {"in_place", nd_test_in_place},
    {"depthwise", nd_test_depthwise},
    {"quantized", nd_test_quantized},
    {"separable_mma", nd_test_separable},
    {"separable_u8", nd_test_separable_u8},
    {"separable_sm90a", nd_test_separable_sm90a},
};

/* Without arguments, every test; --filter PREFIX, some; with a file of registers, the table of what the
 * kernels could reach. */
int main(int argc, char **argv) {
    const bool some = argc == 3 && !strcmp(argv[1], "--filter");
    if (argc > 1 && !some) return nd_test_roofline(argv[1]);
    for (const auto &suite : nd_test_suites)
        if (!some || !strncmp(suite.name, argv[2], strlen(argv[2]))) suite.run();
    return nd_test_result();
}
