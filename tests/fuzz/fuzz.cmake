# One libFuzzer target for every fuzz_*.c here, linked to an instrumented static copy of what parses files. Seeds lie in
# corpus/<name>/; run.sh runs them all for some seconds each.
if(NOT CMAKE_C_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "ND_FUZZ needs clang: configure with -DCMAKE_C_COMPILER=clang")
endif()

set(nd_fuzz_flags -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g)

nd_room(fuzzed host/base host/base/files host/base/format host/base/machine host/base/rows host/base/text
        host/model host/model/onnx host/model/infer host/model/weights host/model/zoo datasets datasets/annotations datasets/image)
add_library(nd_fuzzed STATIC EXCLUDE_FROM_ALL ${fuzzed} ${onnx_messages}.c)
add_dependencies(nd_fuzzed nd_version nd_messages)
target_include_directories(nd_fuzzed PUBLIC host . ${CMAKE_BINARY_DIR}/generated)
target_compile_options(nd_fuzzed PRIVATE ${nd_fuzz_flags})
target_link_libraries(nd_fuzzed PUBLIC m PkgConfig::EXPAT PkgConfig::PNG PkgConfig::JANSSON PkgConfig::LIBZIP PkgConfig::PROTOBUF_C
                      PkgConfig::TURBOJPEG ZLIB::ZLIB ${CMAKE_DL_LIBS} Threads::Threads)

add_custom_target(fuzz)
file(GLOB nd_fuzzers CONFIGURE_DEPENDS tests/fuzz/fuzz_*.c)
foreach(file IN LISTS nd_fuzzers)
    get_filename_component(name ${file} NAME_WE)
    add_executable(${name} EXCLUDE_FROM_ALL ${file})
    target_compile_options(${name} PRIVATE ${nd_fuzz_flags})
    target_link_libraries(${name} PRIVATE nd_fuzzed -fsanitize=fuzzer,address,undefined)
    add_dependencies(fuzz ${name})
endforeach()
