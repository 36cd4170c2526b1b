#include "base/files/draft.h"

#include "base/text/escape.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum { name_size = 256, drafts_max = 64, stream_bytes = 1 << 16 };

/* What a signal handler must know of a draft. Filled in while `state` is slot_taken, and
 * constant afterwards. */
enum { slot_free, slot_taken, slot_removed, slot_kept };
typedef struct slot {
    _Atomic int state;
    int folder;           /* open: the draft is removed where it was made, wherever the program is by then */
    char name[name_size]; /* below `folder` */
    char note[PATH_MAX + 64]; /* where it is, as a line */
} slot;

static slot slots[drafts_max];

struct nd_draft {
    slot *slot; /* NULL: the target is written directly */
    FILE *file;
    char *stream; /* its buffer */
    bool replaces, published, kept;
    char target[name_size]; /* below the slot's folder */
    char path[PATH_MAX], now[PATH_MAX + name_size];
};

static slot *slot_take(void) {
    for (int i = 0; i < drafts_max; i++) {
        int expected = slot_free;
        if (atomic_compare_exchange_strong(&slots[i].state, &expected, slot_taken)) return &slots[i];
    }
    return NULL;
}

void nd_draft_remove_all(void) {
    for (int i = 0; i < drafts_max; i++) {
        const int state = atomic_load(&slots[i].state);
        if (state == slot_removed) (void)unlinkat(slots[i].folder, slots[i].name, 0);
        if (state == slot_kept && write(STDERR_FILENO, slots[i].note, strlen(slots[i].note)) < 0) continue;
    }
}

/* "a/b/" of "a/b/c", "" of "c". */
static size_t folder_length(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? (size_t)(slash - path) + 1 : 0;
}

/* Below /proc are descriptors that are open already, here or in the shell. */
static bool is_descriptor(const char *path) {
    char folder[PATH_MAX], text[PATH_MAX];
    const ssize_t length = readlink(path, text, sizeof text - 1);
    if (length > 0 && !strncmp(text, "/proc/", 6)) return true;
    snprintf(folder, sizeof folder, "%.*s", (int)folder_length(path), path);
    return *folder && realpath(folder, text) && !strncmp(text, "/proc/", 6);
}

/* Where the bytes shall lie: behind links of this user's, and in the place of all others. */
static nd_status find_target(const char *path, char target[PATH_MAX]) {
    struct stat link;
    const size_t length = strlen(path);
    ND_REQUIRE(length && length < PATH_MAX - name_size, nd_status_input, "%.60s...: %s", path,
               length ? "path too long" : "no name for a file");
    const bool own = !lstat(path, &link) && S_ISLNK(link.st_mode) && link.st_uid == geteuid();
    if (own && realpath(path, target)) return nd_status_ok;
    memcpy(target, path, length + 1);
    return nd_status_ok;
}

static FILE *open_stream(int file, char **buffer) {
    FILE *stream = fdopen(file, "w");
    if (!stream) {
        close(file);
        return NULL;
    }
    /* One write for a row: shorter ones tear more easily. */
    *buffer = malloc(stream_bytes);
    if (*buffer) setvbuf(stream, *buffer, _IOFBF, stream_bytes);
    return stream;
}

static nd_status open_direct(nd_draft *draft) {
    const int file = open(draft->path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
    if (file >= 0) draft->file = open_stream(file, &draft->stream);
    ND_REQUIRE(draft->file, nd_status_input, "%s: %s", draft->path, strerror(errno));
    draft->published = true;
    memcpy(draft->now, draft->path, strlen(draft->path) + 1);
    return nd_status_ok;
}

/* A new file below the slot's folder under a name that was never there. */
static int open_unique(slot *at, const char *target) {
    for (int tries = 0; tries < 100; tries++) {
        uint64_t random;
        if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random) return -1;
        snprintf(at->name, sizeof at->name, "%.200s.%016" PRIx64 ".part", target, random);
        const int file =
            openat(at->folder, at->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
        if (file >= 0 || errno != EEXIST) return file;
    }
    return -1;
}

static nd_status open_beside(nd_draft *draft, const struct stat *before) {
    static const char kept[] = "nd: what was measured so far is kept in ";
    slot *at = draft->slot;
    const size_t above = folder_length(draft->path);
    const char *name = draft->path + above;
    ND_REQUIRE(*name && strlen(name) < name_size, nd_status_input, "%s: %s", draft->path,
               *name ? "name too long" : "is a folder");
    memcpy(draft->target, name, strlen(name) + 1);
    memcpy(draft->now, draft->path, above);
    at->folder = open(above ? draft->now : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ND_REQUIRE(at->folder >= 0, nd_status_input, "%s: %s", draft->path, strerror(errno));
    sigset_t all, mask; /* a signal must not come between the file and what its handler knows of it */
    sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &mask);
    const int file = open_unique(at, draft->target), error = errno;
    memcpy(draft->now + above, at->name, strlen(at->name) + 1);
    memcpy(at->note, kept, sizeof kept);
    nd_escape(draft->now, "", at->note + sizeof kept - 1, sizeof at->note - sizeof kept);
    strcat(at->note, "\n");
    if (file >= 0) atomic_store(&at->state, slot_removed);
    (void)pthread_sigmask(SIG_SETMASK, &mask, NULL);
    ND_REQUIRE(file >= 0, nd_status_input, "%s: %s", draft->path, strerror(error));
    if (before) (void)fchmod(file, before->st_mode & 0777);
    draft->file = open_stream(file, &draft->stream);
    ND_REQUIRE(draft->file, nd_status_memory, "%s: no memory", draft->path);
    return nd_status_ok;
}

nd_status nd_draft_open(const char *path, nd_draft **out) {
    *out = NULL;
    struct stat about;
    nd_draft *draft = calloc(1, sizeof *draft);
    ND_REQUIRE(draft, nd_status_memory, "%s: no memory", path);
    nd_status status = nd_status_ok;
    ND_TRY_DONE(find_target(path, draft->path));
    const bool there = !stat(draft->path, &about);
    ND_REQUIRE_DONE(!there || !S_ISDIR(about.st_mode), nd_status_input, "%s: is a folder", path);
    draft->replaces = there && S_ISREG(about.st_mode) && about.st_size > 0;
    if ((there && !S_ISREG(about.st_mode)) || is_descriptor(path)) {
        status = open_direct(draft);
        goto done;
    }
    ND_REQUIRE_DONE(!there || !access(draft->path, W_OK), nd_status_input, "%s: %s", path, strerror(errno));
    draft->slot = slot_take();
    ND_REQUIRE_DONE(draft->slot, nd_status_internal, "%s: over %d files are being written", path, drafts_max);
    draft->slot->folder = -1;
    status = open_beside(draft, there ? &about : NULL);
done:
    if (status)
        nd_draft_discard(draft);
    else
        *out = draft;
    return status;
}

FILE *nd_draft_file(const nd_draft *draft) {
    return draft->file;
}

bool nd_draft_replaces(const nd_draft *draft) {
    return draft->replaces;
}

const char *nd_draft_path(const nd_draft *draft) {
    return draft->now;
}

void nd_draft_keep(nd_draft *draft) {
    if (draft->published || draft->kept) return;
    draft->kept = true;
    atomic_store(&draft->slot->state, slot_kept);
}

nd_status nd_draft_sync(nd_draft *draft) {
    errno = 0;
    const bool written = !fflush(draft->file) && !ferror(draft->file);
    const bool synced = written && (!draft->slot || !fsync(fileno(draft->file)));
    ND_REQUIRE(synced, nd_status_input, "%s: cannot write: %s", draft->path, strerror(errno ? errno : EIO));
    return nd_status_ok;
}

nd_status nd_draft_publish(nd_draft *draft) {
    ND_TRY(nd_draft_sync(draft));
    if (draft->published) return nd_status_ok;
    slot *at = draft->slot;
    ND_REQUIRE(!renameat(at->folder, at->name, at->folder, draft->target), nd_status_input, "%s: %s",
               draft->path, strerror(errno));
    draft->published = true;
    atomic_store(&at->state, slot_taken);
    memcpy(draft->now, draft->path, strlen(draft->path) + 1);
    (void)fsync(at->folder); /* not every file system can */
    return nd_status_ok;
}

nd_status nd_draft_commit(nd_draft *draft) {
    nd_status status = nd_draft_publish(draft);
    /* A network file system may say only now that there was no room. */
    FILE *file = draft->file;
    draft->file = NULL;
    if (fclose(file) && !status)
        status = nd_fail(nd_status_input, "%s: cannot write: %s", draft->path, strerror(errno));
    nd_draft_discard(draft);
    return status;
}

void nd_draft_discard(nd_draft *draft) {
    if (!draft) return;
    const int reason = errno;
    if (draft->file) fclose(draft->file);
    slot *at = draft->slot;
    if (at) {
        if (!draft->published && !draft->kept && at->folder >= 0) (void)unlinkat(at->folder, at->name, 0);
        atomic_store(&at->state, slot_taken);
        if (at->folder >= 0) close(at->folder);
        atomic_store(&at->state, slot_free);
    }
    free(draft->stream);
    free(draft);
    errno = reason;
}

nd_status nd_draft_try(const char *path) {
    nd_draft *draft;
    ND_TRY(nd_draft_open(path, &draft));
    nd_draft_discard(draft);
    return nd_status_ok;
}

nd_status nd_file_replace(const char *path, nd_file_writer *write, void *context) {
    nd_draft *draft;
    ND_TRY(nd_draft_open(path, &draft));
    nd_status status = write(context, draft->file);
    if (!status) return nd_draft_commit(draft);
    nd_draft_discard(draft);
    return status;
}
