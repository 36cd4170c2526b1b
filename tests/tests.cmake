# Unit tests (Criterion, one process a test), golden tests of the command line, peers and the SIMT emulator.
#
# The quick suite is what a change is tried with: it neither builds nor runs what takes minutes. Every test says which it
# is in (a label), and how many seconds it may take at most on a machine with other work to do. Two run at a time, those
# with the most seconds first; what takes two cores itself, or measures what the machine has left, says so (nd_alone).
option(ND_TESTS_FULL "Build and list what only the full suite runs too: emulator, mock, peers, real networks" ON)
function(nd_suite label seconds)
    foreach(name IN LISTS ARGN)
        if(TEST ${name})
            set_tests_properties(${name} PROPERTIES LABELS ${label} TIMEOUT ${seconds} COST ${seconds})
        endif()
    endforeach()
endfunction()
function(nd_alone)
    foreach(name IN LISTS ARGN)
        if(TEST ${name})
            set_tests_properties(${name} PROPERTIES RUN_SERIAL ON)
        endif()
    endforeach()
endfunction()

pkg_check_modules(CRITERION IMPORTED_TARGET criterion)
set(ND_TESTS_SUMMARY "no: Criterion not found")
if(CRITERION_FOUND)
    nd_room(unit tests/unit/help tests/unit/base tests/unit/model tests/unit/decouple tests/unit/run tests/unit/datasets
            tests/unit/eval tests/unit/bench tests/unit/quantize)
    add_executable(nd_unit ${unit})
    set_target_properties(nd_unit PROPERTIES ENABLE_EXPORTS ON)
    target_link_libraries(nd_unit PRIVATE nd_core nd_tools PkgConfig::CRITERION PkgConfig::JANSSON PkgConfig::LIBZIP PkgConfig::PNG PkgConfig::PROTOBUF_C m)
    target_compile_definitions(nd_unit PRIVATE ND_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
    add_test(NAME unit COMMAND nd_unit --verbose)
    set(ND_TESTS_SUMMARY "Criterion ${CRITERION_VERSION}")
endif()

# Every operation against a second formulation, on what every machine has.
add_test(NAME check_ref COMMAND nd check --backend ref)
add_test(NAME check_ref_bf16 COMMAND nd check --backend ref --dtype bf16)
if(TARGET nd_cpu)
    add_test(NAME check_cpu COMMAND nd check --backend cpu)
    add_test(NAME check_cpu_bf16 COMMAND nd check --backend cpu --dtype bf16)
    # Every kernel that tuning may choose, and what it kept for another process.
    foreach(dtype fp32 bf16 int8)
        set(tuned "$<TARGET_FILE:nd> check --backend cpu --tune --dtype ${dtype}")
        add_test(NAME check_cpu_tuned_${dtype} COMMAND sh -c "rm -rf tuned_${dtype} && ${tuned} && ${tuned}")
        set_tests_properties(check_cpu_tuned_${dtype} PROPERTIES ENVIRONMENT ND_CACHE=${CMAKE_BINARY_DIR}/tuned_${dtype}
                             WORKING_DIRECTORY ${CMAKE_BINARY_DIR})
    endforeach()
endif()

# A test that cannot run here exits 77 and says why.
function(nd_script_test name)
    add_test(NAME ${name} COMMAND ${ARGN} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
    set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77)
endfunction()
# Plugins that do not load, each in a folder of its own, for ND_PLUGINS.
foreach(kind abi entry needs)
    string(TOUPPER ${kind} upper)
    add_library(nd_broken_${kind} MODULE tests/plugins/broken.c)
    target_include_directories(nd_broken_${kind} PRIVATE host)
    target_compile_definitions(nd_broken_${kind} PRIVATE ND_BROKEN_${upper})
    set_target_properties(nd_broken_${kind} PROPERTIES OUTPUT_NAME nd_cuda SKIP_BUILD_RPATH TRUE
                          LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/broken/${kind})
endforeach()
add_library(nd_absent SHARED tests/plugins/absent.c)
set_target_properties(nd_absent PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/broken/absent)
target_link_libraries(nd_broken_needs PRIVATE nd_absent)
nd_script_test(layers tests/house/layers_test.sh)
nd_script_test(golden tests/golden/run.sh ${CMAKE_BINARY_DIR})
nd_suite(quick 300 check_ref check_ref_bf16 check_cpu check_cpu_bf16 check_cpu_tuned_fp32 check_cpu_tuned_bf16 check_cpu_tuned_int8 layers)
nd_suite(quick 900 unit golden)
# What is installed, used from its prefix alone.
nd_script_test(installed tests/install/prefix_test.sh ${CMAKE_BINARY_DIR})

# On hostile machines and with hostile input.
foreach(part outputs shown options limits)
    nd_script_test(hostile_${part} tests/hostile/${part}.sh ${CMAKE_BINARY_DIR})
endforeach()

nd_suite(quick 600 installed hostile_outputs hostile_shown hostile_options hostile_limits)
nd_alone(unit hostile_limits)

if(NOT ND_TESTS_FULL)
    set(ND_TESTS_SUMMARY "${ND_TESTS_SUMMARY}, the quick suite")
    return()
endif()

# Killed at any moment; and every small hostile file through an nd with sanitizers, built for it.
nd_script_test(hostile_kill tests/hostile/kill.sh ${CMAKE_BINARY_DIR} 10)
nd_script_test(hostile_sanitized tests/hostile/sanitized.sh ${CMAKE_BINARY_DIR}/sanitized)

# A sweep shared out by Slurm.
nd_script_test(slurm tests/slurm/run.sh ${CMAKE_BINARY_DIR}/nd)

# What the peers run nd with.
add_executable(nd_peer tests/peers/nd_peer.c)
set_target_properties(nd_peer PROPERTIES ENABLE_EXPORTS ON)
target_link_libraries(nd_peer PRIVATE nd_core)
add_executable(nd_timer tests/peers/nd_timer.c)
set_target_properties(nd_timer PROPERTIES ENABLE_EXPORTS ON)
target_link_libraries(nd_timer PRIVATE nd_core)
add_executable(nd_boxes tests/peers/nd_boxes.c)
set_target_properties(nd_boxes PROPERTIES ENABLE_EXPORTS ON)
target_link_libraries(nd_boxes PRIVATE nd_core nd_tools)
add_executable(nd_found tests/peers/nd_found.c)
set_target_properties(nd_found PROPERTIES ENABLE_EXPORTS ON)
target_link_libraries(nd_found PRIVATE nd_core nd_tools)
nd_script_test(peers tests/peers/run.sh ${CMAKE_BINARY_DIR})
find_program(ND_SYSTEM_PYTHON python3 PATHS /usr/bin NO_DEFAULT_PATH) # torchvision is a package of the system
if(NOT ND_SYSTEM_PYTHON)
    set(ND_SYSTEM_PYTHON python3)
endif()
nd_script_test(torchvision_zoo ${ND_SYSTEM_PYTHON} tests/peers/torchvision_zoo.py ${CMAKE_BINARY_DIR})

# The CUDA kernels on the host.
add_subdirectory(tests/simt)
# A machine without nvcc.
nd_script_test(cuda_configure tests/cuda/configure_test.sh ${CMAKE_COMMAND})
# The CUDA plugin over a GPU that is not there.
add_subdirectory(tests/cuda/mock)

# Real networks on real images, where they are at hand.
nd_script_test(real_accuracy tests/real/accuracy.sh ${CMAKE_BINARY_DIR}/nd)

# Golden tests that take from half a minute up, and the networks whose full rank takes longest.
nd_script_test(golden_slow tests/golden/run.sh --slow ${CMAKE_BINARY_DIR})
if(TARGET nd_unit)
    add_test(NAME unit_long COMMAND nd_unit --verbose --filter zoo_full_rank/*)
    set_tests_properties(unit_long PROPERTIES ENVIRONMENT ND_TEST_ALL=1)
endif()

nd_suite(full 300 slurm cuda_configure hostile_kill)
nd_suite(full 900 torchvision_zoo cuda_engines cuda_resources cuda_device cuda_bundle)
nd_suite(full 1800 unit_long golden_slow hostile_sanitized peers)
nd_suite(full 3600 real_accuracy)
nd_alone(unit_long golden_slow real_accuracy hostile_kill)
