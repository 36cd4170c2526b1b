/* cuDNN's backend API: descriptors are bags of attributes, engines are names, an execution is
 * nd's reference, of 8 bits loops. */
#include "tests/cuda/mock/mock.h"
#include "tests/cuda/mock/sums.h"

#include <cudnn.h>
#include <map>
#include <math.h>
#include <memory>
#include <string.h>
#include <vector>

extern "C" {
#include "run/plugins.h"
}

namespace {

struct descriptor {
    cudnnBackendDescriptorType_t type;
    std::map<int, std::vector<unsigned char>> attributes;
    int engine = -1; /* of configurations, engines and plans */
    int knob = -1;
    std::shared_ptr<int> runs = std::make_shared<int>(0); /* of a plan */
};

/* What is offered, for tensors of at most 2^31 elements. Engine 11 multiplies on tensor cores, 12 and 13 do
 * not, 14 wants more memory than anybody has and 15 is proposed but does not build. Engine 13 is fast at
 * first and slow when it has run a few times, as on a device whose clock falls. */
struct engine_facts {
    int index;
    bool tensor_core;
    int64_t workspace;
    double ns, fresh_ns; /* of a run; of its first ones */
};

enum { fresh_runs = 5 };

const engine_facts all_engines[] = {{11, true, 0, 1e6, 1e6},
                                    {12, false, 0, 2e6, 2e6},
                                    {13, false, 4096, 9e6, 5e5},
                                    {14, false, (int64_t)1 << 40, 1, 1},
                                    {15, false, -1, 1, 1}};
const engine_facts legacy_winograd = {0, false, 4096, 4e6, 4e6};

/* Engines that ND_MOCK_GPU adds, alike but for their numbers: compiled when a plan of them is built, from 100
 * on; there ready-made, from 200 on. */
enum { first_compiled = 100, first_ready = 200, last_added = 300 };

const engine_facts *facts_of(int index) {
    static std::map<int, engine_facts> added;
    for (const engine_facts &facts : all_engines)
        if (facts.index == index) return &facts;
    if (index < first_compiled || index >= last_added) return nullptr;
    return &added.insert({index, {index, true, 0, 3e6, 3e6}}).first->second;
}

bool is_compiled(int index) {
    return index >= first_compiled && index < first_ready;
}

/* Host time of cuDNN, as it is reported: ns to build a plan, to compile one, to ask the heuristics once. */
const double build_ns = 3e6, compile_ns = 1.4e9, ask_ns = 2e7;

void delay(double ns) {
    if (nd_mock_setting("latency", 0)) nd_mock_pass(ns);
}

descriptor *of(void *made) {
    return static_cast<descriptor *>(made);
}

template <class T> std::vector<T> values(const descriptor *d, int name) {
    std::vector<T> out;
    const auto found = d->attributes.find(name);
    if (found == d->attributes.end()) return out;
    out.resize(found->second.size() / sizeof(T));
    memcpy(out.data(), found->second.data(), found->second.size());
    return out;
}

template <class T> T value(const descriptor *d, int name) {
    const std::vector<T> all = values<T>(d, name);
    return all.empty() ? T() : all[0];
}

size_t size_of(cudnnBackendAttributeType_t type) {
    switch (type) {
    case CUDNN_TYPE_INT64:
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR:
    case CUDNN_TYPE_DOUBLE:
        return 8;
    case CUDNN_TYPE_BOOLEAN:
    case CUDNN_TYPE_CHAR:
        return 1;
    default:
        return 4;
    }
}

nd_dtype dtype_of(cudnnDataType_t type) {
    return type == CUDNN_DATA_HALF       ? nd_dtype_f16
           : type == CUDNN_DATA_BFLOAT16 ? nd_dtype_bf16
           : type == CUDNN_DATA_INT8     ? nd_dtype_i8
           : type == CUDNN_DATA_INT32    ? nd_dtype_i32
           : type == CUDNN_DATA_FP8_E4M3 ? nd_dtype_e4m3
                                         : nd_dtype_f32;
}

/* A tensor and where it is. */
struct tensor {
    nd_view view = {};
    nd_dtype type = nd_dtype_f32;
    int64_t uid = 0;
    void *data = nullptr;
};

tensor tensor_of(const descriptor *d) {
    tensor t;
    const std::vector<int64_t> dims = values<int64_t>(d, CUDNN_ATTR_TENSOR_DIMENSIONS),
                               strides = values<int64_t>(d, CUDNN_ATTR_TENSOR_STRIDES);
    t.view.rank = (int)dims.size();
    for (size_t i = 0; i < dims.size(); i++) {
        t.view.dims[i] = dims[i];
        t.view.strides[i] = strides[i];
    }
    t.type = dtype_of(value<cudnnDataType_t>(d, CUDNN_ATTR_TENSOR_DATA_TYPE));
    t.uid = value<int64_t>(d, CUDNN_ATTR_TENSOR_UNIQUE_ID);
    return t;
}

/* Calls body(element offset, index in row-major order). */
template <class Body> void each(const nd_view &view, Body body) {
    int64_t index = 0;
    for (int64_t n = 0; n < view.dims[0]; n++)
        for (int64_t c = 0; c < view.dims[1]; c++)
            for (int64_t h = 0; h < view.dims[2]; h++)
                for (int64_t w = 0; w < view.dims[3]; w++)
                    body(n * view.strides[0] + c * view.strides[1] + h * view.strides[2] +
                             w * view.strides[3],
                         index++);
}

std::vector<float> dense(const tensor &t) {
    std::vector<float> out((size_t)nd_view_count(&t.view));
    each(t.view, [&](int64_t at, int64_t i) { out[(size_t)i] = nd_mock_load(t.data, t.type, at); });
    return out;
}

struct step {
    cudnnPointwiseMode_t mode;
    tensor operand; /* data NULL for none */
};

/* All that an execution needs, by value: a graph capture outlives descriptors. */
struct convolution {
    tensor x, w, y; /* y: where the last step writes */
    nd_window window = {};
    std::vector<step> steps;
    void *workspace = nullptr;
    const engine_facts *facts = nullptr;
    std::shared_ptr<int> runs;
};

/* What ND_MOCK_GPU says is wrong with this engine; empty for nothing. */
std::string fault_of(const convolution &c) {
    const std::string all = nd_mock_fault("cudnn");
    return all.empty() ? nd_mock_fault("eng" + std::to_string(c.facts->index)) : all;
}

void spend(const convolution &c) {
    if (!fault_of(c).empty()) return nd_mock_spend(1);
    const double ns = ++*c.runs > fresh_runs ? c.facts->ns : c.facts->fresh_ns;
    nd_mock_spend(nd_view_is_channels_last(&c.x.view) ? ns : ns * (double)nd_mock_setting("nchw", 200) / 100);
}

/* What tensor cores keep of fp32. */
float cut(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits &= ~0x1fffu;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* The sums alone, of signed integers or of e4m3; nd's reference knows neither. */
template <class Sum> bool run_sums(const convolution &c) {
    const nd_view &x = c.x.view, &w = c.w.view, &y = c.y.view;
    const std::vector<float> left = dense(c.x), right = dense(c.w);
    nd_window g = c.window;
    if (fault_of(c) == "tap") g.pad[1]++;
    if (c.workspace) memset(c.workspace, 0xff, (size_t)c.facts->workspace);
    spend(c);
    each(y, [&](int64_t at, int64_t i) {
        const int64_t column = i % y.dims[3], row = i / y.dims[3] % y.dims[2],
                      o = i / (y.dims[2] * y.dims[3]) % y.dims[1],
                      n = i / (y.dims[1] * y.dims[2] * y.dims[3]);
        Sum sum;
        for (int64_t tap = 0; tap < x.dims[1] * w.dims[2] * w.dims[3]; tap++) {
            const int64_t channel = tap / (w.dims[2] * w.dims[3]),
                          h = row * g.stride[0] - g.pad[0] + tap / w.dims[3] % w.dims[2] * g.dilation[0],
                          v = column * g.stride[1] - g.pad[1] + tap % w.dims[3] * g.dilation[1];
            if (h < 0 || h >= x.dims[2] || v < 0 || v >= x.dims[3]) continue;
            sum.add(left[(size_t)(((n * x.dims[1] + channel) * x.dims[2] + h) * x.dims[3] + v)],
                    right[(size_t)(o * x.dims[1] * w.dims[2] * w.dims[3] + tap)]);
        }
        sum.store(c.y.data, at);
    });
    return true;
}

bool run(const convolution &c) {
    if (c.x.type == nd_dtype_i8) return run_sums<nd_mock_integers>(c);
    if (c.x.type == nd_dtype_e4m3) return run_sums<nd_mock_e4m3>(c);
    const std::string fault = fault_of(c);
    nd_work work = {};
    const nd_view out = nd_view_row_major(4, c.y.view.dims);
    std::vector<float> x = dense(c.x), w = dense(c.w);
    if (c.facts->tensor_core && c.x.type == nd_dtype_f32) {
        for (float &value : x) value = cut(value);
        for (float &value : w) value = cut(value);
    }
    std::vector<float> y((size_t)nd_view_count(&out));
    work.operation = nd_operation_conv;
    work.x = nd_view_row_major(4, c.x.view.dims);
    work.y = work.x2 = out;
    work.window = c.window;
    if (fault == "tap") work.window.pad[1]++;
    work.groups = c.x.view.dims[1] / c.w.view.dims[1];
    work.weights = w.data();
    if (nd_ref_run(&work, x.data(), nullptr, y.data())) return false;
    if (c.workspace) memset(c.workspace, 0xff, (size_t)c.facts->workspace);
    spend(c);
    for (const step &s : c.steps) {
        if (fault == "epilogue" && &s == &c.steps.back()) break;
        const std::vector<float> operand = s.operand.data ? dense(s.operand) : std::vector<float>();
        const int64_t channels = out.dims[1], plane = out.dims[2] * out.dims[3];
        const bool by_channel = (int64_t)operand.size() == channels && out.dims[0] * plane > 1;
        for (size_t i = 0; i < y.size(); i++) {
            if (s.mode == CUDNN_POINTWISE_ADD)
                y[i] += operand[by_channel ? i / (size_t)plane % (size_t)channels : i];
            else if (y[i] < 0)
                y[i] = 0;
        }
    }
    if (fault == "nan") y.back() = NAN;
    const int64_t written = (int64_t)y.size() - (fault == "hole" ? 1 : 0);
    each(c.y.view, [&](int64_t at, int64_t i) {
        if (i < written) nd_mock_store(c.y.data, c.y.type, at, y[(size_t)i]);
    });
    return true;
}

/* What the first operation of a graph reads. */
nd_dtype reads(const descriptor *graph) {
    const descriptor *first = of(value<void *>(graph, CUDNN_ATTR_OPERATIONGRAPH_OPS));
    return tensor_of(of(value<void *>(first, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X))).type;
}

/* Proposals of a heuristics mode for the descriptor's graph: of 8 bits, as the real one's, first those that
 * use no tensor cores. */
std::vector<int> proposals(const descriptor *heuristics) {
    const int mode = value<int>(heuristics, CUDNN_ATTR_ENGINEHEUR_MODE);
    const descriptor *graph = of(value<void *>(heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH));
    const bool fused = values<void *>(graph, CUDNN_ATTR_OPERATIONGRAPH_OPS).size() > 1;
    const bool e4m3 = reads(graph) == nd_dtype_e4m3, integers = reads(graph) == nd_dtype_i8;
    if (!(nd_mock_setting("engines", 7) >> (fused ? 1 : e4m3 ? 2 : 0) & 1)) return {};
    if (e4m3 && nd_mock_setting("capability", 90) < 89) return {};
    if (mode == CUDNN_HEUR_MODE_A) {
        std::vector<int> engines = {15, 11, 12};
        if (e4m3 || integers) std::swap(engines[1], engines[2]);
        for (int i = 0; i < nd_mock_setting("compiled", 0); i++)
            engines.insert(engines.begin(), first_compiled + i);
        for (int i = 0; i < nd_mock_setting("ready", 0); i++) engines.push_back(first_ready + i);
        return engines;
    }
    if (mode == CUDNN_HEUR_MODE_B) return {12, 14};
    return {13};
}

cudnnStatus_t give(const void *from, size_t size, int64_t available, int64_t wanted, int64_t *count,
                   void *out) {
    const int64_t given = wanted < available ? wanted : available;
    if (count) *count = wanted ? given : available;
    if (given) memcpy(out, from, size * (size_t)given);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t get_results(const descriptor *d, int64_t wanted, int64_t *count, void *out) {
    const std::vector<int> engines = proposals(d);
    *count = (int64_t)engines.size();
    if (!wanted) return CUDNN_STATUS_SUCCESS;
    if (*count > wanted) *count = wanted;
    for (int64_t i = 0; i < *count; i++) {
        descriptor *config = of(static_cast<void **>(out)[i]);
        config->engine = engines[(size_t)i];
        config->attributes[CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH] =
            d->attributes.at(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
    }
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t get_notes(const descriptor *d, int64_t wanted, int64_t *count, void *out) {
    const cudnnBackendNumericalNote_t note = CUDNN_NUMERICAL_NOTE_TENSOR_CORE;
    return give(&note, sizeof note, facts_of(d->engine)->tensor_core ? 1 : 0, wanted, count, out);
}

nd_window window_of(const descriptor *conv) {
    nd_window g = {};
    for (int i = 0; i < 2; i++) {
        g.pad[i] = values<int64_t>(conv, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS)[(size_t)i];
        g.pad[2 + i] = values<int64_t>(conv, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS)[(size_t)i];
        g.stride[i] = values<int64_t>(conv, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES)[(size_t)i];
        g.dilation[i] = values<int64_t>(conv, CUDNN_ATTR_CONVOLUTION_DILATIONS)[(size_t)i];
    }
    return g;
}

/* 8 bits: as tensor cores have them, 16 channels of a pixel together, into all the bits of their sums. */
bool takes(const convolution &c) {
    const bool integers = c.x.type == nd_dtype_i8;
    const int64_t *strides = c.x.view.strides, apart = strides[0] | strides[2] | strides[3];
    if (!integers && c.x.type != nd_dtype_e4m3) return true;
    return c.w.type == c.x.type && c.y.type == (integers ? nd_dtype_i32 : nd_dtype_f32) && c.steps.empty() &&
           strides[1] == 1 && (c.x.view.dims[1] | c.y.view.dims[1] | apart) % 16 == 0;
}

/* Binds the graph to the pack's pointers. False where a tensor has none, or starts between its alignment. */
bool bind(const descriptor *graph, const descriptor *pack, convolution *out) {
    const std::vector<int64_t> uids = values<int64_t>(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
    const std::vector<void *> pointers = values<void *>(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
    bool whole = true;
    const auto bound = [&](void *made) {
        tensor t = tensor_of(of(made));
        for (size_t i = 0; i < uids.size(); i++)
            if (uids[i] == t.uid) t.data = pointers[i];
        const int64_t alignment = value<int64_t>(of(made), CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT);
        const bool is_virtual = value<unsigned char>(of(made), CUDNN_ATTR_TENSOR_IS_VIRTUAL) != 0;
        whole = whole && (is_virtual || (t.data && (uintptr_t)t.data % (uintptr_t)alignment == 0));
        return t;
    };
    for (void *made : values<void *>(graph, CUDNN_ATTR_OPERATIONGRAPH_OPS)) {
        const descriptor *op = of(made);
        if (op->type == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR) {
            const descriptor *conv =
                of(value<void *>(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC));
            out->x = bound(value<void *>(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X));
            out->w = bound(value<void *>(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W));
            out->y = bound(value<void *>(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y));
            out->window = window_of(conv);
            for (int i = 0; i < 2; i++) out->window.kernel[i] = out->w.view.dims[2 + i];
            continue;
        }
        step s = {};
        const descriptor *pointwise = of(value<void *>(op, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR));
        s.mode = value<cudnnPointwiseMode_t>(pointwise, CUDNN_ATTR_POINTWISE_MODE);
        void *operand = value<void *>(op, CUDNN_ATTR_OPERATION_POINTWISE_BDESC);
        if (operand) s.operand = bound(operand);
        out->y = bound(value<void *>(op, CUDNN_ATTR_OPERATION_POINTWISE_YDESC));
        out->steps.push_back(s);
    }
    return whole && out->y.data && takes(*out);
}

/* The legacy interface's descriptors. */
struct legacy {
    tensor t;
    nd_window window = {};
};

} // namespace

extern "C" {

size_t cudnnGetVersion(void) {
    return (size_t)nd_mock_setting("cudnn", 92000);
}

const char *cudnnGetErrorString(cudnnStatus_t) {
    return "mock cuDNN status";
}

void cudnnGetLastErrorString(char *message, size_t size) {
    if (size) message[0] = '\0';
}

cudnnStatus_t cudnnCreate(cudnnHandle_t *out) {
    *out = nullptr;
    ND_MOCK_CALL(CUDNN_STATUS_NOT_INITIALIZED);
    nd_mock_make<nd_mock_handle>("cuDNN handles", out);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroy(cudnnHandle_t dnn) {
    nd_mock_give_back<nd_mock_handle>("cuDNN handles", dnn);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t dnn, cudaStream_t stream) {
    nd_mock_as<nd_mock_handle>(dnn)->stream = stream;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *out) {
    *out = nullptr;
    ND_MOCK_CALL(CUDNN_STATUS_ALLOC_FAILED);
    nd_mock_make("cuDNN descriptors", out, descriptor{type, {}});
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t made) {
    nd_mock_give_back<descriptor>("cuDNN descriptors", made);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t made, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count, const void *from) {
    ND_MOCK_CALL(CUDNN_STATUS_BAD_PARAM);
    const auto *bytes = static_cast<const unsigned char *>(from);
    of(made)->attributes[name].assign(bytes, bytes + (size_t)count * size_of(type));
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t made) {
    ND_MOCK_CALL(CUDNN_STATUS_INTERNAL_ERROR);
    descriptor *d = of(made);
    if (d->type == CUDNN_BACKEND_TENSOR_DESCRIPTOR) {
        const tensor t = tensor_of(d);
        return nd_view_count(&t.view) <= INT32_MAX ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_NOT_SUPPORTED;
    }
    if (d->type == CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR) delay(ask_ns);
    if (d->type != CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR) return CUDNN_STATUS_SUCCESS;
    const descriptor *config = of(value<void *>(d, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG));
    d->engine = config->engine;
    delay(is_compiled(d->engine) ? compile_ns : build_ns);
    d->attributes[CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH] =
        config->attributes.at(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
    return facts_of(d->engine)->workspace < 0 ? CUDNN_STATUS_NOT_SUPPORTED : CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t const made, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t wanted, int64_t *count,
                                       void *out) {
    ND_MOCK_CALL(CUDNN_STATUS_BAD_PARAM);
    const descriptor *d = of(made);
    const int64_t index = d->engine, knob = d->knob;
    switch ((int)name) {
    case CUDNN_ATTR_ENGINEHEUR_RESULTS:
        return get_results(d, wanted, count, out);
    case CUDNN_ATTR_ENGINECFG_ENGINE:
        of(*static_cast<void **>(out))->engine = d->engine;
        *count = 1;
        return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_ENGINE_GLOBAL_INDEX:
        return give(&index, sizeof index, 1, wanted, count, out);
    case CUDNN_ATTR_ENGINE_NUMERICAL_NOTE:
        return get_notes(d, wanted, count, out);
    case CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE: {
        const cudnnBackendBehaviorNote_t note = CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION;
        return give(&note, sizeof note, is_compiled(d->engine) ? 1 : 0, wanted, count, out);
    }
    case CUDNN_ATTR_ENGINECFG_KNOB_CHOICES:
        of(*static_cast<void **>(out))->knob = 2;
        *count = 1;
        return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE:
        return give(&knob, sizeof(int), 1, wanted, count, out);
    case CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE:
        return give(&knob, sizeof knob, 1, wanted, count, out);
    case CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE:
        return give(&facts_of(d->engine)->workspace, size_of(type), 1, wanted, count, out);
    default:
        return CUDNN_STATUS_NOT_SUPPORTED;
    }
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t dnn, cudnnBackendDescriptor_t plan,
                                  cudnnBackendDescriptor_t pack) {
    ND_MOCK_CALL(CUDNN_STATUS_EXECUTION_FAILED);
    const descriptor *p = of(plan);
    convolution c;
    c.workspace = value<void *>(of(pack), CUDNN_ATTR_VARIANT_PACK_WORKSPACE);
    c.facts = facts_of(p->engine);
    c.runs = p->runs;
    if (c.facts->workspace && !c.workspace) return CUDNN_STATUS_BAD_PARAM;
    if (!bind(of(value<void *>(p, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH)), of(pack), &c))
        return CUDNN_STATUS_BAD_PARAM;
    if (!c.facts->workspace) c.workspace = nullptr;
    nd_mock_enqueue(nd_mock_as<nd_mock_handle>(dnn)->stream, [c] { return run(c); });
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnCreateTensorDescriptor(cudnnTensorDescriptor_t *out) {
    ND_MOCK_CALL(CUDNN_STATUS_ALLOC_FAILED);
    nd_mock_make<legacy>("cuDNN tensors", out);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroyTensorDescriptor(cudnnTensorDescriptor_t made) {
    nd_mock_give_back<legacy>("cuDNN tensors", made);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnCreateFilterDescriptor(cudnnFilterDescriptor_t *out) {
    ND_MOCK_CALL(CUDNN_STATUS_ALLOC_FAILED);
    nd_mock_make<legacy>("cuDNN filters", out);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroyFilterDescriptor(cudnnFilterDescriptor_t made) {
    nd_mock_give_back<legacy>("cuDNN filters", made);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnCreateConvolutionDescriptor(cudnnConvolutionDescriptor_t *out) {
    ND_MOCK_CALL(CUDNN_STATUS_ALLOC_FAILED);
    nd_mock_make<legacy>("cuDNN convolutions", out);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroyConvolutionDescriptor(cudnnConvolutionDescriptor_t made) {
    nd_mock_give_back<legacy>("cuDNN convolutions", made);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetTensorNdDescriptor(cudnnTensorDescriptor_t made, cudnnDataType_t type, int rank,
                                         const int *dims, const int *strides) {
    tensor *t = &nd_mock_as<legacy>(made)->t;
    t->type = dtype_of(type);
    t->view.rank = rank;
    for (int i = 0; i < rank; i++) {
        t->view.dims[i] = dims[i];
        t->view.strides[i] = strides[i];
    }
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetFilterNdDescriptor(cudnnFilterDescriptor_t made, cudnnDataType_t type,
                                         cudnnTensorFormat_t format, int, const int *dims) {
    const int64_t wide[] = {dims[0], dims[1], dims[2], dims[3]};
    tensor *t = &nd_mock_as<legacy>(made)->t;
    t->type = dtype_of(type);
    t->view = format == CUDNN_TENSOR_NHWC ? nd_view_channels_last(4, wide) : nd_view_row_major(4, wide);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetConvolutionNdDescriptor(cudnnConvolutionDescriptor_t made, int, const int *pads,
                                              const int *strides, const int *dilations,
                                              cudnnConvolutionMode_t, cudnnDataType_t) {
    nd_window *g = &nd_mock_as<legacy>(made)->window;
    for (int i = 0; i < 2; i++) {
        g->pad[i] = g->pad[2 + i] = pads[i];
        g->stride[i] = strides[i];
        g->dilation[i] = dilations[i];
        g->kernel[i] = 3;
    }
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetConvolutionGroupCount(cudnnConvolutionDescriptor_t, int) {
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetConvolutionMathType(cudnnConvolutionDescriptor_t, cudnnMathType_t) {
    return CUDNN_STATUS_SUCCESS;
}

/* Like the real one, only for stride 1. */
cudnnStatus_t cudnnGetConvolutionForwardWorkspaceSize(cudnnHandle_t, const cudnnTensorDescriptor_t,
                                                      const cudnnFilterDescriptor_t,
                                                      const cudnnConvolutionDescriptor_t conv,
                                                      const cudnnTensorDescriptor_t,
                                                      cudnnConvolutionFwdAlgo_t, size_t *bytes) {
    ND_MOCK_CALL(CUDNN_STATUS_BAD_PARAM);
    const nd_window *g = &nd_mock_as<legacy>((void *)conv)->window;
    if (g->stride[0] != 1 || g->stride[1] != 1 || g->dilation[0] != 1 || g->dilation[1] != 1)
        return CUDNN_STATUS_NOT_SUPPORTED;
    *bytes = (size_t)legacy_winograd.workspace;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnConvolutionForward(cudnnHandle_t dnn, const void *, const cudnnTensorDescriptor_t x,
                                      const void *x_data, const cudnnFilterDescriptor_t w, const void *w_data,
                                      const cudnnConvolutionDescriptor_t conv, cudnnConvolutionFwdAlgo_t,
                                      void *workspace, size_t bytes, const void *,
                                      const cudnnTensorDescriptor_t y, void *y_data) {
    ND_MOCK_CALL(CUDNN_STATUS_EXECUTION_FAILED);
    if (bytes < (size_t)legacy_winograd.workspace || !workspace) return CUDNN_STATUS_BAD_PARAM;
    convolution c;
    c.x = nd_mock_as<legacy>((void *)x)->t;
    c.w = nd_mock_as<legacy>((void *)w)->t;
    c.y = nd_mock_as<legacy>((void *)y)->t;
    c.x.data = (void *)(uintptr_t)x_data;
    c.w.data = (void *)(uintptr_t)w_data;
    c.y.data = y_data;
    c.window = nd_mock_as<legacy>((void *)conv)->window;
    c.workspace = workspace;
    c.facts = &legacy_winograd;
    c.runs = std::make_shared<int>(0);
    nd_mock_enqueue(nd_mock_as<nd_mock_handle>(dnn)->stream, [c] { return run(c); });
    return CUDNN_STATUS_SUCCESS;
}

} // extern "C"
