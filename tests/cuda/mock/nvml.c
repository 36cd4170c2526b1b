/* libnvidia-ml.so.1 with one device that never changes. */
#include <stdio.h>
#include <string.h>

typedef void *nvml_device;

int nvmlInit_v2(void);
int nvmlShutdown(void);
int nvmlDeviceGetHandleByPciBusId_v2(const char *bus, nvml_device *device);
int nvmlDeviceGetUUID(nvml_device device, char *text, unsigned size);
int nvmlSystemGetDriverVersion(char *text, unsigned size);
int nvmlDeviceGetClockInfo(nvml_device device, int which, unsigned *mhz);
int nvmlDeviceGetMaxClockInfo(nvml_device device, int which, unsigned *mhz);
int nvmlDeviceGetTemperature(nvml_device device, int sensor, unsigned *celsius);
int nvmlDeviceGetPowerUsage(nvml_device device, unsigned *milliwatts);
int nvmlDeviceGetEnforcedPowerLimit(nvml_device device, unsigned *milliwatts);
int nvmlDeviceGetEccMode(nvml_device device, int *now, int *later);
int nvmlDeviceGetMigMode(nvml_device device, unsigned *now, unsigned *later);
int nvmlDeviceGetCurrentClocksThrottleReasons(nvml_device device, unsigned long long *reasons);

static char only_device;

int nvmlInit_v2(void) {
    return 0;
}

int nvmlShutdown(void) {
    return 0;
}

int nvmlDeviceGetHandleByPciBusId_v2(const char *bus, nvml_device *device) {
    *device = &only_device;
    return strcmp(bus, "00000000:01:00.0") ? 6 : 0;
}

int nvmlDeviceGetUUID(nvml_device device, char *text, unsigned size) {
    snprintf(text, size, "GPU-00000000-0000-0000-0000-000000000000");
    return device == &only_device ? 0 : 2;
}

int nvmlSystemGetDriverVersion(char *text, unsigned size) {
    snprintf(text, size, "580.00");
    return 0;
}

static int one(nvml_device device, unsigned value, unsigned *out) {
    *out = value;
    return device == &only_device ? 0 : 2;
}

int nvmlDeviceGetClockInfo(nvml_device device, int which, unsigned *mhz) {
    return one(device, which == 1 ? 1200 : 2619, mhz);
}

int nvmlDeviceGetMaxClockInfo(nvml_device device, int which, unsigned *mhz) {
    return one(device, which == 1 ? 1980 : 2619, mhz);
}

int nvmlDeviceGetTemperature(nvml_device device, int sensor, unsigned *celsius) {
    return sensor ? 2 : one(device, 83, celsius);
}

int nvmlDeviceGetPowerUsage(nvml_device device, unsigned *milliwatts) {
    return one(device, 350400, milliwatts);
}

int nvmlDeviceGetEnforcedPowerLimit(nvml_device device, unsigned *milliwatts) {
    return one(device, 700000, milliwatts);
}

int nvmlDeviceGetEccMode(nvml_device device, int *now, int *later) {
    *now = *later = 1;
    return device == &only_device ? 0 : 2;
}

/* Not supported, as on devices that cannot be divided. */
int nvmlDeviceGetMigMode(nvml_device device, unsigned *now, unsigned *later) {
    (void)device;
    *now = *later = 0;
    return 3;
}

int nvmlDeviceGetCurrentClocksThrottleReasons(nvml_device device, unsigned long long *reasons) {
    *reasons = 0x24;
    return device == &only_device ? 0 : 2;
}
