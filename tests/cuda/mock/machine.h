/* What the mock's CUDA runtime is made of: operations that wait in streams, and what they come after. */
#ifndef ND_TESTS_CUDA_MOCK_MACHINE_H
#define ND_TESTS_CUDA_MOCK_MACHINE_H

#include "tests/cuda/mock/mock.h"

#include <limits.h>
#include <list>
#include <map>
#include <memory>
#include <vector>

namespace nd_mock {

struct operation {
    std::function<bool()> work;
    std::vector<std::shared_ptr<operation>> after;
    int stream = 0;
    bool done = false;
};

typedef std::shared_ptr<operation> operation_ptr;

struct captured_graph {
    std::vector<operation_ptr> operations;
    bool broken = false;
};

/* What the next operation of the stream comes after. */
struct stream_state {
    int number;
    std::vector<operation_ptr> after;
    std::shared_ptr<captured_graph> into;
    bool origin = false; /* the one that the capture began on */
};

struct event_state {
    operation_ptr at;
    std::shared_ptr<captured_graph> into;
    double ns = 0;
};

struct machine {
    std::list<operation_ptr> waiting;
    std::vector<stream_state *> streams;
    std::map<void *, size_t> blocks;
    size_t used = 0;
    std::map<std::string, int> alive, calls;
    cudaError_t last = cudaSuccess;
    bool lost = false;
    int made_streams = 0;
    stream_state standard{INT_MAX, {}, nullptr}; /* the default stream */
    long executed = 0;                           /* operations */
    double clock = 0;                            /* ns; goes on by what runs */

    ~machine(); /* a process that leaks something must not look well */
};

extern machine gpu;

bool dry(); /* nothing is computed */
stream_state *state_of(cudaStream_t stream);
cudaError_t failed(cudaError_t error); /* and kept for cudaGetLastError */

/* Runs all that waits, one operation at a time, in the order that was asked for. */
cudaError_t flush();
operation_ptr append(stream_state *stream, std::function<bool()> work);

/* Calls that the driver forbids while this thread records, and that break the graph capture. */
bool forbidden();

} // namespace nd_mock

#endif
