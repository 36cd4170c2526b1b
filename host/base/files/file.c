#define _GNU_SOURCE /* dladdr1 */
#include "base/files/file.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

bool nd_file_is_folder(const char *path) {
    struct stat about;
    return !stat(path, &about) && S_ISDIR(about.st_mode);
}

static void file_unmap(nd_buffer *buffer) {
    if (buffer->bytes) munmap(buffer->data, buffer->bytes);
}

/* Maps an open regular file; `path` is for messages. */
static nd_status file_map_open(int file, const char *path, bool one_link, nd_buffer **out) {
    struct stat about;
    ND_REQUIRE(fstat(file, &about) == 0, nd_status_input, "%s: %s", path, strerror(errno));
    ND_REQUIRE(S_ISREG(about.st_mode), nd_status_input, "%s: not a regular file", path);
    ND_REQUIRE(!one_link || about.st_nlink == 1, nd_status_input, "%s: a hard link, which is refused here",
               path);
    const size_t bytes = (size_t)about.st_size;
    nd_buffer *buffer = malloc(sizeof *buffer);
    ND_REQUIRE(buffer, nd_status_memory, "%s: no memory", path);
    void *data = bytes ? mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, file, 0) : NULL;
    if (data == MAP_FAILED) {
        free(buffer);
        return nd_fail(nd_status_input, "%s: %s", path, strerror(errno));
    }
    *buffer = (nd_buffer){.data = data, .bytes = bytes, .release = file_unmap, .references = 1};
    *out = buffer;
    return nd_status_ok;
}

nd_status nd_file_map(const char *path, nd_buffer **out) {
    *out = NULL;
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must be refused, not waited for */
    ND_REQUIRE(file >= 0, nd_status_input, "%s: %s", path, strerror(errno));
    nd_status status = file_map_open(file, path, false, out);
    close(file);
    return status;
}

/* Opens `name` below an open folder, one component at a time, so that no link on the way is followed. */
static int file_open_below(int folder, const char *name) {
    char part[256];
    int at = dup(folder);
    while (at >= 0) {
        const char *slash = strchr(name, '/');
        const size_t length = slash ? (size_t)(slash - name) : strlen(name);
        int next = -1;
        errno = EINVAL; /* for the names refused here: "", "..", and those no file system takes */
        if (length && length < sizeof part) {
            memcpy(part, name, length);
            part[length] = '\0';
            const int kind = slash ? O_DIRECTORY : O_NONBLOCK;
            if (strcmp(part, "..")) next = openat(at, part, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | kind);
        }
        const int reason = errno;
        close(at);
        errno = reason;
        if (!slash) return next;
        at = next;
        name = slash + 1;
    }
    return -1;
}

nd_status nd_file_map_below(const char *folder, const char *name, nd_buffer **out) {
    *out = NULL;
    int root = open(*folder ? folder : ".", O_RDONLY | O_CLOEXEC | O_DIRECTORY);
    ND_REQUIRE(root >= 0, nd_status_input, "%s: %s", folder, strerror(errno));
    int file = file_open_below(root, name);
    nd_status status;
    if (file >= 0)
        status = file_map_open(file, name, true, out);
    else if (errno == ELOOP || errno == EINVAL)
        status =
            nd_fail(nd_status_input, "'%s': absolute paths, '..' and symbolic links are refused here", name);
    else
        status = nd_fail(nd_status_input, "'%s': %s", name, strerror(errno));
    if (file >= 0) close(file);
    close(root);
    return status;
}

FILE *nd_file_stream(const char *path, const char *mode) {
    const bool both = strchr(mode, '+') != NULL;
    int flags = both ? O_RDWR : *mode == 'r' ? O_RDONLY : O_WRONLY;
    if (*mode != 'r') flags |= O_CREAT;
    if (*mode == 'a') flags |= O_APPEND;
    const int file = open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0666);
    struct stat about;
    if (file < 0) return NULL;
    errno = 0;
    if (fstat(file, &about) || !S_ISREG(about.st_mode) || (*mode == 'w' && ftruncate(file, 0))) {
        if (!errno) errno = EINVAL;
        close(file);
        return NULL;
    }
    FILE *stream = fdopen(file, mode);
    if (!stream) close(file);
    return stream;
}

static bool file_exists(const char *path) {
    return access(path, R_OK) == 0;
}

bool nd_file_origin(char *folder, size_t size) {
    static const char anchor; /* an object of the program or library that this is linked into */
    Dl_info info;
    struct link_map *loaded = NULL;
    char file[PATH_MAX];
    if (!dladdr1(&anchor, &info, (void **)&loaded, RTLD_DL_LINKMAP)) return false;
    if (loaded && !*loaded->l_name) { /* the program itself, whose name need not hold a folder */
        const ssize_t length = readlink("/proc/self/exe", file, sizeof file - 1);
        if (length > 0) file[length] = '\0';
        /* Without /proc, as in a bare chroot: the path it was started by, links followed. */
        else if (!realpath((const char *)getauxval(AT_EXECFN), file))
            return false;
    } else {
        snprintf(file, sizeof file, "%s", info.dli_fname);
    }
    char *slash = strrchr(file, '/');
    if (!slash) return false;
    slash[1] = '\0';
    const int length = snprintf(folder, size, "%s", file);
    return length > 0 && (size_t)length < size;
}

nd_status nd_file_bundled(const char *name, char *path, size_t size) {
    /* Installed: from bin or lib, and from lib/ARCHITECTURE. In the build tree: links beside the program. */
    static const char *const below[] = {"../share/nd", "../../share/nd", "share/nd"};
    const char *share = getenv("ND_SHARE");
    if (share) {
        int length = snprintf(path, size, "%s/%s", share, name);
        if (length > 0 && (size_t)length < size && file_exists(path)) return nd_status_ok;
    }
    char origin[4096];
    if (nd_file_origin(origin, sizeof origin))
        for (size_t i = 0; i < sizeof below / sizeof *below; i++) {
            int length = snprintf(path, size, "%s%s/%s", origin, below[i], name);
            if (length > 0 && (size_t)length < size && file_exists(path)) return nd_status_ok;
        }
    return nd_fail(nd_status_input, "%s: bundled file not found; set ND_SHARE to the folder that holds it",
                   name);
}

static bool file_make_folders(char *path) {
    for (char *slash = path + 1; *slash; slash++) {
        if (*slash != '/') continue;
        *slash = '\0';
        bool made = mkdir(path, 0777) == 0 || errno == EEXIST;
        *slash = '/';
        if (!made) return false;
    }
    return mkdir(path, 0777) == 0 || errno == EEXIST;
}

nd_status nd_file_cache(char *path, size_t size) {
    static const struct {
        const char *variable, *below;
    } places[] = {{"ND_CACHE", ""}, {"XDG_CACHE_HOME", "/nd"}, {"HOME", "/.cache/nd"}};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        const char *root = getenv(places[i].variable);
        if (!root || !*root) continue;
        int length = snprintf(path, size, "%s%s", root, places[i].below);
        ND_REQUIRE(length > 0 && (size_t)length < size, nd_status_input, "%s: path too long",
                   places[i].variable);
        ND_REQUIRE(file_make_folders(path), nd_status_input, "%s: %s", path, strerror(errno));
        return nd_status_ok;
    }
    return nd_fail(nd_status_input,
                   "no place for the cache: none of ND_CACHE, XDG_CACHE_HOME and HOME is set");
}
