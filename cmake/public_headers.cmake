# The public headers as programs see them: in nd/, including each other by that name, and for C++ as well.
#   cmake -DSOURCE=FOLDER -DOUT=FOLDER -DHEADERS="a;b" -P public_headers.cmake
set(begin "#ifdef __cplusplus\nextern \"C\" {\n#endif")
set(end "#ifdef __cplusplus\n}\n#endif")
foreach(header IN LISTS HEADERS)
    string(REGEX REPLACE "^host/" "" name ${header})
    file(READ ${SOURCE}/${header} text)
    string(REGEX REPLACE "(#[ ]*include) \"([^\"]+)\"" "\\1 \"nd/\\2\"" text "${text}")
    string(REPLACE "#pragma GCC visibility push(default)" "${begin}" text "${text}")
    string(REPLACE "#pragma GCC visibility pop" "${end}" text "${text}")
    file(WRITE ${OUT}/nd/${name} "${text}")
endforeach()
