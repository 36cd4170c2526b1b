# The CUDA plugin. AUTO builds it when nvcc, cuBLAS, cuSOLVER and cuDNN are all there; ON makes a missing part an error;
# OFF never looks. cuDNN is looked for in ND_CUDNN_ROOT, beside the toolkit, then where the compiler looks.
set(ND_CUDA_SUMMARY "off")
set(ND_CUDNN_ROOT "" CACHE PATH "Folder with cuDNN's include and lib")

if(NOT ND_CUDA STREQUAL "OFF")
    include(CheckLanguage)
    # On PATH or in the usual place.
    find_program(ND_NVCC nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES bin)
    set(cuda_missing)
    if(NOT ND_NVCC)
        list(APPEND cuda_missing nvcc)
    else()
        if(NOT DEFINED CMAKE_CUDA_COMPILER)
            set(CMAKE_CUDA_COMPILER ${ND_NVCC})
        endif()
        set(CMAKE_CUDA_ARCHITECTURES ${ND_CUDA_ARCHITECTURES})
        enable_language(CUDA)
        find_package(CUDAToolkit REQUIRED)
        find_path(ND_CUDNN_INCLUDE cudnn.h HINTS ${ND_CUDNN_ROOT} ${CUDAToolkit_INCLUDE_DIRS} PATH_SUFFIXES include)
        find_library(ND_CUDNN NAMES cudnn libcudnn.so.9 HINTS ${ND_CUDNN_ROOT} ${CUDAToolkit_LIBRARY_DIR} PATH_SUFFIXES lib lib64)
        if(NOT ND_CUDNN_INCLUDE OR NOT ND_CUDNN)
            list(APPEND cuda_missing "cuDNN 9 (set ND_CUDNN_ROOT)")
        endif()
        foreach(part cublas cublasLt cusolver cudart_static)
            if(NOT TARGET CUDA::${part})
                list(APPEND cuda_missing ${part})
            endif()
        endforeach()
    endif()
    if(cuda_missing)
        list(JOIN cuda_missing ", " cuda_missing)
        set(ND_CUDA_SUMMARY "no: missing ${cuda_missing}")
        if(ND_CUDA STREQUAL "ON")
            message(FATAL_ERROR "ND_CUDA=ON, but missing: ${cuda_missing}")
        endif()
    else()
        set(ND_CUDA_FOUND TRUE)
        set(ND_CUDA_SUMMARY "CUDA ${CUDAToolkit_VERSION}, cuDNN ${ND_CUDNN}, for ${ND_CUDA_ARCHITECTURES}")
    endif()
endif()

if(ND_CUDA_FOUND)
    file(GLOB cuda_sources CONFIGURE_DEPENDS cuda/*.c cuda/*.cu)
    # Objects once: for the plugin and for the tests of its parts that need no device.
    add_library(nd_cuda_parts OBJECT ${cuda_sources})
    set_target_properties(nd_cuda_parts PROPERTIES C_VISIBILITY_PRESET hidden CUDA_VISIBILITY_PRESET hidden
                          CUDA_STANDARD 17 CUDA_STANDARD_REQUIRED ON)
    target_include_directories(nd_cuda_parts PUBLIC ${CMAKE_SOURCE_DIR}/host ${CMAKE_SOURCE_DIR})
    target_include_directories(nd_cuda_parts SYSTEM PUBLIC ${ND_CUDNN_INCLUDE} ${CUDAToolkit_INCLUDE_DIRS})
    # Messages name the file, not the machine it was built on.
    target_compile_options(nd_cuda_parts PRIVATE
        $<$<COMPILE_LANGUAGE:C>:-fmacro-prefix-map=${CMAKE_SOURCE_DIR}/=>
        $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-fmacro-prefix-map=${CMAKE_SOURCE_DIR}/= --compress-mode=size>)

    add_library(nd_cuda MODULE $<TARGET_OBJECTS:nd_cuda_parts>)
    set_target_properties(nd_cuda PROPERTIES LINKER_LANGUAGE C CUDA_RESOLVE_DEVICE_SYMBOLS OFF)
    set(cuda_libraries CUDA::cublas CUDA::cublasLt CUDA::cusolver ${ND_CUDNN} CUDA::cudart_static stdc++ m)
    target_link_libraries(nd_cuda PRIVATE nd_core ${cuda_libraries})
    # Of the static runtime nothing may leak out either.
    target_link_options(nd_cuda PRIVATE LINKER:--exclude-libs,ALL)
    add_dependencies(nd nd_cuda)
    install(TARGETS nd_cuda LIBRARY DESTINATION lib)

    if(ND_TESTS)
        enable_testing()
        add_executable(nd_engines tests/cuda/engines.c $<TARGET_OBJECTS:nd_cuda_parts>)
        target_include_directories(nd_engines SYSTEM PRIVATE ${ND_CUDNN_INCLUDE} ${CUDAToolkit_INCLUDE_DIRS})
        target_link_libraries(nd_engines PRIVATE nd_core ${cuda_libraries})
        add_test(NAME cuda_engines COMMAND tests/cuda/engines.sh $<TARGET_FILE:nd_engines> results/golden/cudnn_engines.csv
                 WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
        add_test(NAME cuda_resources COMMAND tests/cuda/resources.sh ${CMAKE_CUDA_COMPILER} results/golden/cuda_resources.csv
                 WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
        add_test(NAME cuda_device COMMAND tests/cuda/device_test.sh ${CMAKE_BINARY_DIR} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
        set_tests_properties(cuda_engines cuda_resources cuda_device PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 900)
    endif()
endif()
