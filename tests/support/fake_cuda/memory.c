/* Allocations: device, pinned, managed and registered memory, and who may touch what.
 *
 * Each allocation is a mapping of its own with a margin of known bytes on both sides, so that a
 * write past either end is found. New memory is all ones, which is a NaN in every float format.
 * Freed mappings are made inaccessible and their addresses are not given out again before a reset,
 * so that a stale pointer never looks like a good one. */

#define _GNU_SOURCE
#include "fake.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { MARGIN = 256, MARGIN_BYTE = 0xb5, FRESH_BYTE = 0xff, PAGE = 4096 };

static struct allocation **allocations;
static size_t allocation_count, allocation_capacity;
static size_t device_bytes; /* in use */

static const char *const place_names[] = {"device", "pinned host", "managed", "registered host"};

static struct allocation *allocation_add(enum place place, uint64_t base, size_t size) {
    if (allocation_count == allocation_capacity) {
        allocation_capacity = allocation_capacity ? 2 * allocation_capacity : 64;
        allocations = realloc(allocations, allocation_capacity * sizeof *allocations);
    }
    struct allocation *new = calloc(1, sizeof *new);
    if (!allocations || !new) abort();
    new->place = place;
    new->base = base;
    new->size = size;
    new->alive = true;
    return allocations[allocation_count++] = new;
}

struct allocation *allocation_at(uint64_t address) {
    struct allocation *freed = NULL;
    for (size_t i = allocation_count; i-- > 0;) {
        struct allocation *a = allocations[i];
        if (address < a->base || address >= a->base + a->size) continue;
        if (a->alive) return a;
        if (a->map && !freed) freed = a;
    }
    return freed;
}

static bool counts(const struct allocation *a) {
    return a->place == DEVICE || a->place == MANAGED;
}

static CUresult allocate(struct call *call, struct object *context, enum place place, size_t size,
                         unsigned flags, uint64_t *address) {
    argument(call, "bytes", size);
    if (size == 0) return call_fail(call, CUDA_ERROR_INVALID_VALUE, "an allocation of 0 bytes");
    bool counted = place == DEVICE || place == MANAGED;
    if (counted && size > state.device.memory - device_bytes)
        return call_fail(call, CUDA_ERROR_OUT_OF_MEMORY,
                         "%zu bytes asked for, %zu of the device's %zu are free", size,
                         state.device.memory - device_bytes, state.device.memory);
    size_t map_size = PAGE + (size + MARGIN + PAGE - 1) / PAGE * PAGE;
    char *map = mmap(NULL, map_size, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED)
        return call_fail(call, CUDA_ERROR_OUT_OF_MEMORY, "the host has no %zu bytes", size);
    memset(map + PAGE - MARGIN, MARGIN_BYTE, MARGIN);
    memset(map + PAGE, FRESH_BYTE, size);
    memset(map + PAGE + size, MARGIN_BYTE, MARGIN);
    struct allocation *a = allocation_add(place, (uint64_t)(uintptr_t)(map + PAGE), size);
    a->context = context;
    a->flags = flags;
    a->map = map;
    a->map_size = map_size;
    if (counted) device_bytes += size;
    *address = a->base;
    argument(call, "address", a->base);
    return CUDA_SUCCESS;
}

static bool margins_whole(const struct allocation *a) {
    if (!a->map) return true;
    const unsigned char *before = (unsigned char *)a->map + PAGE - MARGIN;
    const unsigned char *after = (unsigned char *)a->map + PAGE + a->size;
    for (int i = 0; i < MARGIN; i++)
        if (before[i] != MARGIN_BYTE || after[i] != MARGIN_BYTE) return false;
    return true;
}

CUresult check_margins(struct call *call, const char *writer) {
    for (size_t i = 0; i < allocation_count; i++) {
        struct allocation *a = allocations[i];
        if (!a->alive || margins_whole(a)) continue;
        memset((char *)a->map + PAGE - MARGIN, MARGIN_BYTE, MARGIN); /* told once */
        memset((char *)a->map + PAGE + a->size, MARGIN_BYTE, MARGIN);
        return call_fail(call, CUDA_ERROR_ILLEGAL_ADDRESS,
                         "%s wrote just outside the allocation of %zu bytes at 0x%llx", writer,
                         a->size, (unsigned long long)a->base);
    }
    return CUDA_SUCCESS;
}

static void release(struct allocation *a) {
    a->alive = false;
    if (counts(a)) device_bytes -= a->size;
    if (a->map) {
        madvise(a->map, a->map_size, MADV_DONTNEED);
        mprotect(a->map, a->map_size, PROT_NONE);
    }
}

void memory_drop(const struct object *context) {
    for (size_t i = 0; i < allocation_count; i++) {
        struct allocation *a = allocations[i];
        if (a->alive && (!context || a->context == context)) release(a);
        if (context) continue;
        if (a->map) munmap(a->map, a->map_size);
        free(a);
    }
    if (!context) allocation_count = 0;
}

void memory_describe(struct text *text) {
    bool first = true;
    for (size_t i = 0; i < allocation_count; i++) {
        const struct allocation *a = allocations[i];
        if (!a->alive) continue;
        text_add(text, "%s{\"address\":%llu,\"bytes\":%zu,\"place\":\"%s\"}", first ? "" : ",",
                 (unsigned long long)a->base, a->size, place_names[a->place]);
        first = false;
    }
}

/* ---- checks ---- */

static CUresult check_inside(struct call *call, const char *what, const struct allocation *a,
                             uint64_t address, size_t size) {
    unsigned long long at = address;
    if (!a->alive)
        return call_fail(call, CUDA_ERROR_INVALID_VALUE,
                         "%s 0x%llx lies in %zu bytes of %s memory that were freed", what, at,
                         a->size, place_names[a->place]);
    size_t offset = address - a->base;
    if (size > a->size - offset)
        return call_fail(call, CUDA_ERROR_INVALID_VALUE,
                         "%s 0x%llx: %zu bytes from offset %zu run past the end of an allocation "
                         "of %zu bytes",
                         what, at, size, offset, a->size);
    return CUDA_SUCCESS;
}

CUresult check_device(struct call *call, const char *what, uint64_t address, size_t size) {
    const struct allocation *a = allocation_at(address);
    if (!a)
        return call_fail(call, CUDA_ERROR_INVALID_VALUE, "%s 0x%llx is in no allocation", what,
                         (unsigned long long)address);
    return check_inside(call, what, a, address, size);
}

CUresult check_host(struct call *call, const char *what, const void *address, size_t size) {
    const struct allocation *a = allocation_at((uint64_t)(uintptr_t)address);
    if (!address) return call_fail(call, CUDA_ERROR_INVALID_VALUE, "%s is null", what);
    if (!a) return CUDA_SUCCESS; /* pageable memory: the driver knows nothing of it */
    if (a->place == DEVICE)
        return call_fail(call, CUDA_ERROR_INVALID_VALUE,
                         "%s %p is device memory, host memory was expected", what, address);
    return check_inside(call, what, a, (uint64_t)(uintptr_t)address, size);
}

bool is_pageable(const void *address) {
    const struct allocation *a = allocation_at((uint64_t)(uintptr_t)address);
    return !a || !a->alive;
}

/* 1 if the bytes are inside one live allocation. */
EXPORT int fakecuda_readable(uint64_t address, size_t size) {
    struct call call = {.name = "fakecuda_readable", .quiet = true};
    call_begin(&call, call.name, true, false);
    bool inside = check_device(&call, "address", address, size) == CUDA_SUCCESS;
    call.result = CUDA_SUCCESS; /* a question is no failure */
    text_clear(&call.message);
    call_end(&call);
    return inside;
}

/* ---- the driver's calls ---- */

EXPORT CUresult cuMemAlloc_v2(CUdeviceptr *pointer, size_t size) {
    CALL(cuMemAlloc);
    NEED_CONTEXT();
    uint64_t address = 0;
    TRY(allocate(&call, context, DEVICE, size, 0, &address));
    *pointer = address;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemAllocPitch_v2(CUdeviceptr *pointer, size_t *pitch, size_t width,
                                   size_t height, unsigned element) {
    CALL(cuMemAllocPitch);
    NEED_CONTEXT();
    if (element != 4 && element != 8 && element != 16)
        FAIL(CUDA_ERROR_INVALID_VALUE, "element size %u; 4, 8 or 16 was expected", element);
    size_t row = (width + 511) / 512 * 512;
    uint64_t address = 0;
    TRY(allocate(&call, context, DEVICE, row * height, 0, &address));
    *pitch = row;
    *pointer = address;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemAllocManaged(CUdeviceptr *pointer, size_t size, unsigned flags) {
    CALL(cuMemAllocManaged);
    NEED_CONTEXT();
    uint64_t address = 0;
    TRY(allocate(&call, context, MANAGED, size, flags, &address));
    *pointer = address;
    return CUDA_SUCCESS;
}

static CUresult free_at(struct call *call, uint64_t address, enum place place, enum place or) {
    argument(call, "address", address);
    struct allocation *a = allocation_at(address);
    if (!a)
        return call_fail(call, CUDA_ERROR_INVALID_VALUE, "0x%llx is in no allocation",
                         (unsigned long long)address);
    if (!a->alive)
        return call_fail(call, CUDA_ERROR_INVALID_VALUE, "0x%llx was freed before",
                         (unsigned long long)address);
    if (a->base != address || (a->place != place && a->place != or))
        return call_fail(call, CUDA_ERROR_INVALID_VALUE,
                         "0x%llx is not the start of %s memory but byte %zu of %s memory",
                         (unsigned long long)address, place_names[place],
                         (size_t)(address - a->base), place_names[a->place]);
    CUresult done = drain_context(call, a->context, true); /* freeing waits for the device */
    if (done == CUDA_SUCCESS) done = check_margins(call, "something");
    argument(call, "bytes", a->size);
    release(a);
    return done;
}

EXPORT CUresult cuMemFree_v2(CUdeviceptr pointer) {
    CALL(cuMemFree);
    NEED_CONTEXT();
    if (pointer == 0) return CUDA_SUCCESS;
    return free_at(&call, pointer, DEVICE, MANAGED);
}

EXPORT CUresult cuMemHostAlloc(void **pointer, size_t size, unsigned flags) {
    CALL(cuMemHostAlloc);
    NEED_CONTEXT();
    if (flags & ~7u) FAIL(CUDA_ERROR_INVALID_VALUE, "unknown flags 0x%x", flags);
    uint64_t address = 0;
    TRY(allocate(&call, context, PINNED, size, flags, &address));
    *pointer = (void *)(uintptr_t)address;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemAllocHost_v2(void **pointer, size_t size) {
    return cuMemHostAlloc(pointer, size, 0);
}

EXPORT CUresult cuMemFreeHost(void *pointer) {
    CALL(cuMemFreeHost);
    NEED_CONTEXT();
    return free_at(&call, (uint64_t)(uintptr_t)pointer, PINNED, PINNED);
}

EXPORT CUresult cuMemHostRegister_v2(void *pointer, size_t size, unsigned flags) {
    CALL(cuMemHostRegister);
    NEED_CONTEXT();
    argument(&call, "address", (uint64_t)(uintptr_t)pointer);
    argument(&call, "bytes", size);
    if (!pointer || !size) FAIL(CUDA_ERROR_INVALID_VALUE, "%zu bytes at %p", size, pointer);
    struct allocation *a = allocation_at((uint64_t)(uintptr_t)pointer);
    if (a && a->alive)
        FAIL(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, "%p is in %s memory", pointer,
             place_names[a->place]);
    a = allocation_add(REGISTERED, (uint64_t)(uintptr_t)pointer, size);
    a->context = context;
    a->flags = flags;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemHostUnregister(void *pointer) {
    CALL(cuMemHostUnregister);
    NEED_CONTEXT();
    const struct allocation *a = allocation_at((uint64_t)(uintptr_t)pointer);
    if (!a || !a->alive || a->place != REGISTERED)
        FAIL(CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED, "%p is not registered", pointer);
    return free_at(&call, (uint64_t)(uintptr_t)pointer, REGISTERED, REGISTERED);
}

EXPORT CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr *device, void *host, unsigned flags) {
    QUERY(cuMemHostGetDevicePointer);
    NEED_CONTEXT();
    if (flags) FAIL(CUDA_ERROR_INVALID_VALUE, "flags 0x%x; 0 was expected", flags);
    if (is_pageable(host)) FAIL(CUDA_ERROR_INVALID_VALUE, "%p is not pinned memory", host);
    *device = (uint64_t)(uintptr_t)host;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemHostGetFlags(unsigned *flags, void *host) {
    QUERY(cuMemHostGetFlags);
    NEED_CONTEXT();
    if (is_pageable(host)) FAIL(CUDA_ERROR_INVALID_VALUE, "%p is not pinned memory", host);
    *flags = allocation_at((uint64_t)(uintptr_t)host)->flags;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemGetAddressRange_v2(CUdeviceptr *base, size_t *size, CUdeviceptr pointer) {
    QUERY(cuMemGetAddressRange);
    NEED_CONTEXT();
    TRY(check_device(&call, "pointer", pointer, 1));
    const struct allocation *a = allocation_at(pointer);
    if (base) *base = a->base;
    if (size) *size = a->size;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemGetInfo_v2(size_t *available, size_t *total) {
    QUERY(cuMemGetInfo);
    NEED_CONTEXT();
    *total = state.device.memory;
    *available = *total - device_bytes;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuPointerGetAttribute(void *data, CUpointer_attribute attribute,
                                      CUdeviceptr pointer) {
    QUERY(cuPointerGetAttribute);
    TRY(check_device(&call, "pointer", pointer, 1));
    const struct allocation *a = allocation_at(pointer);
    switch ((int)attribute) {
        case 1: /* CONTEXT */
            *(CUcontext *)data = (CUcontext)(uintptr_t)a->context->handle;
            return CUDA_SUCCESS;
        case 2: /* MEMORY_TYPE */
            *(unsigned *)data =
                a->place == PINNED || a->place == REGISTERED ? CU_MEMORYTYPE_HOST
                                                             : CU_MEMORYTYPE_DEVICE;
            return CUDA_SUCCESS;
        case 3: /* DEVICE_POINTER */
        case 4: /* HOST_POINTER */
            if ((int)attribute == 4 && a->place == DEVICE)
                FAIL(CUDA_ERROR_INVALID_VALUE, "device memory has no host pointer");
            *(CUdeviceptr *)data = pointer;
            return CUDA_SUCCESS;
        case 8: /* IS_MANAGED */
            *(unsigned *)data = a->place == MANAGED;
            return CUDA_SUCCESS;
        case 9: /* DEVICE_ORDINAL */
            *(int *)data = 0;
            return CUDA_SUCCESS;
        default:
            FAIL(CUDA_ERROR_NOT_SUPPORTED, "pointer attribute %d is not modelled", (int)attribute);
    }
}
