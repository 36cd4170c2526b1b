# The CUDA plugin. AUTO builds it when nvcc, cuBLAS, cuSOLVER and cuDNN are all there; ON makes a missing part an
# error; OFF never looks.
set(ND_CUDA_SUMMARY "off")
if(NOT ND_CUDA STREQUAL "OFF")
    include(CheckLanguage)
    check_language(CUDA)
    set(ND_CUDA_SUMMARY "no: no nvcc found")
endif()
