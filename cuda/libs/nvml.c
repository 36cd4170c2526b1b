#include "cuda/libs/nvml.h"
#include "base/hash.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The library's numbers that are used here. Its calls return 0 when they succeed. */
enum { nd_nvml_clock_sm = 1, nd_nvml_clock_memory = 2, nd_nvml_temperature_gpu = 0 };

typedef void *nd_nvml_device;

struct nd_nvml {
    void *library;
    nd_nvml_device device;
    int (*init)(void);
    int (*shutdown)(void);
    int (*find)(const char *bus, nd_nvml_device *device);
    int (*uuid)(nd_nvml_device device, char *text, unsigned size);
    int (*driver)(char *text, unsigned size);
    int (*clock)(nd_nvml_device device, int which, unsigned *mhz);
    int (*max_clock)(nd_nvml_device device, int which, unsigned *mhz);
    int (*temperature)(nd_nvml_device device, int sensor, unsigned *celsius);
    int (*power)(nd_nvml_device device, unsigned *milliwatts);
    int (*power_limit)(nd_nvml_device device, unsigned *milliwatts);
    int (*ecc)(nd_nvml_device device, int *now, int *after_reboot);
    int (*mig)(nd_nvml_device device, unsigned *now, unsigned *after_reset);
    int (*slowed)(nd_nvml_device device, unsigned long long *reasons);
};

/* All of them are old calls, so that any driver has them; one that is missing leaves NVML unused. */
static bool nvml_symbols(nd_nvml *nvml) {
    const struct {
        const char *name;
        void *to; /* of a function pointer, filled as POSIX has dlsym fill it */
    } symbols[] = {
        {"nvmlInit_v2", &nvml->init},
        {"nvmlShutdown", &nvml->shutdown},
        {"nvmlDeviceGetHandleByPciBusId_v2", &nvml->find},
        {"nvmlDeviceGetUUID", &nvml->uuid},
        {"nvmlSystemGetDriverVersion", &nvml->driver},
        {"nvmlDeviceGetClockInfo", &nvml->clock},
        {"nvmlDeviceGetMaxClockInfo", &nvml->max_clock},
        {"nvmlDeviceGetTemperature", &nvml->temperature},
        {"nvmlDeviceGetPowerUsage", &nvml->power},
        {"nvmlDeviceGetEnforcedPowerLimit", &nvml->power_limit},
        {"nvmlDeviceGetEccMode", &nvml->ecc},
        {"nvmlDeviceGetMigMode", &nvml->mig},
        {"nvmlDeviceGetCurrentClocksThrottleReasons", &nvml->slowed},
    };
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
        void *symbol = dlsym(nvml->library, symbols[i].name);
        if (!symbol) return false;
        memcpy(symbols[i].to, &symbol, sizeof symbol);
    }
    return true;
}

static void nvml_unload(nd_nvml *nvml) {
    if (nvml->library) (void)dlclose(nvml->library);
    *nvml = (nd_nvml){0};
}

nd_nvml *nd_nvml_open(int device) {
    nd_nvml *nvml = nd_alloc_array(1, sizeof *nvml);
    char bus[32];
    if (!nvml) return NULL;
    nvml->library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!nvml->library || !nvml_symbols(nvml) || nvml->init()) {
        nvml_unload(nvml);
        return nvml;
    }
    if (cudaDeviceGetPCIBusId(bus, sizeof bus, device) || nvml->find(bus, &nvml->device)) {
        (void)cudaGetLastError();
        (void)nvml->shutdown();
        nvml_unload(nvml);
    }
    return nvml;
}

void nd_nvml_close(nd_nvml *nvml) {
    if (!nvml) return;
    if (nvml->library) (void)nvml->shutdown();
    nvml_unload(nvml);
    free(nvml);
}

bool nd_nvml_loaded(const nd_nvml *nvml) {
    return nvml && nvml->library;
}

void nd_nvml_identity(const nd_nvml *nvml, const char *name, char *text, size_t size) {
    char uuid[96], hex[nd_sha256_hex_size];
    snprintf(text, size, "%s", name);
    if (!nd_nvml_loaded(nvml) || nvml->uuid(nvml->device, uuid, sizeof uuid)) return;
    nd_sha256 hash;
    nd_sha256_init(&hash);
    nd_sha256_add(&hash, uuid, strlen(uuid));
    nd_sha256_hex(&hash, hex);
    snprintf(text, size, "%s, %.12s", name, hex);
}

void nd_nvml_driver(const nd_nvml *nvml, char *text, size_t size) {
    text[0] = '\0';
    if (nd_nvml_loaded(nvml) && nvml->driver(text, (unsigned)size)) text[0] = '\0';
}

__attribute__((format(printf, 4, 5))) static void nd_nvml_say(char *text, size_t size, size_t *used,
                                                              const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    if (*used < size) *used += (size_t)vsnprintf(text + *used, size - *used, format, arguments);
    va_end(arguments);
}

/* Bit 0 is "idle", which is no complaint; bit 1 says that the clocks were set. */
static void nvml_reasons(unsigned long long reasons, char *text, size_t size, size_t *used) {
    static const struct {
        unsigned long long bit;
        const char *name;
    } names[] = {
        {0x2, "clocks that were set"}, {0x4, "the power limit"},       {0x8, "hardware"},
        {0x10, "another device"},      {0x20, "temperature"},          {0x40, "hardware temperature"},
        {0x80, "a power brake"},       {0x100, "the display's clocks"}};
    const char *between = ", slowed by ";
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!(reasons & names[i].bit)) continue;
        nd_nvml_say(text, size, used, "%s%s", between, names[i].name);
        between = " and ";
    }
    if (!(reasons & ~1ull)) nd_nvml_say(text, size, used, ", slowed by nothing");
}

void nd_nvml_conditions(const nd_nvml *nvml, char *text, size_t size) {
    size_t used = 0;
    unsigned now, most;
    int ecc, later;
    unsigned long long reasons;
    if (!nd_nvml_loaded(nvml)) {
        snprintf(text, size, "not known: NVML is not here");
        return;
    }
    const nd_nvml_device device = nvml->device;
    const bool clocks =
        !nvml->clock(device, nd_nvml_clock_sm, &now) && !nvml->max_clock(device, nd_nvml_clock_sm, &most);
    if (clocks) nd_nvml_say(text, size, &used, "SM %u of %u MHz", now, most);
    if (!clocks) nd_nvml_say(text, size, &used, "SM clock not known");
    if (!nvml->clock(device, nd_nvml_clock_memory, &now))
        nd_nvml_say(text, size, &used, ", memory %u MHz", now);
    if (!nvml->temperature(device, nd_nvml_temperature_gpu, &now))
        nd_nvml_say(text, size, &used, ", %u C", now);
    if (!nvml->power(device, &now) && !nvml->power_limit(device, &most))
        nd_nvml_say(text, size, &used, ", %u of %u W", (now + 500) / 1000, (most + 500) / 1000);
    if (!nvml->ecc(device, &ecc, &later)) nd_nvml_say(text, size, &used, ", ECC %s", ecc ? "on" : "off");
    if (!nvml->mig(device, &now, &most) && now) nd_nvml_say(text, size, &used, ", MIG");
    if (!nvml->slowed(device, &reasons)) nvml_reasons(reasons, text, size, &used);
}
