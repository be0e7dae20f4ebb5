/* A stand-in for libnvidia-ml.so.1 that tests load through the real pynvml: it answers from a state file.
 *
 * FLYBALL_MOCK_NVML names the state file (control.py writes it, and renames it into place); every call looks whether it
 * changed. FLYBALL_MOCK_NVML_CALLS, where set, names a file of one record a function (56 bytes name, 8 bytes count) that
 * every process counts its calls in. Layouts of arguments follow NVIDIA's nvml.h. A value that the file does not name is
 * not supported by that card. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <libgen.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MAX_GPUS = 16, MAX_PROCESSES = 256, MAX_XIDS = 64, TEXT = 96 };
enum {
    SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7,
    DRIVER_NOT_LOADED = 9, TIMEOUT = 10, GPU_IS_LOST = 15
};
static const uint64_t XID_EVENT = 8, NOT_AVAILABLE = UINT64_MAX;

/* Every function that there is; the order is that of the call counter's records. */
#define FUNCTIONS(F) \
    F(nvmlInitWithFlags) F(nvmlInit_v2) F(nvmlShutdown) F(nvmlSystemGetDriverVersion) F(nvmlSystemGetCudaDriverVersion_v2) \
    F(nvmlDeviceGetCount_v2) F(nvmlDeviceGetHandleByIndex_v2) F(nvmlDeviceGetHandleByUUID) F(nvmlDeviceGetHandleByPciBusId_v2) \
    F(nvmlDeviceGetIndex) F(nvmlDeviceGetUUID) F(nvmlDeviceGetName) F(nvmlDeviceGetPciInfo_v3) \
    F(nvmlDeviceGetMemoryInfo) F(nvmlDeviceGetMemoryInfo_v2) F(nvmlDeviceGetTemperature) F(nvmlDeviceGetTemperatureV) \
    F(nvmlDeviceGetMarginTemperature) F(nvmlDeviceGetUtilizationRates) F(nvmlDeviceGetPowerUsage) \
    F(nvmlDeviceGetEnforcedPowerLimit) F(nvmlDeviceGetPowerManagementLimit) F(nvmlDeviceGetClockInfo) F(nvmlDeviceGetFanSpeed) \
    F(nvmlDeviceGetCurrentClocksEventReasons) F(nvmlDeviceGetCurrentClocksThrottleReasons) F(nvmlDeviceGetFieldValues) \
    F(nvmlDeviceGetTotalEccErrors) F(nvmlDeviceGetRemappedRows) F(nvmlDeviceGetComputeRunningProcesses_v3) \
    F(nvmlDeviceGetGraphicsRunningProcesses_v3) F(nvmlEventSetCreate) F(nvmlDeviceGetSupportedEventTypes) \
    F(nvmlDeviceRegisterEvents) F(nvmlEventSetWait_v2) F(nvmlEventSetFree)
#define AS_ENUM(name) F_##name,
#define AS_TEXT(name) #name,
enum function { FUNCTIONS(AS_ENUM) FUNCTION_COUNT };
static const char *const FUNCTION_NAMES[] = { FUNCTIONS(AS_TEXT) };

/* Every number that a card may have; control.py's attributes carry the same names. */
#define VALUES(V) \
    V(temperature) V(margin) V(memory_total) V(memory_used) V(memory_reserved) V(utilization) V(memory_utilization) \
    V(power_mw) V(power_limit_mw) V(clock_sm_mhz) V(clock_memory_mhz) V(fan) V(throttle_reasons) V(field_230) V(field_269) \
    V(field_270) V(field_271) V(ecc_corrected) V(ecc_uncorrected) V(remapped_corrected) V(remapped_uncorrected) \
    V(remapped_pending) V(remapped_failed) V(event_types) V(latency_us) V(hang) V(hang_pid) V(lost) V(crash)
#define AS_VALUE(name) V_##name,
enum value { VALUES(AS_VALUE) VALUE_COUNT };
static const char *const VALUE_NAMES[] = { VALUES(AS_TEXT) };

struct process { unsigned pid; uint64_t bytes; int graphics; };
struct gpu {
    char uuid[TEXT], name[TEXT], pci[32];
    long long value[VALUE_COUNT];
    char known[VALUE_COUNT];
    int result[FUNCTION_COUNT];
    unsigned process_count;
    struct process processes[MAX_PROCESSES];
};
struct xid { unsigned long first, last; unsigned gpu; uint64_t code; }; /* one event each from serial first to last */
struct state {
    char driver[TEXT];
    unsigned count;
    int result[FUNCTION_COUNT], hang_init, shared_lock;
    unsigned xid_count;
    struct xid xids[MAX_XIDS];
    struct gpu gpus[MAX_GPUS];
};
struct device { unsigned index; };
struct event_set { uint64_t wanted[MAX_GPUS]; unsigned long serial; int inotify; };
struct record { char name[56]; uint64_t count; };

static struct state current;
static struct stat seen;
static int initialised;
static struct device devices[MAX_GPUS];
static struct record *records;
static pthread_mutex_t state_lock = PTHREAD_MUTEX_INITIALIZER, driver_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t counter_once = PTHREAD_ONCE_INIT;

static int index_of(const char *name, const char *const *names, int count) {
    for (int i = 0; i < count; i++)
        if (!strcmp(name, names[i])) return i;
    return -1;
}

static void parse_gpu(struct gpu *gpu, const char *key, const char *text) {
    int i;
    if (!strcmp(key, "uuid")) snprintf(gpu->uuid, sizeof gpu->uuid, "%s", text);
    else if (!strcmp(key, "name")) snprintf(gpu->name, sizeof gpu->name, "%s", text);
    else if (!strcmp(key, "pci")) snprintf(gpu->pci, sizeof gpu->pci, "%s", text);
    else if (!strcmp(key, "process") && gpu->process_count < MAX_PROCESSES) {
        struct process *process = &gpu->processes[gpu->process_count++];
        char bytes[32] = "", kind[16] = "";
        if (sscanf(text, "%u %31s %15s", &process->pid, bytes, kind) == 3) {
            process->bytes = strcmp(bytes, "na") ? strtoull(bytes, NULL, 10) : NOT_AVAILABLE;
            process->graphics = !strcmp(kind, "graphics");
        }
    } else if (!strncmp(key, "call.", 5) && (i = index_of(key + 5, FUNCTION_NAMES, FUNCTION_COUNT)) >= 0)
        gpu->result[i] = atoi(text);
    else if ((i = index_of(key, VALUE_NAMES, VALUE_COUNT)) >= 0) {
        gpu->value[i] = strtoll(text, NULL, 10);
        gpu->known[i] = 1;
    }
}

static void parse(struct state *state, FILE *file) {
    char line[512];
    memset(state, 0, sizeof *state);
    while (fgets(line, sizeof line, file)) {
        char *text = strchr(line, '=');
        unsigned gpu;
        int i, used = 0;
        if (!text) continue;
        *text++ = 0;
        text[strcspn(text, "\n")] = 0;
        if (sscanf(line, "gpu%u.%n", &gpu, &used) == 1 && used && gpu < MAX_GPUS) parse_gpu(&state->gpus[gpu], line + used, text);
        else if (!strcmp(line, "driver")) snprintf(state->driver, sizeof state->driver, "%s", text);
        else if (!strcmp(line, "count")) state->count = (unsigned)atoi(text) < MAX_GPUS ? (unsigned)atoi(text) : MAX_GPUS;
        else if (!strcmp(line, "hang_init")) state->hang_init = atoi(text);
        else if (!strcmp(line, "shared_lock")) state->shared_lock = atoi(text);
        else if (!strcmp(line, "xid") && state->xid_count < MAX_XIDS) {
            struct xid *xid = &state->xids[state->xid_count++];
            sscanf(text, "%lu %lu %u %lu", &xid->first, &xid->last, &xid->gpu, &xid->code);
        } else if (!strncmp(line, "call.", 5) && (i = index_of(line + 5, FUNCTION_NAMES, FUNCTION_COUNT)) >= 0)
            state->result[i] = atoi(text);
    }
}

/* Under state_lock: read the file again if it is another one than last time. */
static int refresh(void) {
    const char *path = getenv("FLYBALL_MOCK_NVML");
    struct stat now;
    if (!path || stat(path, &now)) return 0;
    if (now.st_ino != seen.st_ino || now.st_mtim.tv_nsec != seen.st_mtim.tv_nsec || now.st_mtim.tv_sec != seen.st_mtim.tv_sec) {
        FILE *file = fopen(path, "r");
        if (!file) return 0;
        fstat(fileno(file), &seen);
        parse(&current, file);
        fclose(file);
    }
    return 1;
}

static void open_counter(void) {
    const char *path = getenv("FLYBALL_MOCK_NVML_CALLS");
    size_t size = FUNCTION_COUNT * sizeof(struct record);
    int fd = path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (fd < 0) return;
    if (!ftruncate(fd, (off_t)size)) {
        void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (map != MAP_FAILED) records = map;
    }
    close(fd);
    for (int i = 0; records && i < FUNCTION_COUNT; i++)
        snprintf(records[i].name, sizeof records[i].name, "%s", FUNCTION_NAMES[i]);
}

static void count_call(enum function function) {
    pthread_once(&counter_once, open_counter);
    if (records) __atomic_add_fetch(&records[function].count, 1, __ATOMIC_RELAXED);
}

static void sleep_us(long long us) {
    struct timespec time = { us / 1000000, us % 1000000 * 1000 };
    nanosleep(&time, NULL);
}

/* A call that names no card: 0, or what the file says that it shall return. */
static int enter(enum function function) {
    count_call(function);
    pthread_mutex_lock(&state_lock);
    int ok = refresh(), result = current.result[function], ready = initialised;
    pthread_mutex_unlock(&state_lock);
    if (!ok) return DRIVER_NOT_LOADED;
    if (result) return result;
    return ready || function == F_nvmlInitWithFlags || function == F_nvmlInit_v2 ? SUCCESS : UNINITIALIZED;
}

static int hangs(const struct gpu *gpu) {
    long long pid = gpu->value[V_hang_pid];
    return gpu->value[V_hang] && (!pid || pid == getpid());
}

/* A call on one card: hangs and delays as the file says, then copies the card. */
static int enter_gpu(enum function function, const struct device *device, struct gpu *gpu) {
    int result = enter(function);
    if (result) return result;
    if (!device || device->index >= MAX_GPUS) return INVALID_ARGUMENT;
    pthread_mutex_lock(&driver_lock);
    int held = 1;
    for (int first = 1;; first = 0) {
        pthread_mutex_lock(&state_lock);
        refresh();
        *gpu = current.gpus[device->index];
        unsigned count = current.count;
        int shared = current.shared_lock;
        pthread_mutex_unlock(&state_lock);
        if (held && !(shared && hangs(gpu))) {
            pthread_mutex_unlock(&driver_lock);
            held = 0;
        }
        if (device->index >= count) return INVALID_ARGUMENT;
        if (first && gpu->value[V_latency_us]) sleep_us(gpu->value[V_latency_us]);
        if (!hangs(gpu)) break;
        sleep_us(2000);
    }
    if (gpu->value[V_crash]) raise(SIGKILL);
    if (gpu->value[V_lost]) return GPU_IS_LOST;
    return gpu->result[function];
}

static int number(enum function function, const struct device *device, enum value value, unsigned *out) {
    struct gpu gpu;
    int result = enter_gpu(function, device, &gpu);
    if (result) return result;
    if (!gpu.known[value]) return NOT_SUPPORTED;
    *out = (unsigned)gpu.value[value];
    return SUCCESS;
}

static int number64(enum function function, const struct device *device, enum value value, unsigned long long *out) {
    struct gpu gpu;
    int result = enter_gpu(function, device, &gpu);
    if (result) return result;
    if (!gpu.known[value]) return NOT_SUPPORTED;
    *out = (unsigned long long)gpu.value[value];
    return SUCCESS;
}

static int copy_text(char *out, unsigned length, const char *text) {
    return (unsigned)snprintf(out, length, "%s", text) < length ? SUCCESS : INSUFFICIENT_SIZE;
}

static int initialise(enum function function) {
    int result = enter(function), hang = 1;
    while (!result && hang) {
        pthread_mutex_lock(&state_lock);
        refresh();
        hang = current.hang_init;
        initialised = !hang;
        pthread_mutex_unlock(&state_lock);
        if (hang) sleep_us(2000);
    }
    for (unsigned i = 0; i < MAX_GPUS; i++) devices[i].index = i;
    return result;
}

int nvmlInit_v2(void) { return initialise(F_nvmlInit_v2); }
int nvmlInitWithFlags(unsigned flags) { (void)flags; return initialise(F_nvmlInitWithFlags); }
int nvmlShutdown(void) { int result = enter(F_nvmlShutdown); initialised = 0; return result; }
const char *nvmlErrorString(int result) { return result ? "mock error" : "success"; }

int nvmlSystemGetDriverVersion(char *out, unsigned length) {
    int result = enter(F_nvmlSystemGetDriverVersion);
    return result ? result : copy_text(out, length, current.driver);
}
int nvmlSystemGetCudaDriverVersion_v2(int *out) {
    int result = enter(F_nvmlSystemGetCudaDriverVersion_v2);
    if (!result) *out = 12060;
    return result;
}
int nvmlDeviceGetCount_v2(unsigned *out) {
    int result = enter(F_nvmlDeviceGetCount_v2);
    if (!result) *out = current.count;
    return result;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, struct device **out) {
    struct gpu gpu;
    if (index >= MAX_GPUS) return INVALID_ARGUMENT;
    int result = enter_gpu(F_nvmlDeviceGetHandleByIndex_v2, &devices[index], &gpu);
    if (!result) *out = &devices[index];
    return result;
}
static int handle_by(enum function function, const char *text, int by_pci, struct device **out) {
    int result = enter(function);
    if (result) return result;
    for (unsigned i = 0; i < current.count; i++)
        if (!strcmp(by_pci ? current.gpus[i].pci : current.gpus[i].uuid, text)) {
            struct gpu gpu;
            *out = &devices[i];
            return enter_gpu(function, &devices[i], &gpu);
        }
    return NOT_FOUND;
}
int nvmlDeviceGetHandleByUUID(const char *uuid, struct device **out) { return handle_by(F_nvmlDeviceGetHandleByUUID, uuid, 0, out); }
int nvmlDeviceGetHandleByPciBusId_v2(const char *pci, struct device **out) { return handle_by(F_nvmlDeviceGetHandleByPciBusId_v2, pci, 1, out); }

int nvmlDeviceGetIndex(struct device *device, unsigned *out) {
    struct gpu gpu;
    int result = enter_gpu(F_nvmlDeviceGetIndex, device, &gpu);
    if (!result) *out = device->index;
    return result;
}
int nvmlDeviceGetUUID(struct device *device, char *out, unsigned length) {
    struct gpu gpu;
    int result = enter_gpu(F_nvmlDeviceGetUUID, device, &gpu);
    return result ? result : copy_text(out, length, gpu.uuid);
}
int nvmlDeviceGetName(struct device *device, char *out, unsigned length) {
    struct gpu gpu;
    int result = enter_gpu(F_nvmlDeviceGetName, device, &gpu);
    return result ? result : copy_text(out, length, gpu.name);
}
struct pci { char legacy[16]; unsigned domain, bus, device, device_id, subsystem_id; char id[32]; };
int nvmlDeviceGetPciInfo_v3(struct device *device, struct pci *out) {
    struct gpu gpu;
    int result = enter_gpu(F_nvmlDeviceGetPciInfo_v3, device, &gpu);
    if (result) return result;
    memset(out, 0, sizeof *out);
    sscanf(gpu.pci, "%x:%x:%x", &out->domain, &out->bus, &out->device);
    return copy_text(out->id, sizeof out->id, gpu.pci);
}

struct memory { unsigned long long total, free, used; };
int nvmlDeviceGetMemoryInfo(struct device *device, struct memory *out) {
    struct gpu gpu;
    int result = enter_gpu(F_nvmlDeviceGetMemoryInfo, device, &gpu);
    if (result) return result;
    if (!gpu.known[V_memory_total] || !gpu.known[V_memory_used]) return NOT_SUPPORTED;
    out->total = (unsigned long long)gpu.value[V_memory_total];
    out->used = (unsigned long long)(gpu.value[V_memory_used] + gpu.value[V_memory_reserved]);
    out->free = out->total - out->used;
    return SUCCESS;
}
struct memory_v2 { unsigned version; unsigned long long total, reserved, free, used; };
int nvmlDeviceGetMemoryInfo_v2(struct device *device, struct memory_v2 *out) {
    struct gpu gpu;
    int result = enter_gpu(F_nvmlDeviceGetMemoryInfo_v2, device, &gpu);
    if (result) return result;
    if (!gpu.known[V_memory_total] || !gpu.known[V_memory_used]) return NOT_SUPPORTED;
    out->total = (unsigned long long)gpu.value[V_memory_total];
    out->used = (unsigned long long)gpu.value[V_memory_used];
    out->reserved = (unsigned long long)gpu.value[V_memory_reserved];
    out->free = out->total - out->used - out->reserved;
    return SUCCESS;
}

int nvmlDeviceGetTemperature(struct device *device, int sensor, unsigned *out) {
    return sensor ? INVALID_ARGUMENT : number(F_nvmlDeviceGetTemperature, device, V_temperature, out);
}
struct temperature { unsigned version; int sensor, celsius; };
int nvmlDeviceGetTemperatureV(struct device *device, struct temperature *out) {
    return number(F_nvmlDeviceGetTemperatureV, device, V_temperature, (unsigned *)&out->celsius);
}
struct margin { unsigned version; int celsius; };
int nvmlDeviceGetMarginTemperature(struct device *device, struct margin *out) {
    return number(F_nvmlDeviceGetMarginTemperature, device, V_margin, (unsigned *)&out->celsius);
}
struct utilization { unsigned gpu, memory; };
int nvmlDeviceGetUtilizationRates(struct device *device, struct utilization *out) {
    struct gpu gpu;
    int result = enter_gpu(F_nvmlDeviceGetUtilizationRates, device, &gpu);
    if (result) return result;
    if (!gpu.known[V_utilization]) return NOT_SUPPORTED;
    out->gpu = (unsigned)gpu.value[V_utilization];
    out->memory = (unsigned)gpu.value[V_memory_utilization];
    return SUCCESS;
}
int nvmlDeviceGetPowerUsage(struct device *device, unsigned *out) { return number(F_nvmlDeviceGetPowerUsage, device, V_power_mw, out); }
int nvmlDeviceGetEnforcedPowerLimit(struct device *device, unsigned *out) {
    return number(F_nvmlDeviceGetEnforcedPowerLimit, device, V_power_limit_mw, out);
}
int nvmlDeviceGetPowerManagementLimit(struct device *device, unsigned *out) {
    return number(F_nvmlDeviceGetPowerManagementLimit, device, V_power_limit_mw, out);
}
int nvmlDeviceGetClockInfo(struct device *device, int clock, unsigned *out) {
    if (clock != 1 && clock != 2) return NOT_SUPPORTED;
    return number(F_nvmlDeviceGetClockInfo, device, clock == 1 ? V_clock_sm_mhz : V_clock_memory_mhz, out);
}
int nvmlDeviceGetFanSpeed(struct device *device, unsigned *out) { return number(F_nvmlDeviceGetFanSpeed, device, V_fan, out); }
int nvmlDeviceGetCurrentClocksEventReasons(struct device *device, unsigned long long *out) {
    return number64(F_nvmlDeviceGetCurrentClocksEventReasons, device, V_throttle_reasons, out);
}
int nvmlDeviceGetCurrentClocksThrottleReasons(struct device *device, unsigned long long *out) {
    return number64(F_nvmlDeviceGetCurrentClocksThrottleReasons, device, V_throttle_reasons, out);
}

struct field { uint32_t id, scope; int64_t timestamp, latency_us; int type, result; union { unsigned ui; unsigned long long ull; } value; };
int nvmlDeviceGetFieldValues(struct device *device, int count, struct field *fields) {
    struct gpu gpu;
    int result = enter_gpu(F_nvmlDeviceGetFieldValues, device, &gpu);
    if (result) return result;
    for (int i = 0; i < count; i++) {
        char name[24];
        snprintf(name, sizeof name, "field_%u", fields[i].id);
        int value = index_of(name, VALUE_NAMES, VALUE_COUNT);
        fields[i].result = value >= 0 && gpu.known[value] ? SUCCESS : NOT_SUPPORTED;
        if (fields[i].result) continue;
        fields[i].type = 3;
        fields[i].value.ull = (unsigned long long)gpu.value[value];
    }
    return SUCCESS;
}
int nvmlDeviceGetTotalEccErrors(struct device *device, int kind, int counter, unsigned long long *out) {
    (void)counter;
    return number64(F_nvmlDeviceGetTotalEccErrors, device, kind ? V_ecc_uncorrected : V_ecc_corrected, out);
}
int nvmlDeviceGetRemappedRows(struct device *device, unsigned *corrected, unsigned *uncorrected, unsigned *pending, unsigned *failed) {
    struct gpu gpu;
    int result = enter_gpu(F_nvmlDeviceGetRemappedRows, device, &gpu);
    if (result) return result;
    if (!gpu.known[V_remapped_corrected]) return NOT_SUPPORTED;
    *corrected = (unsigned)gpu.value[V_remapped_corrected];
    *uncorrected = (unsigned)gpu.value[V_remapped_uncorrected];
    *pending = (unsigned)gpu.value[V_remapped_pending];
    *failed = (unsigned)gpu.value[V_remapped_failed];
    return SUCCESS;
}

struct process_info { unsigned pid; unsigned long long bytes; unsigned gpu_instance, compute_instance; };
static int list_processes(enum function function, const struct device *device, int graphics, unsigned *count, struct process_info *out) {
    struct gpu gpu;
    int result = enter_gpu(function, device, &gpu);
    if (result) return result;
    unsigned room = out ? *count : 0, found = 0;
    for (unsigned i = 0; i < gpu.process_count; i++) {
        if (gpu.processes[i].graphics != graphics) continue;
        if (found < room) out[found] = (struct process_info){ gpu.processes[i].pid, gpu.processes[i].bytes, UINT32_MAX, UINT32_MAX };
        found++;
    }
    *count = found;
    return found > room ? INSUFFICIENT_SIZE : SUCCESS;
}
int nvmlDeviceGetComputeRunningProcesses_v3(struct device *device, unsigned *count, struct process_info *out) {
    return list_processes(F_nvmlDeviceGetComputeRunningProcesses_v3, device, 0, count, out);
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(struct device *device, unsigned *count, struct process_info *out) {
    return list_processes(F_nvmlDeviceGetGraphicsRunningProcesses_v3, device, 1, count, out);
}

/* Events from before the set was made are not recorded, as in the real library. */
int nvmlEventSetCreate(struct event_set **out) {
    int result = enter(F_nvmlEventSetCreate);
    if (result) return result;
    char folder[4096];
    snprintf(folder, sizeof folder, "%s", getenv("FLYBALL_MOCK_NVML"));
    *out = calloc(1, sizeof **out);
    (*out)->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    inotify_add_watch((*out)->inotify, dirname(folder), IN_MOVED_TO);
    pthread_mutex_lock(&state_lock);
    for (unsigned i = 0; i < current.xid_count; i++)
        if (current.xids[i].last > (*out)->serial) (*out)->serial = current.xids[i].last;
    pthread_mutex_unlock(&state_lock);
    return SUCCESS;
}
int nvmlDeviceGetSupportedEventTypes(struct device *device, unsigned long long *out) {
    return number64(F_nvmlDeviceGetSupportedEventTypes, device, V_event_types, out);
}
int nvmlDeviceRegisterEvents(struct device *device, unsigned long long types, struct event_set *set) {
    struct gpu gpu;
    int result = enter_gpu(F_nvmlDeviceRegisterEvents, device, &gpu);
    if (result) return result;
    if (types & ~(unsigned long long)gpu.value[V_event_types]) return NOT_SUPPORTED;
    pthread_mutex_lock(&state_lock);
    set->wanted[device->index] = types;
    pthread_mutex_unlock(&state_lock);
    return SUCCESS;
}
struct event { struct device *device; unsigned long long type, data; unsigned gpu_instance, compute_instance; };

/* Under state_lock: the next event of the set, or that one of its cards is lost, or TIMEOUT. */
static int next_event(struct event_set *set, struct event *out) {
    if (current.result[F_nvmlEventSetWait_v2]) return current.result[F_nvmlEventSetWait_v2];
    for (unsigned i = 0; i < current.xid_count; i++) {
        struct xid xid = current.xids[i];
        if (xid.last <= set->serial) continue;
        if (xid.gpu >= MAX_GPUS || !(set->wanted[xid.gpu] & XID_EVENT)) {
            set->serial = xid.last;
            continue;
        }
        set->serial = set->serial < xid.first ? xid.first : set->serial + 1;
        *out = (struct event){ &devices[xid.gpu], XID_EVENT, xid.code, UINT32_MAX, UINT32_MAX };
        return SUCCESS;
    }
    for (unsigned i = 0; i < MAX_GPUS; i++)
        if (set->wanted[i] && current.gpus[i].value[V_lost]) return GPU_IS_LOST;
    return TIMEOUT;
}
static long long now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}
int nvmlEventSetWait_v2(struct event_set *set, struct event *out, unsigned timeout_ms) {
    int result = enter(F_nvmlEventSetWait_v2);
    long long end_ms = now_ms() + timeout_ms;
    while (!result) {
        char changes[4096];
        while (read(set->inotify, changes, sizeof changes) > 0) continue;
        pthread_mutex_lock(&state_lock);
        refresh();
        result = next_event(set, out);
        pthread_mutex_unlock(&state_lock);
        if (result == SUCCESS) return SUCCESS;
        long long left_ms = end_ms - now_ms();
        if (result != TIMEOUT || left_ms <= 0) return result;
        struct pollfd change = { set->inotify, POLLIN, 0 };
        poll(&change, 1, (int)left_ms);
        result = SUCCESS;
    }
    return result;
}
int nvmlEventSetFree(struct event_set *set) {
    int result = enter(F_nvmlEventSetFree);
    close(set->inotify);
    free(set);
    return result;
}
