/* Files: mapped or streamed for reading, caches, and where the bundled data lies. Outputs:
 * base/files/draft.h. */
#ifndef ND_BASE_FILE_H
#define ND_BASE_FILE_H

#include "base/memory.h"

#include <stdio.h>

#pragma GCC visibility push(default)

bool nd_file_is_folder(const char *path); /* links are followed */

/* Maps a regular file read-only. The buffer's last reference unmaps it. An empty file gives bytes == 0. */
nd_status nd_file_map(const char *path, nd_buffer **out);

/* The same for a name that came out of another file and is not to be trusted: `name` is taken below `folder`
 * ("" = the current one) and must be relative, without "..", with no symbolic link on the way, and not a hard
 * link. */
nd_status nd_file_map_below(const char *folder, const char *name, nd_buffer **out);

/* A stream over a regular file, or NULL with errno set: opening anything else (a FIFO planted as a cache)
 * could wait for ever. `mode` is fopen's. */
FILE *nd_file_stream(const char *path, const char *mode);

/* The folder that the program or library with this code lies in, with its final slash; false when unknown. */
bool nd_file_origin(char *folder, size_t size);

/* Path of a bundled file or folder such as "glyphs/glyphs.onnx": under $ND_SHARE, else in share/nd of the
 * prefix that nd_file_origin is in, else beside it. Fails with nd_status_input when it is nowhere. */
nd_status nd_file_bundled(const char *name, char *path, size_t size);

/* Folder for caches (engine choice, curves): $ND_CACHE, else $XDG_CACHE_HOME/nd, else ~/.cache/nd. Made if
 * missing. */
nd_status nd_file_cache(char *path, size_t size);

#pragma GCC visibility pop

#endif
