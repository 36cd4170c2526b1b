#define _GNU_SOURCE /* dladdr */
#include "run/plugins.h"

#include "base/files/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "run/libraries.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *const nd_backend_names[] = {"cuda", "cpu", "ref", NULL};

/* Where a plugin lies, from the folder of the program or library that this code is in: beside it in a build
 * tree; installed, in a folder of its own, seen from libnd.so and from the program. */
static const char *const plugin_folders[] = {"", "nd/", "../" ND_LIBDIR "/nd/", "../lib/nd/"};

enum { plugin_folder_count = sizeof plugin_folders / sizeof *plugin_folders };

/* A plugin finds libnd's functions in what loads it. A program that opened libnd.so for itself alone (dlopen
 * without RTLD_GLOBAL) has not made them seen: done here. */
static void plugin_show_host(void) {
    static const char anchor;
    Dl_info info;
    if (dladdr(&anchor, &info) && info.dli_fname) {
        void *host = dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_GLOBAL);
        if (host) dlclose(host);
    }
}

/* A library that was tried, and why it is not to be used. */
typedef struct nd_plugin_file {
    char path[8192];
    char why[1024];
    bool broken; /* it is there */
    bool no_memory;
} nd_plugin_file;

/* Bytes of address space without which a plugin must not be loaded. Only its loader can know: what it links
 * starts before any code of its own. cpu: OpenBLAS takes a buffer of 128 MiB at its start, and asks for ever
 * where there is none. */
static size_t plugin_address_space(const char *name) {
    return strcmp(name, "cpu") ? 0 : (size_t)448 << 20;
}

/* In $ND_PLUGINS, then where they are installed. The first that is there is taken: one that does not load (a
 * dependency is missing, it is no library) must say so, not "not found". */
static void *plugin_load(const char *name, nd_plugin_file *file) {
    char origin[4096], absent[8300];
    nd_libraries_prepare();
    const char *chosen = getenv("ND_PLUGINS");
    if (!nd_file_origin(origin, sizeof origin)) *origin = '\0';
    plugin_show_host();
    for (int i = chosen && *chosen ? -1 : 0; i < plugin_folder_count; i++) {
        if (i < 0)
            snprintf(file->path, sizeof file->path, "%.4000s/libnd_%s.so", chosen, name);
        else if (*origin)
            snprintf(file->path, sizeof file->path, "%s%slibnd_%s.so", origin, plugin_folders[i], name);
        else
            break;
        const size_t least = access(file->path, F_OK) ? 0 : plugin_address_space(name);
        if (least && !nd_memory_can_map(least)) {
            snprintf(file->why, sizeof file->why, "needs %zu MiB of address space to load (see ulimit -v)",
                     least >> 20);
            file->broken = file->no_memory = true;
            return NULL;
        }
        void *library = dlopen(file->path, RTLD_NOW | RTLD_LOCAL);
        if (library) return library;
        const char *text = dlerror();
        if (!text) text = "unknown reason";
        const size_t own = strlen(file->path);
        const bool named = !strncmp(text, file->path, own) && !strncmp(text + own, ": ", 2);
        snprintf(absent, sizeof absent, "%s: cannot open shared object file", file->path);
        if (!strncmp(text, absent, strlen(absent)) && access(file->path, F_OK)) continue;
        snprintf(file->why, sizeof file->why, "does not load: %s", named ? text + own + 2 : text);
        file->broken = true;
        return NULL;
    }
    snprintf(file->path, sizeof file->path, "libnd_%s.so", name);
    snprintf(file->why, sizeof file->why, "was not found beside nd, in lib/nd or in ND_PLUGINS");
    return NULL;
}

nd_status nd_backend_known(const char *name) {
    bool known = !strcmp(name, "auto");
    for (int i = 0; nd_backend_names[i]; i++) known |= !strcmp(name, nd_backend_names[i]);
    ND_REQUIRE(known, nd_status_usage, "no backend \"%s\": cuda, cpu, ref or auto", name);
    return nd_status_ok;
}

/* *broken: its library is there, but cannot be used. */
static nd_status plugin_find(const char *name, const nd_plugin **out, bool *broken) {
    *out = NULL;
    *broken = false;
    ND_TRY(nd_backend_known(name));
    if (!strcmp(name, nd_ref_plugin.name)) {
        *out = &nd_ref_plugin;
        return nd_status_ok;
    }
    nd_plugin_file file = {.broken = false};
    void *library = plugin_load(name, &file); /* stays loaded: threads of its libraries live on */
    *broken = library || file.broken;
    ND_REQUIRE(library, file.no_memory ? nd_status_memory : nd_status_backend, "backend %s: %s %s", name,
               file.path, file.why);
    const nd_plugin *plugin = dlsym(library, ND_PLUGIN_SYMBOL);
    ND_REQUIRE(plugin, nd_status_backend, "backend %s: %s has no %s", name, file.path, ND_PLUGIN_SYMBOL);
    ND_REQUIRE(plugin->abi == nd_plugin_abi, nd_status_backend,
               "backend %s: %s was built for plugin interface %u, this nd has %u", name, file.path,
               (unsigned)plugin->abi, (unsigned)nd_plugin_abi);
    *broken = false;
    *out = plugin;
    return nd_status_ok;
}

nd_status nd_backend_probe(const char *name, nd_device_info *devices, int capacity, int *count, char *why,
                           size_t why_size) {
    *count = 0;
    if (why_size) why[0] = '\0';
    const nd_plugin *plugin;
    bool broken;
    nd_status status = plugin_find(name, &plugin, &broken);
    if (!status) status = plugin->probe(devices, capacity, count, why, why_size);
    if (status && why_size) snprintf(why, why_size, "%s", nd_error());
    return status;
}

/* *there: it has a device, or something of it is there and broken, so that what fails is worth telling. */
static nd_status backend_open_named(const char *name, const nd_backend_settings *settings, nd_backend **out,
                                    bool *there) {
    const nd_plugin *plugin;
    ND_TRY(plugin_find(name, &plugin, there));
    int count = 0;
    char why[1024] = "";
    nd_device_info device;
    const nd_status probed = plugin->probe(&device, 1, &count, why, sizeof why);
    *there = probed != nd_status_ok;
    if (probed) return nd_fail_in(probed, "backend %s", name);
    ND_REQUIRE(count > 0, nd_status_device, "backend %s: %s", name, *why ? why : "no device");
    ND_REQUIRE(settings->device >= 0 && settings->device < count, nd_status_device,
               "backend %s has %d device%s, there is no number %d", name, count, count == 1 ? "" : "s",
               settings->device);
    *there = true;
    return plugin->open(settings, out);
}

static const nd_backend_settings nd_backend_defaults = {0};

nd_status nd_backend_open(const char *name, const nd_backend_settings *settings, nd_backend **out) {
    bool there;
    *out = NULL;
    if (!strcmp(name, "auto")) return nd_backend_open_after(NULL, settings, out);
    return backend_open_named(name, settings ? settings : &nd_backend_defaults, out, &there);
}

nd_status nd_backend_open_after(const char *failed, const nd_backend_settings *settings, nd_backend **out) {
    nd_status status = nd_status_backend;
    bool there;
    int i = 0;
    *out = NULL;
    if (!settings) settings = &nd_backend_defaults;
    while (failed && nd_backend_names[i] && strcmp(nd_backend_names[i++], failed)) continue;
    ND_REQUIRE(nd_backend_names[i], status, "no backend comes after %s", failed);
    for (; nd_backend_names[i]; i++) {
        status = backend_open_named(nd_backend_names[i], settings, out, &there);
        const char *next = nd_backend_names[i + 1];
        const bool unusable =
            status == nd_status_backend || status == nd_status_device || status == nd_status_memory;
        if (!unusable || !next) return status;
        const bool slow = !nd_backend_names[i + 2];
        nd_log(there || slow ? nd_log_warn : nd_log_info, "%s; running on %s%s", nd_error(), next,
               slow ? ", which is slow" : "");
    }
    return status;
}

void nd_backend_close(nd_backend *backend) {
    if (backend) backend->table->close(backend);
}
