/* One device and its contexts. */

#include "fake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char BUS_ID[] = "0000:01:00.0";

EXPORT CUresult cuInit(unsigned flags) {
    BEGIN(cuInit, false, false);
    if (flags) FAIL(CUDA_ERROR_INVALID_VALUE, "flags 0x%x; 0 was expected", flags);
    state.initialized = true;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDriverGetVersion(int *version) {
    BEGIN(cuDriverGetVersion, true, false);
    *version = state.device.driver_version;
    return CUDA_SUCCESS;
}

static const struct {
    int code;
    const char *name, *text;
} errors[] = {
#define ERROR(name, text) {name, #name, text}
    ERROR(CUDA_SUCCESS, "no error"),
    ERROR(CUDA_ERROR_INVALID_VALUE, "invalid argument"),
    ERROR(CUDA_ERROR_OUT_OF_MEMORY, "out of memory"),
    ERROR(CUDA_ERROR_NOT_INITIALIZED, "initialization error"),
    ERROR(CUDA_ERROR_INVALID_DEVICE, "invalid device ordinal"),
    ERROR(CUDA_ERROR_INVALID_IMAGE, "device kernel image is invalid"),
    ERROR(CUDA_ERROR_INVALID_CONTEXT, "invalid device context"),
    ERROR(CUDA_ERROR_NO_BINARY_FOR_GPU, "no kernel image is available for execution on the device"),
    ERROR(CUDA_ERROR_INVALID_PTX, "a PTX JIT compilation failed"),
    ERROR(CUDA_ERROR_UNSUPPORTED_PTX_VERSION,
          "the provided PTX was compiled with an unsupported toolchain."),
    ERROR(CUDA_ERROR_FILE_NOT_FOUND, "file not found"),
    ERROR(CUDA_ERROR_INVALID_HANDLE, "invalid resource handle"),
    ERROR(CUDA_ERROR_NOT_FOUND, "named symbol not found"),
    ERROR(CUDA_ERROR_NOT_READY, "device not ready"),
    ERROR(CUDA_ERROR_ILLEGAL_ADDRESS, "an illegal memory access was encountered"),
    ERROR(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "too many resources requested for launch"),
    ERROR(CUDA_ERROR_CONTEXT_IS_DESTROYED, "context is destroyed"),
    ERROR(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED,
          "part or all of the requested memory range is already mapped"),
    ERROR(CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED,
          "pointer does not correspond to a registered memory region"),
    ERROR(CUDA_ERROR_LAUNCH_FAILED, "unspecified launch failure"),
    ERROR(CUDA_ERROR_NOT_SUPPORTED, "operation not supported"),
    ERROR(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,
          "operation not permitted when stream is capturing"),
    ERROR(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED,
          "operation failed due to a previous error during capture"),
    ERROR(CUDA_ERROR_STREAM_CAPTURE_UNMATCHED,
          "operation failed due to an unmatched capture sequence"),
    ERROR(CUDA_ERROR_STREAM_CAPTURE_ISOLATION,
          "dependency created on uncaptured work in another stream"),
    ERROR(CUDA_ERROR_UNKNOWN, "unknown error"),
#undef ERROR
};

static CUresult error_string(CUresult error, const char **text, bool name) {
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        if (errors[i].code != (int)error) continue;
        *text = name ? errors[i].name : errors[i].text;
        return CUDA_SUCCESS;
    }
    *text = name ? NULL : "unrecognized error code"; /* pycuda makes a string of it, unasked */
    return CUDA_ERROR_INVALID_VALUE;
}

EXPORT CUresult cuGetErrorString(CUresult error, const char **text) {
    return error_string(error, text, false);
}

EXPORT CUresult cuGetErrorName(CUresult error, const char **text) {
    return error_string(error, text, true);
}

/* ---- the device ---- */

#define CHECK_DEVICE() \
    if (device != 0) FAIL(CUDA_ERROR_INVALID_DEVICE, "device %d; there is only device 0", device)

EXPORT CUresult cuDeviceGetCount(int *count) {
    QUERY(cuDeviceGetCount);
    *count = 1;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGet(CUdevice *result, int device) {
    QUERY(cuDeviceGet);
    CHECK_DEVICE();
    *result = 0;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGetName(char *name, int size, CUdevice device) {
    QUERY(cuDeviceGetName);
    CHECK_DEVICE();
    snprintf(name, (size_t)size, "%s", state.device.name);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice device) {
    QUERY(cuDeviceGetUuid);
    CHECK_DEVICE();
    memcpy(uuid->bytes, "fake-cuda-device", 16);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGetPCIBusId(char *id, int size, CUdevice device) {
    QUERY(cuDeviceGetPCIBusId);
    CHECK_DEVICE();
    snprintf(id, (size_t)size, "%s", BUS_ID);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGetByPCIBusId(CUdevice *device, const char *id) {
    QUERY(cuDeviceGetByPCIBusId);
    if (strcmp(id, BUS_ID) != 0) FAIL(CUDA_ERROR_INVALID_VALUE, "no device at %s", id);
    *device = 0;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceComputeCapability(int *major, int *minor, CUdevice device) {
    QUERY(cuDeviceComputeCapability);
    CHECK_DEVICE();
    *major = state.device.major;
    *minor = state.device.minor;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device) {
    QUERY(cuDeviceTotalMem);
    CHECK_DEVICE();
    *bytes = state.device.memory;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceCanAccessPeer(int *can, CUdevice device, CUdevice peer) {
    QUERY(cuDeviceCanAccessPeer);
    CHECK_DEVICE();
    *can = 0;
    FAIL(CUDA_ERROR_INVALID_DEVICE, "peer %d; there is only device 0", peer);
}

EXPORT CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device) {
    QUERY(cuDeviceGetAttribute);
    CHECK_DEVICE();
    const struct device *d = &state.device;
    const int values[][2] = {
        {1, 1024},                   /* MAX_THREADS_PER_BLOCK */
        {2, 1024}, {3, 1024}, {4, 64},             /* MAX_BLOCK_DIM_X, Y, Z */
        {5, 2147483647}, {6, 65535}, {7, 65535},   /* MAX_GRID_DIM_X, Y, Z */
        {8, 49152},                  /* MAX_SHARED_MEMORY_PER_BLOCK */
        {9, 65536},                  /* TOTAL_CONSTANT_MEMORY */
        {10, 32},                    /* WARP_SIZE */
        {11, 2147483647},            /* MAX_PITCH */
        {12, 65536},                 /* MAX_REGISTERS_PER_BLOCK */
        {13, 1300000},               /* CLOCK_RATE, kHz */
        {14, 512},                   /* TEXTURE_ALIGNMENT */
        {15, 1},                     /* GPU_OVERLAP */
        {16, d->multiprocessors},    /* MULTIPROCESSOR_COUNT */
        {17, 0},                     /* KERNEL_EXEC_TIMEOUT */
        {18, d->integrated},         /* INTEGRATED */
        {19, 1},                     /* CAN_MAP_HOST_MEMORY */
        {20, 0},                     /* COMPUTE_MODE */
        {31, 1},                     /* CONCURRENT_KERNELS */
        {32, 0},                     /* ECC_ENABLED */
        {33, 1}, {34, 0}, {50, 0},   /* PCI_BUS_ID, DEVICE_ID, DOMAIN_ID */
        {36, 3200000},               /* MEMORY_CLOCK_RATE, kHz */
        {37, 128},                   /* GLOBAL_MEMORY_BUS_WIDTH */
        {38, 4 << 20},               /* L2_CACHE_SIZE */
        {39, 1536},                  /* MAX_THREADS_PER_MULTIPROCESSOR */
        {40, 2},                     /* ASYNC_ENGINE_COUNT */
        {41, 1},                     /* UNIFIED_ADDRESSING */
        {75, d->major}, {76, d->minor}, /* COMPUTE_CAPABILITY_MAJOR, MINOR */
        {78, 1},                     /* STREAM_PRIORITIES_SUPPORTED */
        {81, d->shared_memory_optin + 1024}, /* MAX_SHARED_MEMORY_PER_MULTIPROCESSOR */
        {82, 65536},                 /* MAX_REGISTERS_PER_MULTIPROCESSOR */
        {83, 1},                     /* MANAGED_MEMORY */
        {88, 0},                     /* PAGEABLE_MEMORY_ACCESS */
        {89, !d->integrated},        /* CONCURRENT_MANAGED_ACCESS */
        {91, 1},                     /* CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM */
        {95, 1},                     /* COOPERATIVE_LAUNCH */
        {97, d->shared_memory_optin}, /* MAX_SHARED_MEMORY_PER_BLOCK_OPTIN */
        {106, 16},                   /* MAX_BLOCKS_PER_MULTIPROCESSOR */
        {111, 1024},                 /* RESERVED_SHARED_MEMORY_PER_BLOCK */
        {115, 0},                    /* MEMORY_POOLS_SUPPORTED */
    };
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        if (values[i][0] != (int)attribute) continue;
        *value = values[i][1];
        return CUDA_SUCCESS;
    }
    FAIL(CUDA_ERROR_INVALID_VALUE, "device attribute %d is not modelled", (int)attribute);
}

/* ---- contexts ---- */

enum { DEPTH = 64 };
static __thread struct {
    unsigned generation;
    int count;
    struct object *contexts[DEPTH];
} stack;
static struct object *primary; /* NULL or dead: not retained */
static unsigned primary_generation;

static void check_generation(void) {
    if (stack.generation != state.generation) stack.count = 0;
    stack.generation = state.generation;
    if (primary_generation != state.generation) primary = NULL;
    primary_generation = state.generation;
}

static CUcontext handle_of(const struct object *context) {
    return context ? (CUcontext)(uintptr_t)context->handle : NULL;
}

CUresult current_context(struct call *call, struct object **context) {
    check_generation();
    *context = stack.count ? stack.contexts[stack.count - 1] : NULL;
    if (!*context)
        return call_fail(call, CUDA_ERROR_INVALID_CONTEXT, "no context is current on this thread");
    if (!(*context)->alive)
        return call_fail(call, CUDA_ERROR_CONTEXT_IS_DESTROYED,
                         "the context that is current on this thread was destroyed");
    return CUDA_SUCCESS;
}

static struct object *context_new(bool is_primary, unsigned flags) {
    struct object *context = object_new(CONTEXT, NULL);
    context->ctx.primary = is_primary;
    context->ctx.references = 1;
    context->ctx.flags = flags;
    context->ctx.default_stream = object_new(STREAM, context);
    return context;
}

static CUresult push(struct call *call, struct object *context) {
    if (stack.count == DEPTH)
        return call_fail(call, CUDA_ERROR_INVALID_VALUE, "%d contexts were pushed", DEPTH);
    stack.contexts[stack.count++] = context;
    return CUDA_SUCCESS;
}

/* Everything of a context goes with it. */
static CUresult destroy(struct call *call, struct object *context) {
    CUresult done = drain_context(call, context, true);
    memory_drop(context);
    struct object *object;
    for (size_t at = 0; (object = object_next(&at));) {
        if (object->context != context) continue;
        if (object->kind == STREAM) stream_discard(object);
        object->alive = false;
    }
    context->alive = false;
    return done;
}

EXPORT CUresult cuDevicePrimaryCtxRetain(CUcontext *result, CUdevice device) {
    CALL(cuDevicePrimaryCtxRetain);
    CHECK_DEVICE();
    check_generation();
    if (primary && primary->alive)
        primary->ctx.references++;
    else
        primary = context_new(true, 0);
    argument(&call, "references", primary->ctx.references);
    *result = handle_of(primary);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
    CALL(cuDevicePrimaryCtxRelease);
    CHECK_DEVICE();
    check_generation();
    if (!primary || !primary->alive)
        FAIL(CUDA_ERROR_INVALID_CONTEXT, "released more often than retained");
    argument(&call, "references", primary->ctx.references - 1);
    return --primary->ctx.references ? CUDA_SUCCESS : destroy(&call, primary);
}

EXPORT CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active) {
    QUERY(cuDevicePrimaryCtxGetState);
    CHECK_DEVICE();
    check_generation();
    *active = primary && primary->alive;
    *flags = 0;
    return CUDA_SUCCESS;
}

static CUresult create(CUcontext *result, unsigned flags, CUdevice device) {
    CALL(cuCtxCreate);
    CHECK_DEVICE();
    check_generation();
    struct object *context = context_new(false, flags);
    TRY(push(&call, context));
    *result = handle_of(context);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxCreate_v2(CUcontext *result, unsigned flags, CUdevice device) {
    return create(result, flags, device);
}

EXPORT CUresult cuCtxCreate_v4(CUcontext *result, CUctxCreateParams *parameters, unsigned flags,
                               CUdevice device) {
    (void)parameters;
    return create(result, flags, device);
}

static CUresult destroy_created(struct call *call, CUcontext handle) {
    struct object *context = NULL;
    check_generation();
    TRY(object_get(call, handle, CONTEXT, &context));
    if (context->ctx.primary)
        return call_fail(call, CUDA_ERROR_INVALID_CONTEXT,
                         "the primary context is released, not destroyed");
    if (stack.count && stack.contexts[stack.count - 1] == context) stack.count--;
    return destroy(call, context);
}

EXPORT CUresult cuCtxDestroy_v2(CUcontext handle) {
    CALL(cuCtxDestroy);
    return destroy_created(&call, handle);
}

EXPORT CUresult cuCtxDetach(CUcontext handle) {
    CALL(cuCtxDetach);
    return destroy_created(&call, handle);
}

EXPORT CUresult cuCtxPushCurrent_v2(CUcontext handle) {
    CALL(cuCtxPushCurrent);
    struct object *context = NULL;
    check_generation();
    TRY(object_get(&call, handle, CONTEXT, &context));
    return push(&call, context);
}

EXPORT CUresult cuCtxPopCurrent_v2(CUcontext *result) {
    CALL(cuCtxPopCurrent);
    check_generation();
    if (!stack.count)
        FAIL(CUDA_ERROR_INVALID_CONTEXT, "no context is current on this thread");
    struct object *context = stack.contexts[--stack.count];
    if (result) *result = handle_of(context);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxSetCurrent(CUcontext handle) {
    CALL(cuCtxSetCurrent);
    struct object *context = NULL;
    check_generation();
    if (handle) TRY(object_get(&call, handle, CONTEXT, &context));
    if (stack.count) stack.count--;
    return context ? push(&call, context) : CUDA_SUCCESS;
}

EXPORT CUresult cuCtxGetCurrent(CUcontext *result) {
    QUERY(cuCtxGetCurrent);
    check_generation();
    *result = stack.count ? handle_of(stack.contexts[stack.count - 1]) : NULL;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxGetDevice(CUdevice *device) {
    QUERY(cuCtxGetDevice);
    NEED_CONTEXT();
    *device = 0;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxGetFlags(unsigned *flags) {
    QUERY(cuCtxGetFlags);
    NEED_CONTEXT();
    *flags = context->ctx.flags;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxGetApiVersion(CUcontext handle, unsigned *version) {
    QUERY(cuCtxGetApiVersion);
    struct object *context = NULL;
    if (handle)
        TRY(object_get(&call, handle, CONTEXT, &context));
    else
        TRY(current_context(&call, &context));
    *version = 3020;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxGetStreamPriorityRange(int *least, int *greatest) {
    QUERY(cuCtxGetStreamPriorityRange);
    NEED_CONTEXT();
    if (least) *least = 0;
    if (greatest) *greatest = -5;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxSynchronize(void) {
    CALL(cuCtxSynchronize);
    NEED_CONTEXT();
    struct object *stream;
    for (size_t at = 0; (stream = object_next(&at));)
        if (stream->kind == STREAM && stream->alive && stream->context == context)
            TRY(refuse_captured(&call, stream));
    return drain_context(&call, context, true);
}
