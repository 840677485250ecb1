/* Copies and fills. */

#include "fake.h"

#include <stdio.h>

enum direction { HOST_TO_DEVICE, DEVICE_TO_HOST, DEVICE_TO_DEVICE };

/* The bytes that `height` rows span. */
static size_t span(size_t width, size_t height, size_t pitch) {
    return height ? (height - 1) * pitch + width : 0;
}

static CUresult check_side(struct call *call, const char *what, bool host, uint64_t address,
                           size_t size) {
    return host ? check_host(call, what, (void *)(uintptr_t)address, size)
                : check_device(call, what, address, size);
}

static CUresult copy(struct call *call, bool target_host, uint64_t target, size_t target_pitch,
                     bool source_host, uint64_t source, size_t source_pitch, size_t width,
                     size_t height, bool async, CUstream handle) {
    struct object *context = NULL, *stream = NULL;
    argument(call, "target", target);
    argument(call, "source", source);
    argument(call, "bytes", width * height);
    TRY(current_context(call, &context));
    TRY(stream_get(call, context, handle, &stream));
    if (height > 1 && (target_pitch < width || source_pitch < width))
        return call_fail(call, CUDA_ERROR_INVALID_VALUE,
                         "rows of %zu bytes at pitches of %zu and %zu", width, target_pitch,
                         source_pitch);
    if (width * height == 0) return CUDA_SUCCESS;
    TRY(check_side(call, "target", target_host, target, span(width, height, target_pitch)));
    TRY(check_side(call, "source", source_host, source, span(width, height, source_pitch)));
    if (async && (target_host || source_host))
        argument(call, "pageable",
                 is_pageable((void *)(uintptr_t)(target_host ? target : source)));
    struct operation *operation = operation_new(COPY);
    operation->target = (char *)(uintptr_t)target;
    operation->source = (const char *)(uintptr_t)source;
    operation->width = width;
    operation->height = height;
    operation->target_pitch = target_pitch;
    operation->source_pitch = source_pitch;
    TRY(submit(call, stream, operation));
    return async ? CUDA_SUCCESS : drain(call, stream, UINT64_MAX);
}

#define HOST(pointer) (uint64_t)(uintptr_t)(pointer)
#define COPY_CALLS(name, target_type, source_type, target_host, source_host)                       \
    EXPORT CUresult cuMemcpy##name##_v2(target_type target, source_type source, size_t size) {     \
        CALL(cuMemcpy##name);                                                                      \
        return copy(&call, target_host, HOST(target), size, source_host, HOST(source), size, size, \
                    1, false, 0);                                                                  \
    }                                                                                              \
    EXPORT CUresult cuMemcpy##name##Async_v2(target_type target, source_type source, size_t size,  \
                                             CUstream stream) {                                    \
        CALL(cuMemcpy##name##Async);                                                               \
        return copy(&call, target_host, HOST(target), size, source_host, HOST(source), size, size, \
                    1, true, stream);                                                              \
    }

COPY_CALLS(HtoD, CUdeviceptr, const void *, false, true)
COPY_CALLS(DtoH, void *, CUdeviceptr, true, false)
COPY_CALLS(DtoD, CUdeviceptr, CUdeviceptr, false, false)

/* Any two addresses: what is in no allocation is pageable host memory. */
static bool is_host(CUdeviceptr address) { return !allocation_at(address); }

EXPORT CUresult cuMemcpy(CUdeviceptr target, CUdeviceptr source, size_t size) {
    CALL(cuMemcpy);
    return copy(&call, is_host(target), target, size, is_host(source), source, size, size, 1,
                false, 0);
}

EXPORT CUresult cuMemcpyAsync(CUdeviceptr target, CUdeviceptr source, size_t size,
                              CUstream stream) {
    CALL(cuMemcpyAsync);
    return copy(&call, is_host(target), target, size, is_host(source), source, size, size, 1, true,
                stream);
}

static CUresult copy_2d(struct call *call, const CUDA_MEMCPY2D *c, bool async, CUstream stream) {
    int places[] = {(int)c->srcMemoryType, (int)c->dstMemoryType};
    for (int i = 0; i < 2; i++)
        if (places[i] != CU_MEMORYTYPE_HOST && places[i] != CU_MEMORYTYPE_DEVICE)
            return call_fail(call, CUDA_ERROR_NOT_SUPPORTED, "memory type %d is not modelled",
                             places[i]);
    bool target_host = places[1] == CU_MEMORYTYPE_HOST, source_host = places[0] == CU_MEMORYTYPE_HOST;
    uint64_t target = target_host ? HOST(c->dstHost) : c->dstDevice;
    uint64_t source = source_host ? HOST(c->srcHost) : c->srcDevice;
    size_t target_pitch = c->dstPitch ? c->dstPitch : c->WidthInBytes;
    size_t source_pitch = c->srcPitch ? c->srcPitch : c->WidthInBytes;
    return copy(call, target_host, target + c->dstY * target_pitch + c->dstXInBytes, target_pitch,
                source_host, source + c->srcY * source_pitch + c->srcXInBytes, source_pitch,
                c->WidthInBytes, c->Height, async, stream);
}

EXPORT CUresult cuMemcpy2D_v2(const CUDA_MEMCPY2D *copy) {
    CALL(cuMemcpy2D);
    return copy_2d(&call, copy, false, 0);
}

EXPORT CUresult cuMemcpy2DUnaligned_v2(const CUDA_MEMCPY2D *copy) {
    CALL(cuMemcpy2DUnaligned);
    return copy_2d(&call, copy, false, 0);
}

EXPORT CUresult cuMemcpy2DAsync_v2(const CUDA_MEMCPY2D *copy, CUstream stream) {
    CALL(cuMemcpy2DAsync);
    return copy_2d(&call, copy, true, stream);
}

static CUresult fill(struct call *call, uint64_t target, size_t pitch, uint32_t value,
                     int value_size, size_t count, size_t height, CUstream handle) {
    struct object *context = NULL, *stream = NULL;
    size_t width = count * (size_t)value_size;
    argument(call, "target", target);
    argument(call, "value", value);
    argument(call, "bytes", width * height);
    TRY(current_context(call, &context));
    TRY(stream_get(call, context, handle, &stream));
    if (target % (unsigned)value_size || (height > 1 && pitch % (unsigned)value_size))
        return call_fail(call, CUDA_ERROR_INVALID_VALUE,
                         "target 0x%llx or pitch %zu is not a multiple of %d bytes",
                         (unsigned long long)target, pitch, value_size);
    if (height > 1 && pitch < width)
        return call_fail(call, CUDA_ERROR_INVALID_VALUE, "rows of %zu bytes at a pitch of %zu",
                         width, pitch);
    if (width * height == 0) return CUDA_SUCCESS;
    TRY(check_device(call, "target", target, span(width, height, pitch)));
    struct operation *operation = operation_new(FILL);
    operation->target = (char *)(uintptr_t)target;
    operation->target_pitch = pitch;
    operation->width = width;
    operation->height = height;
    operation->value = value;
    operation->value_size = value_size;
    return submit(call, stream, operation);
}

#define FILL_CALLS(bits, type)                                                                   \
    EXPORT CUresult cuMemsetD##bits##_v2(CUdeviceptr target, type value, size_t count) {         \
        CALL(cuMemsetD##bits);                                                                   \
        return fill(&call, target, 0, value, bits / 8, count, 1, 0);                             \
    }                                                                                            \
    EXPORT CUresult cuMemsetD##bits##Async(CUdeviceptr target, type value, size_t count,         \
                                           CUstream stream) {                                    \
        CALL(cuMemsetD##bits##Async);                                                            \
        return fill(&call, target, 0, value, bits / 8, count, 1, stream);                        \
    }                                                                                            \
    EXPORT CUresult cuMemsetD2D##bits##_v2(CUdeviceptr target, size_t pitch, type value,         \
                                           size_t width, size_t height) {                        \
        CALL(cuMemsetD2D##bits);                                                                 \
        return fill(&call, target, pitch, value, bits / 8, width, height, 0);                    \
    }                                                                                            \
    EXPORT CUresult cuMemsetD2D##bits##Async(CUdeviceptr target, size_t pitch, type value,       \
                                             size_t width, size_t height, CUstream stream) {     \
        CALL(cuMemsetD2D##bits##Async);                                                          \
        return fill(&call, target, pitch, value, bits / 8, width, height, stream);               \
    }

FILL_CALLS(8, unsigned char)
FILL_CALLS(16, unsigned short)
FILL_CALLS(32, unsigned)
