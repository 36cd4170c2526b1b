# What `cmake --install` and `cpack -G DEB` take: the program, libnd and its headers, plugins, data, manual pages and shell
# completions. Nothing installed knows the prefix: all is found from where the program or libnd.so lies.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(ND_ZSH_DIR ${CMAKE_INSTALL_DATADIR}/zsh/site-functions CACHE STRING "Where zsh looks for completions")

# --- public headers: what nd.h offers and needs, then what plugins need beside run/backend.h
set(nd_public_headers host/nd.h
    host/base/batches.h host/base/boxes.h host/base/log.h host/base/memory.h host/base/rows/row.h host/base/rows/row_fields.h
    host/base/rows/row_write.h host/base/status.h host/base/tensor.h host/base/window.h datasets/dataset.h host/decouple/decouple.h
    host/decouple/methods/ranks.h host/decouple/plan/clock.h host/model/cost.h host/model/graph.h host/model/infer/infer.h
    host/model/model.h host/model/zoo/zoo.h host/run/backend.h host/run/executor.h host/run/libraries.h host/run/plugins.h host/run/quantized.h
    host/base/files/choices.h host/base/files/file.h host/base/hash.h host/base/machine/team.h host/base/parallel.h)
set(public ${CMAKE_BINARY_DIR}/include)
set(as_installed)
foreach(header IN LISTS nd_public_headers)
    string(REGEX REPLACE "^host/" "" name ${header})
    list(APPEND as_installed ${public}/nd/${name})
endforeach()
add_custom_command(OUTPUT ${as_installed}
    COMMAND ${CMAKE_COMMAND} "-DSOURCE=${CMAKE_SOURCE_DIR}" "-DOUT=${public}" "-DHEADERS=${nd_public_headers}"
            -P ${CMAKE_SOURCE_DIR}/cmake/public_headers.cmake
    DEPENDS ${nd_public_headers} cmake/public_headers.cmake cmake/install.cmake VERBATIM)
add_custom_target(nd_headers ALL DEPENDS ${as_installed})
target_include_directories(nd_library INTERFACE $<BUILD_INTERFACE:${public}> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
install(DIRECTORY ${public}/nd DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})

# --- program, library, plugins
set(nd_plugin_dir ${CMAKE_INSTALL_LIBDIR}/nd)
set_source_files_properties(host/run/plugins.c PROPERTIES COMPILE_DEFINITIONS ND_LIBDIR="${CMAKE_INSTALL_LIBDIR}")
install(TARGETS nd RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS nd_library EXPORT nd LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
if(TARGET nd_cpu)
    install(TARGETS nd_cpu LIBRARY DESTINATION ${nd_plugin_dir})
endif()
if(TARGET nd_cuda)
    install(TARGETS nd_cuda LIBRARY DESTINATION ${nd_plugin_dir} COMPONENT cuda)
endif()

# --- data; in the build tree links to it, in a folder that looks like the installed one
set(nd_data datasets/glyphs results/paper)
install(DIRECTORY ${nd_data} DESTINATION ${CMAKE_INSTALL_DATADIR}/nd)
file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/share/nd)
foreach(folder IN LISTS nd_data)
    get_filename_component(name ${folder} NAME)
    file(RELATIVE_PATH target ${CMAKE_BINARY_DIR}/share/nd ${CMAKE_SOURCE_DIR}/${folder})
    file(CREATE_LINK ${target} ${CMAKE_BINARY_DIR}/share/nd/${name} SYMBOLIC)
endforeach()

# --- for programs that link libnd: pkg-config and find_package(nd), which gives nd::nd
file(RELATIVE_PATH nd_pc_prefix /p/${CMAKE_INSTALL_LIBDIR}/pkgconfig /p)
configure_file(cmake/nd.pc.in nd.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/nd.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
set(nd_package ${CMAKE_INSTALL_LIBDIR}/cmake/nd)
install(EXPORT nd NAMESPACE nd:: FILE ndConfig.cmake DESTINATION ${nd_package})
write_basic_package_version_file(ndConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/ndConfigVersion.cmake DESTINATION ${nd_package})

# --- manual pages and completions: printed by nd itself from its option table
if(NOT CMAKE_CROSSCOMPILING)
    set(manual ${CMAKE_BINARY_DIR}/manual)
    add_custom_command(OUTPUT ${manual}/man1/nd.1
        COMMAND ${CMAKE_COMMAND} -DND=$<TARGET_FILE:nd> -DOUT=${manual} -P ${CMAKE_SOURCE_DIR}/cmake/manual.cmake
        DEPENDS nd cmake/manual.cmake VERBATIM)
    add_custom_target(nd_manual ALL DEPENDS ${manual}/man1/nd.1)
    install(DIRECTORY ${manual}/man1 DESTINATION ${CMAKE_INSTALL_MANDIR})
    install(FILES ${manual}/bash/nd DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
    install(FILES ${manual}/zsh/_nd DESTINATION ${ND_ZSH_DIR})
    install(FILES ${manual}/fish/nd.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
endif()
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} RENAME copyright)

# --- the Debian package: all but the CUDA plugin, whose libraries are not Debian's
set(CPACK_PACKAGE_NAME nd)
set(CPACK_PACKAGE_CONTACT "the authors of nd <nd@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "rewrite, evaluate and time convolutional networks by network decoupling")
set(CPACK_PACKAGE_DESCRIPTION "Replaces trained convolutions by sums of depthwise separable ones (Guo et al., BMVC 2018),
measures what that costs in accuracy and gains in time, and gates regressions. With the library, its headers, the
plugin for CPUs, a bundled network and its images.")
set(CPACK_PACKAGE_VENDOR "nd")
set(CPACK_RESOURCE_FILE_LICENSE ${CMAKE_SOURCE_DIR}/LICENSE)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_COMPONENTS_GROUPING ALL_COMPONENTS_IN_ONE)
set(CPACK_COMPONENTS_ALL Unspecified)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_DEPENDS libopenblas0-openmp) # of its variants the one that shares our threads
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS librsvg2-bin) # plots as PNG
include(CPack)
