/* What the files of the fake driver share: the driver's types, the recorded call, the objects. */

#ifndef FAKE_CUDA_H
#define FAKE_CUDA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))

/* The subset of cuda.h in use, so that no CUDA toolkit is needed. With FAKE_CUDA_TOOLKIT defined
 * the toolkit's own header takes its place, and the compiler compares every declaration. */
#ifdef FAKE_CUDA_TOOLKIT
#include <cuda.h>
#undef cuEventElapsedTime /* the toolkit names their newer forms so; both are here */
#undef cuGetProcAddress
#undef cuGraphInstantiate
#undef cuStreamBeginCapture
#else
typedef enum cudaError_enum {
    CUDA_SUCCESS = 0,
    CUDA_ERROR_INVALID_VALUE = 1,
    CUDA_ERROR_OUT_OF_MEMORY = 2,
    CUDA_ERROR_NOT_INITIALIZED = 3,
    CUDA_ERROR_INVALID_DEVICE = 101,
    CUDA_ERROR_INVALID_IMAGE = 200,
    CUDA_ERROR_INVALID_CONTEXT = 201,
    CUDA_ERROR_NO_BINARY_FOR_GPU = 209,
    CUDA_ERROR_INVALID_PTX = 218,
    CUDA_ERROR_UNSUPPORTED_PTX_VERSION = 222,
    CUDA_ERROR_FILE_NOT_FOUND = 301,
    CUDA_ERROR_INVALID_HANDLE = 400,
    CUDA_ERROR_NOT_FOUND = 500,
    CUDA_ERROR_NOT_READY = 600,
    CUDA_ERROR_ILLEGAL_ADDRESS = 700,
    CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES = 701,
    CUDA_ERROR_CONTEXT_IS_DESTROYED = 709,
    CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED = 712,
    CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED = 713,
    CUDA_ERROR_LAUNCH_FAILED = 719,
    CUDA_ERROR_NOT_SUPPORTED = 801,
    CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900,
    CUDA_ERROR_STREAM_CAPTURE_INVALIDATED = 901,
    CUDA_ERROR_STREAM_CAPTURE_UNMATCHED = 903,
    CUDA_ERROR_STREAM_CAPTURE_ISOLATION = 905,
    CUDA_ERROR_UNKNOWN = 999,
} CUresult;

typedef int CUdevice;
typedef unsigned long long CUdeviceptr;
typedef struct CUctx_st *CUcontext;
typedef struct CUstream_st *CUstream;
typedef struct CUevent_st *CUevent;
typedef struct CUmod_st *CUmodule;
typedef struct CUfunc_st *CUfunction;
typedef struct CUarray_st *CUarray;
typedef struct CUgraph_st *CUgraph;
typedef struct CUgraphExec_st *CUgraphExec;
typedef struct CUuuid_st {
    char bytes[16];
} CUuuid;
typedef int CUdevice_attribute, CUfunction_attribute, CUpointer_attribute, CUjit_option;
typedef int CUfunc_cache;
typedef int CUstreamCaptureMode;
typedef uint64_t cuuint64_t;
typedef enum { CU_GET_PROC_ADDRESS_SUCCESS, CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND }
    CUdriverProcAddressQueryResult;
typedef enum { CU_MEMORYTYPE_HOST = 1, CU_MEMORYTYPE_DEVICE = 2 } CUmemorytype;
typedef struct CUctxCreateParams_st CUctxCreateParams;
typedef struct CUDA_MEMCPY2D_st {
    size_t srcXInBytes, srcY;
    CUmemorytype srcMemoryType;
    const void *srcHost;
    CUdeviceptr srcDevice;
    CUarray srcArray;
    size_t srcPitch;
    size_t dstXInBytes, dstY;
    CUmemorytype dstMemoryType;
    void *dstHost;
    CUdeviceptr dstDevice;
    CUarray dstArray;
    size_t dstPitch;
    size_t WidthInBytes, Height;
} CUDA_MEMCPY2D;
#endif

/* ---- state.c: text, the lock, recorded calls, objects ---- */

struct text {
    char *data;
    size_t size, capacity;
};
void text_add(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
void text_add_quoted(struct text *text, const char *string); /* as a JSON string */
void text_clear(struct text *text);

/* One call of the driver while it runs. It holds the library's one lock. */
struct call {
    const char *name;
    bool quiet; /* a query: logged only when it fails */
    CUresult result;
    struct text arguments; /* members of a JSON object */
    struct text message;
};
bool call_begin(struct call *call, const char *name, bool quiet, bool needs_init);
void call_end(struct call *call);
CUresult call_fail(struct call *call, CUresult result, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void argument(struct call *call, const char *name, uint64_t value);
void argument_text(struct call *call, const char *name, const char *value);
void argument_bytes(struct call *call, const char *name, const void *bytes, size_t size);
void argument_triple(struct call *call, const char *name, const unsigned *values);

#define BEGIN(api, quiet, needs_init)                               \
    __attribute__((cleanup(call_end))) struct call call = {0};      \
    if (!call_begin(&call, #api, quiet, needs_init)) return call.result
#define CALL(api) BEGIN(api, false, true)
#define QUERY(api) BEGIN(api, true, true)
#define FAIL(result, ...) return call_fail(&call, result, __VA_ARGS__)
#define TRY(expression)                                   \
    do {                                                  \
        CUresult tried = (expression);                    \
        if (tried != CUDA_SUCCESS) return tried;          \
    } while (0)

enum kind { CONTEXT, STREAM, EVENT, MODULE, GRAPH, EXECUTABLE, FUNCTION, KINDS };
extern const char *const kind_names[KINDS];

struct operation;
struct image;
struct object {
    enum kind kind;
    bool alive;
    uint64_t handle;
    struct object *context; /* whose it is; of a function: see module */
    union {
        struct {
            bool primary;
            unsigned references, flags;
            struct object *default_stream;
        } ctx;
        struct {
            bool non_blocking;
            int priority;
            uint64_t issued, finished; /* operations so far */
            struct operation *first, *last;
            bool capturing, invalid; /* invalid: something in the capture was refused */
            struct operation *captured;
        } stream;
        struct {
            bool timing, recorded, done;
            struct object *stream;
            uint64_t ticket; /* of the operation on `stream` that records it */
            double milliseconds;
        } event;
        struct {
            struct image *image;
        } module;
        struct {
            struct operation *first;
        } graph; /* and its executable form */
        struct {
            struct object *module;
            struct kernel *kernel;
            int max_dynamic_shared, carveout;
        } function;
    };
};
struct object *object_new(enum kind kind, struct object *context);
struct object *object_find(uint64_t handle, enum kind kind, bool dead_too);
struct object *object_next(size_t *position); /* all of them, in order of creation */
CUresult object_get(struct call *call, const void *handle, enum kind kind, struct object **found);

struct device {
    int major, minor;
    int multiprocessors;
    int shared_memory_optin;  /* bytes of a block at most, once the function's attribute allows */
    int driver_version;       /* 1000 * major + 10 * minor */
    int ptx_version;          /* 10 * major + minor: the newest PTX taken */
    int integrated;           /* memory is the host's, as on a Jetson */
    size_t memory;
    char name[64];
};
struct state {
    struct device device;
    bool initialized;
    bool deferred;
    unsigned generation; /* counts resets: older handles and context stacks are void */
};
extern struct state state;

/* ---- device.c ---- */

/* The context that is current on this thread, or the error of there being none. */
CUresult current_context(struct call *call, struct object **context);
#define NEED_CONTEXT()               \
    struct object *context = NULL;   \
    TRY(current_context(&call, &context))

/* ---- memory.c ---- */

enum place { DEVICE, PINNED, MANAGED, REGISTERED };
struct allocation {
    uint64_t base;
    size_t size;
    enum place place;
    bool alive;
    unsigned flags;
    struct object *context;
    void *map; /* NULL if registered: the memory is the caller's */
    size_t map_size;
};
struct allocation *allocation_at(uint64_t address); /* live, else freed, else NULL */
CUresult check_device(struct call *call, const char *what, uint64_t address, size_t size);
CUresult check_host(struct call *call, const char *what, const void *address, size_t size);
bool is_pageable(const void *address);
CUresult check_margins(struct call *call, const char *writer);
void memory_drop(const struct object *context); /* NULL: all, and forget them */
void memory_describe(struct text *text);

/* ---- streams.c ---- */

struct operation {
    enum { COPY, FILL, LAUNCH, RECORD, WAIT } kind;
    uint64_t ticket;
    struct operation *next;
    /* COPY and FILL: rows of `width` bytes */
    char *target;
    const char *source;
    void *staged; /* owned copy of a pageable source */
    size_t width, height, target_pitch, source_pitch;
    uint32_t value;
    int value_size;
    /* RECORD and WAIT: `object` is the event; WAIT waits for `until` on `stream` */
    struct object *object, *stream;
    uint64_t until;
    /* LAUNCH: `object` is the function */
    unsigned grid[3], block[3], shared;
    uint64_t stream_handle;
    void *parameters;
    size_t parameter_size;
};
struct operation *operation_new(int kind);
/* Runs it at once, or puts it in the stream's queue where running is deferred. Takes it over. */
CUresult submit(struct call *call, struct object *stream, struct operation *operation);
CUresult stream_get(struct call *call, struct object *context, CUstream handle,
                    struct object **found);
CUresult drain(struct call *call, struct object *stream, uint64_t until);
CUresult drain_context(struct call *call, struct object *context, bool non_blocking_too);
void stream_discard(struct object *stream);

/* ---- image.c ---- */

enum { PARAMETERS = 512 };
struct kernel {
    char *name;
    struct kernel *next;
    int registers, static_shared, local;
    unsigned required_block[3], max_threads; /* 0: not stated */
    size_t parameter_size;
    int parameters;
    struct {
        uint16_t offset, size;
    } parameter[PARAMETERS];
};
struct image {
    char *bytes;
    size_t size;
    bool ptx;
    int sm, ptx_version;
    struct kernel *kernels;
};
CUresult image_read(struct call *call, const void *source, struct image **image);
void image_free(struct image *image);

/* ---- launch.c ---- */

CUresult run_launch(struct call *call, struct operation *operation);
CUresult check_pointers(struct call *call, const struct kernel *kernel, const void *parameters);

/* ---- graphs.c ---- */

CUresult capture(struct call *call, struct object *stream, struct operation *operation);
CUresult refuse_captured(struct call *call, struct object *stream); /* what waits for it */
void graph_free(struct object *graph);

#endif
