/* Modules, functions and launches. A launch is checked, recorded, and handed to the test, which
 * can do on the memory what the kernel would. */

#include "fake.h"

#include <stdlib.h>
#include <string.h>

/* ---- modules ---- */

static CUresult load(struct call *call, CUmodule *result, const void *source) {
    struct object *context = NULL;
    struct image *image = NULL;
    TRY(current_context(call, &context));
    TRY(image_read(call, source, &image));
    struct object *module = object_new(MODULE, context);
    module->module.image = image;
    argument(call, "module", module->handle);
    argument_text(call, "image", image->ptx ? "PTX" : "cubin");
    argument(call, "bytes", image->size);
    argument(call, "sm", (uint64_t)image->sm);
    *result = (CUmodule)(uintptr_t)module->handle;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuModuleLoadData(CUmodule *module, const void *image) {
    CALL(cuModuleLoadData);
    return load(&call, module, image);
}

EXPORT CUresult cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned count,
                                   CUjit_option *options, void **values) {
    CALL(cuModuleLoadDataEx);
    enum { INFO_LOG_SIZE = 4, ERROR_LOG = 5, ERROR_LOG_SIZE = 6 };
    char *log = NULL;
    void **log_size = NULL;
    for (unsigned i = 0; i < count; i++) {
        if ((int)options[i] == INFO_LOG_SIZE) values[i] = NULL; /* bytes written */
        if ((int)options[i] == ERROR_LOG) log = values[i];
        if ((int)options[i] == ERROR_LOG_SIZE) log_size = &values[i];
    }
    CUresult done = load(&call, module, image);
    if (!log_size) return done;
    size_t room = (size_t)(uintptr_t)*log_size;
    size_t size = call.message.size < room ? call.message.size : room;
    if (log && size) memcpy(log, call.message.data, size);
    *log_size = (void *)(uintptr_t)(log ? size : 0);
    return done;
}

EXPORT CUresult cuModuleUnload(CUmodule handle) {
    CALL(cuModuleUnload);
    NEED_CONTEXT();
    struct object *module = NULL, *object;
    argument(&call, "module", (uint64_t)(uintptr_t)handle);
    TRY(object_get(&call, handle, MODULE, &module));
    CUresult done = drain_context(&call, module->context, true);
    module->alive = false;
    for (size_t at = 0; (object = object_next(&at));)
        if (object->kind == FUNCTION && object->function.module == module) object->alive = false;
    return done;
}

EXPORT CUresult cuModuleGetFunction(CUfunction *result, CUmodule handle, const char *name) {
    CALL(cuModuleGetFunction);
    NEED_CONTEXT();
    struct object *module = NULL, *object;
    argument_text(&call, "function", name);
    TRY(object_get(&call, handle, MODULE, &module));
    struct kernel *kernel = module->module.image->kernels;
    while (kernel && strcmp(kernel->name, name) != 0) kernel = kernel->next;
    if (!kernel) FAIL(CUDA_ERROR_NOT_FOUND, "the image has no kernel \"%s\"", name);
    for (size_t at = 0; (object = object_next(&at));)
        if (object->kind == FUNCTION && object->alive && object->function.kernel == kernel) break;
    if (!object) {
        object = object_new(FUNCTION, context);
        object->function.module = module;
        object->function.kernel = kernel;
        object->function.max_dynamic_shared = 49152 - kernel->static_shared;
        object->function.carveout = -1;
    }
    *result = (CUfunction)(uintptr_t)object->handle;
    return CUDA_SUCCESS;
}

/* ---- functions ---- */

enum { MAX_DYNAMIC_SHARED = 8, CARVEOUT = 9 };

#define NEED_FUNCTION()                \
    struct object *function = NULL;    \
    TRY(object_get(&call, handle, FUNCTION, &function)); \
    const struct kernel *kernel = function->function.kernel

static int max_threads(const struct kernel *kernel) {
    const unsigned *block = kernel->required_block;
    unsigned threads = kernel->max_threads ? kernel->max_threads : 1024;
    if (block[0]) threads = block[0] * block[1] * block[2];
    int by_registers = kernel->registers ? 65536 / ((kernel->registers + 7) / 8 * 8) / 32 * 32 : 1024;
    return (int)threads < by_registers ? (int)threads : by_registers;
}

EXPORT CUresult cuFuncGetAttribute(int *value, CUfunction_attribute attribute, CUfunction handle) {
    QUERY(cuFuncGetAttribute);
    NEED_FUNCTION();
    const struct image *image = function->function.module->module.image;
    switch ((int)attribute) {
        case 0: *value = max_threads(kernel); return CUDA_SUCCESS;
        case 1: *value = kernel->static_shared; return CUDA_SUCCESS;
        case 2: *value = 0; return CUDA_SUCCESS; /* CONST_SIZE_BYTES */
        case 3: *value = kernel->local; return CUDA_SUCCESS;
        case 4: *value = kernel->registers; return CUDA_SUCCESS;
        case 5: /* PTX_VERSION and BINARY_VERSION: compute capabilities both */
        case 6: *value = image->sm; return CUDA_SUCCESS;
        case 7: *value = 0; return CUDA_SUCCESS; /* CACHE_MODE_CA */
        case MAX_DYNAMIC_SHARED: *value = function->function.max_dynamic_shared; return CUDA_SUCCESS;
        case CARVEOUT: *value = function->function.carveout; return CUDA_SUCCESS;
        default:
            FAIL(CUDA_ERROR_INVALID_VALUE, "function attribute %d is not modelled", (int)attribute);
    }
}

EXPORT CUresult cuFuncSetAttribute(CUfunction handle, CUfunction_attribute attribute, int value) {
    CALL(cuFuncSetAttribute);
    NEED_FUNCTION();
    argument_text(&call, "function", kernel->name);
    argument(&call, "attribute", (uint64_t)attribute);
    argument(&call, "value", (uint64_t)(int64_t)value);
    int most = state.device.shared_memory_optin - kernel->static_shared;
    switch ((int)attribute) {
        case MAX_DYNAMIC_SHARED:
            if (value < 0 || value > most)
                FAIL(CUDA_ERROR_INVALID_VALUE,
                     "%d bytes of dynamic shared memory for \"%s\"; this device allows %d", value,
                     kernel->name, most);
            function->function.max_dynamic_shared = value;
            return CUDA_SUCCESS;
        case CARVEOUT:
            if (value < -1 || value > 100)
                FAIL(CUDA_ERROR_INVALID_VALUE, "carveout %d; -1 to 100 was expected", value);
            function->function.carveout = value;
            return CUDA_SUCCESS;
        default:
            FAIL(CUDA_ERROR_INVALID_VALUE, "function attribute %d cannot be set", (int)attribute);
    }
}

EXPORT CUresult cuFuncSetCacheConfig(CUfunction handle, CUfunc_cache config) {
    CALL(cuFuncSetCacheConfig);
    NEED_FUNCTION();
    argument_text(&call, "function", kernel->name);
    argument(&call, "config", (uint64_t)config);
    return CUDA_SUCCESS;
}

/* The old way to give a block's shape. pycuda still takes it before every launch that names its own,
 * so it must be there; it changes nothing. */
EXPORT CUresult cuFuncSetBlockShape(CUfunction handle, int x, int y, int z) {
    QUERY(cuFuncSetBlockShape);
    NEED_FUNCTION();
    if (x < 1 || y < 1 || z < 1)
        FAIL(CUDA_ERROR_INVALID_VALUE, "a block of %d, %d, %d for \"%s\"", x, y, z, kernel->name);
    return CUDA_SUCCESS;
}

/* ---- launches ---- */

struct launch { /* what a test's stand-in for a kernel gets */
    const char *name;
    unsigned grid[3], block[3];
    unsigned shared;
    uint64_t stream;
    const void *parameters;
    size_t parameter_size;
};
typedef int (*on_launch)(const struct launch *);
static on_launch callback;

/* `callback` runs at every launch; what it returns but 0 is the launch's error. NULL: nothing. */
EXPORT void fakecuda_on_launch(on_launch new) { callback = new; }

CUresult run_launch(struct call *call, struct operation *o) {
    const char *name = o->object->function.kernel->name;
    struct launch launch = {
        .name = name,
        .grid = {o->grid[0], o->grid[1], o->grid[2]},
        .block = {o->block[0], o->block[1], o->block[2]},
        .shared = o->shared,
        .stream = o->stream_handle,
        .parameters = o->parameters,
        .parameter_size = o->parameter_size,
    };
    int result = callback ? callback(&launch) : 0;
    if (result)
        return call_fail(call, (CUresult)result, "the stand-in for kernel \"%s\" failed", name);
    return check_margins(call, name);
}

static CUresult check_shape(struct call *call, const struct object *function,
                            const struct operation *o) {
    static const unsigned most_grid[] = {2147483647, 65535, 65535}, most_block[] = {1024, 1024, 64};
    const struct kernel *kernel = function->function.kernel;
    const unsigned *grid = o->grid, *block = o->block, *required = kernel->required_block;
    for (int i = 0; i < 3; i++) {
        if (grid[i] < 1 || grid[i] > most_grid[i])
            return call_fail(call, CUDA_ERROR_INVALID_VALUE, "grid %u, %u, %u: %c is not in 1-%u",
                             grid[0], grid[1], grid[2], 'x' + i, most_grid[i]);
        if (block[i] < 1 || block[i] > most_block[i])
            return call_fail(call, CUDA_ERROR_INVALID_VALUE, "block %u, %u, %u: %c is not in 1-%u",
                             block[0], block[1], block[2], 'x' + i, most_block[i]);
    }
    uint64_t threads = (uint64_t)block[0] * block[1] * block[2];
    if (threads > 1024)
        return call_fail(call, CUDA_ERROR_INVALID_VALUE, "blocks of %llu threads; 1024 is the most",
                         (unsigned long long)threads);
    if (required[0] && memcmp(block, required, sizeof o->block) != 0)
        return call_fail(call, CUDA_ERROR_INVALID_VALUE,
                         "blocks of %u, %u, %u; \"%s\" was compiled for %u, %u, %u", block[0],
                         block[1], block[2], kernel->name, required[0], required[1], required[2]);
    if (threads > (uint64_t)max_threads(kernel))
        return call_fail(call, CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES,
                         "blocks of %llu threads; \"%s\" with its %d registers runs with %d",
                         (unsigned long long)threads, kernel->name, kernel->registers,
                         max_threads(kernel));
    int most = function->function.max_dynamic_shared;
    if (o->shared > (unsigned)most)
        return call_fail(call, CUDA_ERROR_INVALID_VALUE,
                         "%u bytes of dynamic shared memory; \"%s\" may have %d: raise "
                         "MAX_DYNAMIC_SHARED_SIZE_BYTES first",
                         o->shared, kernel->name, most);
    return CUDA_SUCCESS;
}

/* Takes the parameters from either form and lays them out as the kernel reads them. */
static CUresult take_parameters(struct call *call, const struct kernel *kernel,
                                struct operation *o, void **separate, void **extra) {
    size_t size = 0;
    const void *buffer = NULL;
    for (int i = 0; extra && extra[i]; i += 2) { /* CU_LAUNCH_PARAM_END is 0 */
        uintptr_t key = (uintptr_t)extra[i];
        if (key == 1)
            buffer = extra[i + 1];
        else if (key == 2)
            size = *(size_t *)extra[i + 1];
        else
            return call_fail(call, CUDA_ERROR_INVALID_VALUE, "unknown key %zu in extra", (size_t)key);
    }
    if (separate && extra)
        return call_fail(call, CUDA_ERROR_INVALID_VALUE, "both kernelParams and extra are given");
    if (extra && size != kernel->parameter_size)
        return call_fail(call, CUDA_ERROR_INVALID_VALUE,
                         "%zu bytes of parameters; \"%s\" takes %zu", size, kernel->name,
                         kernel->parameter_size);
    if (!separate && !buffer && kernel->parameter_size)
        return call_fail(call, CUDA_ERROR_INVALID_VALUE, "no parameters; \"%s\" takes %zu bytes",
                         kernel->name, kernel->parameter_size);
    o->parameter_size = kernel->parameter_size;
    o->parameters = calloc(1, kernel->parameter_size + 1);
    if (!o->parameters) abort();
    if (buffer) memcpy(o->parameters, buffer, size);
    for (int i = 0; separate && i < kernel->parameters; i++)
        memcpy((char *)o->parameters + kernel->parameter[i].offset, separate[i],
               kernel->parameter[i].size);
    return CUDA_SUCCESS;
}

/* An address of freed memory is never one of anything else, so it can be told from a number. */
CUresult check_pointers(struct call *call, const struct kernel *kernel, const void *parameters) {
    for (int i = 0; i < kernel->parameters; i++) {
        if (kernel->parameter[i].size != 8) continue;
        uint64_t value;
        memcpy(&value, (const char *)parameters + kernel->parameter[i].offset, sizeof value);
        const struct allocation *a = allocation_at(value);
        if (a && !a->alive)
            return call_fail(call, CUDA_ERROR_ILLEGAL_ADDRESS,
                             "parameter %d of \"%s\", 0x%llx, points into %zu bytes that were freed",
                             i, kernel->name, (unsigned long long)value, a->size);
    }
    return CUDA_SUCCESS;
}

EXPORT CUresult cuLaunchKernel(CUfunction handle, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                               unsigned block_x, unsigned block_y, unsigned block_z,
                               unsigned shared, CUstream stream_handle, void **parameters,
                               void **extra) {
    CALL(cuLaunchKernel);
    NEED_CONTEXT();
    NEED_FUNCTION();
    struct object *stream = NULL;
    struct operation launch = {
        .grid = {grid_x, grid_y, grid_z}, .block = {block_x, block_y, block_z}, .shared = shared};
    argument_text(&call, "function", kernel->name);
    argument_triple(&call, "grid", launch.grid);
    argument_triple(&call, "block", launch.block);
    argument(&call, "shared", shared);
    TRY(stream_get(&call, context, stream_handle, &stream));
    if (function->context != context)
        FAIL(CUDA_ERROR_INVALID_HANDLE, "\"%s\" is of another context than the current one",
             kernel->name);
    TRY(check_shape(&call, function, &launch));
    struct operation *operation = operation_new(LAUNCH);
    memcpy(operation->grid, launch.grid, sizeof launch.grid);
    memcpy(operation->block, launch.block, sizeof launch.block);
    operation->shared = shared;
    operation->object = function;
    operation->stream_handle = (uint64_t)(uintptr_t)stream_handle;
    CUresult done = take_parameters(&call, kernel, operation, parameters, extra);
    if (done == CUDA_SUCCESS) {
        argument_bytes(&call, "parameters", operation->parameters, operation->parameter_size);
        done = check_pointers(&call, kernel, operation->parameters);
    }
    if (done != CUDA_SUCCESS) {
        free(operation->parameters);
        free(operation);
        return done;
    }
    return submit(&call, stream, operation);
}
