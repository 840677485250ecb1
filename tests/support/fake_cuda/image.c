/* Kernel images: what a cubin or a PTX text says of its kernels.
 *
 * A cubin is an ELF file of machine 190. Its flags name the compute capability (in the lowest byte
 * up to ABI version 7, in the next from 8 on); a kernel `k` has its code in section `.text.k` and
 * its facts in `.nv.info.k`, a list of attributes. */

#define _GNU_SOURCE
#include "fake.h"

#include <ctype.h>
#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum { LARGEST = 1 << 30, EM_CUDA_MACHINE = 190, RESERVED_SHARED = 1024 };

/* Copies memory that may not be there: the caller gave no size, and a cut file is shorter than it
 * says. Returns the bytes that could be read. */
static size_t read_memory(void *target, const void *source, size_t size) {
    struct iovec to = {target, size}, from = {(void *)(uintptr_t)source, size};
    ssize_t done = process_vm_readv(getpid(), &to, 1, &from, 1, 0);
    if (done >= 0) return (size_t)done;
    if (errno == EFAULT) return 0;
    memcpy(target, source, size); /* the call is not permitted here */
    return size;
}

static struct kernel *kernel_new(struct image *image, const char *name, size_t size) {
    struct kernel *kernel = calloc(1, sizeof *kernel);
    if (!kernel || !(kernel->name = strndup(name, size))) abort();
    kernel->next = image->kernels;
    return image->kernels = kernel;
}

void image_free(struct image *image) {
    for (struct kernel *kernel = image->kernels, *next; kernel; kernel = next) {
        next = kernel->next;
        free(kernel->name);
        free(kernel);
    }
    free(image->bytes);
    free(image);
}

/* ---- cubin ---- */

#define BAD(...) return call_fail(call, CUDA_ERROR_INVALID_IMAGE, __VA_ARGS__)

static const Elf64_Shdr *section(const struct image *image, int index) {
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)image->bytes;
    return (const Elf64_Shdr *)(image->bytes + header->e_shoff) + index;
}

static const char *section_name(const struct image *image, int index) {
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)image->bytes;
    return image->bytes + section(image, header->e_shstrndx)->sh_offset +
           section(image, index)->sh_name;
}

static const Elf64_Shdr *find_section(const struct image *image, const char *prefix,
                                      const char *kernel) {
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)image->bytes;
    size_t size = strlen(prefix);
    for (int i = 1; i < header->e_shnum; i++) {
        const char *name = section_name(image, i);
        if (strncmp(name, prefix, size) == 0 && strcmp(name + size, kernel) == 0)
            return section(image, i);
    }
    return NULL;
}

static uint32_t word(const char *bytes) {
    uint32_t value;
    memcpy(&value, bytes, sizeof value);
    return value;
}

/* The attributes of an .nv.info section: format, number, and a value of 2 bytes or a size. */
struct attribute {
    int number;
    uint32_t size; /* 0: `value` holds it */
    uint16_t value;
    const char *payload;
};

static bool next_attribute(const struct image *image, const Elf64_Shdr *info, size_t *at,
                           struct attribute *attribute) {
    enum { HEADER = 4, SIZED = 4 };
    if (*at + HEADER > info->sh_size) return false;
    const char *entry = image->bytes + info->sh_offset + *at;
    attribute->number = (unsigned char)entry[1];
    memcpy(&attribute->value, entry + 2, 2);
    attribute->size = entry[0] == SIZED ? attribute->value : 0;
    attribute->payload = entry + HEADER;
    *at += HEADER + attribute->size;
    return *at <= info->sh_size;
}

static void read_kernel(struct image *image, struct kernel *kernel, uint32_t symbol) {
    enum {
        MAX_THREADS = 0x05, REQNTID = 0x10, FRAME_SIZE = 0x11, KPARAM_INFO = 0x17,
        CBANK_PARAM_SIZE = 0x19, REGCOUNT = 0x2f,
    };
    struct attribute a;
    const Elf64_Shdr *info = find_section(image, ".nv.info.", kernel->name);
    for (size_t at = 0; info && next_attribute(image, info, &at, &a);) {
        if (a.number == CBANK_PARAM_SIZE && !a.size) kernel->parameter_size = a.value;
        if (a.number == KPARAM_INFO && a.size >= 12) {
            uint16_t ordinal, offset;
            memcpy(&ordinal, a.payload + 4, 2);
            memcpy(&offset, a.payload + 6, 2);
            if (ordinal >= PARAMETERS) continue;
            kernel->parameter[ordinal].offset = offset;
            kernel->parameter[ordinal].size = (uint16_t)(word(a.payload + 8) >> 18);
            if (ordinal >= kernel->parameters) kernel->parameters = ordinal + 1;
        }
        if (a.number == REQNTID && a.size >= 12)
            for (int i = 0; i < 3; i++) kernel->required_block[i] = word(a.payload + 4 * i);
        if (a.number == MAX_THREADS && a.size >= 12)
            kernel->max_threads = word(a.payload) * word(a.payload + 4) * word(a.payload + 8);
    }
    info = find_section(image, ".nv.info", "");
    for (size_t at = 0; info && next_attribute(image, info, &at, &a);) {
        if (a.size < 8 || word(a.payload) != symbol) continue;
        if (a.number == REGCOUNT) kernel->registers = (int)word(a.payload + 4);
        if (a.number == FRAME_SIZE) kernel->local = (int)word(a.payload + 4);
    }
    const Elf64_Shdr *shared = find_section(image, ".nv.shared.", kernel->name);
    if (!shared) return;
    /* From sm_90 on the section also has what the driver keeps for itself in every block. */
    size_t reserved = find_section(image, ".nv.shared.reserved.", "0") ? RESERVED_SHARED : 0;
    kernel->static_shared = (int)(shared->sh_size > reserved ? shared->sh_size - reserved : 0);
}

/* Cubins run on later compute capabilities of the same major version, but not from or to those of
 * Tegra chips (CUDA C++ Programming Guide, "Binary Compatibility"). */
static bool cubin_runs(int sm, const struct device *device) {
    static const int tegra[] = {53, 62, 72, 87, 101, 110};
    int have = 10 * device->major + device->minor;
    for (size_t i = 0; i < sizeof tegra / sizeof *tegra; i++)
        if (sm == tegra[i] || have == tegra[i]) return sm == have;
    return sm / 10 == device->major && sm <= have;
}

static CUresult read_cubin(struct call *call, const void *source, struct image *image) {
    Elf64_Ehdr header;
    if (read_memory(&header, source, sizeof header) != sizeof header) BAD("the ELF header is cut");
    if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_machine != EM_CUDA_MACHINE)
        BAD("an ELF file of machine %d; a cubin's is %d", header.e_machine, EM_CUDA_MACHINE);
    size_t table = (size_t)header.e_shnum * sizeof(Elf64_Shdr);
    if (header.e_shentsize != sizeof(Elf64_Shdr) || header.e_shoff > LARGEST ||
        header.e_shstrndx >= header.e_shnum || header.e_shoff % 8)
        BAD("the cubin's section table is malformed");
    Elf64_Shdr *sections = malloc(table);
    if (!sections) abort();
    bool whole = read_memory(sections, (const char *)source + header.e_shoff, table) == table;
    size_t size = header.e_shoff + table;
    for (int i = 1; whole && i < header.e_shnum; i++) {
        size_t bytes = sections[i].sh_type == SHT_NOBITS ? 0 : sections[i].sh_size;
        whole = sections[i].sh_offset <= LARGEST && bytes <= LARGEST;
        if (whole && sections[i].sh_offset + bytes > size) size = sections[i].sh_offset + bytes;
    }
    free(sections);
    if (!whole) BAD("the cubin's section table is cut or malformed");
    size_t programs = header.e_phoff + (size_t)header.e_phnum * header.e_phentsize;
    if (header.e_phoff <= LARGEST && programs > size) size = programs;
    image->size = size;
    image->bytes = calloc(1, size + 1);
    if (!image->bytes) abort();
    if (read_memory(image->bytes, source, size) != size) BAD("the cubin is cut");
    const Elf64_Shdr *names = section(image, header.e_shstrndx);
    if (!names->sh_size || image->bytes[names->sh_offset + names->sh_size - 1])
        BAD("the cubin's section names are malformed");
    for (int i = 1; i < header.e_shnum; i++)
        if (section(image, i)->sh_name >= names->sh_size) BAD("a section's name is malformed");
    image->sm = (header.e_ident[EI_ABIVERSION] <= 7 ? header.e_flags : header.e_flags >> 8) & 0xff;
    for (int i = 1; i < header.e_shnum; i++) {
        const char *name = section_name(image, i);
        if (strncmp(name, ".text.", 6) != 0) continue;
        struct kernel *kernel = kernel_new(image, name + 6, strlen(name + 6));
        read_kernel(image, kernel, section(image, i)->sh_info & 0xffffff);
    }
    const struct device *device = &state.device;
    if (header.e_ident[EI_ABIVERSION] >= 8 && device->driver_version < 13000)
        return call_fail(call, CUDA_ERROR_INVALID_IMAGE,
                         "machine code of CUDA 13; this driver is of CUDA %d.%d",
                         device->driver_version / 1000, device->driver_version % 1000 / 10);
    if (!cubin_runs(image->sm, device))
        return call_fail(call, CUDA_ERROR_NO_BINARY_FOR_GPU,
                         "a cubin for sm_%d cannot run on compute capability %d.%d", image->sm,
                         device->major, device->minor);
    return CUDA_SUCCESS;
}

/* ---- PTX ---- */

/* Sizes of a parameter list's members, laid out each at its own alignment. */
static void read_parameters(struct kernel *kernel, const char *list, const char *end) {
    static const struct {
        const char *name;
        int size;
    } types[] = {{".u64", 8}, {".s64", 8}, {".b64", 8}, {".f64", 8}, {".u32", 4}, {".s32", 4},
                 {".b32", 4}, {".f32", 4}, {".u16", 2}, {".s16", 2}, {".b16", 2}, {".f16", 2},
                 {".u8", 1},  {".s8", 1},  {".b8", 1}};
    while ((list = memmem(list, (size_t)(end - list), ".param", 6))) {
        const char *stop = memchr(list, ',', (size_t)(end - list));
        if (!stop) stop = end;
        size_t length = (size_t)(stop - list), size = 0, alignment = 0, count = 1;
        const char *kind = NULL;
        for (size_t i = 0; i < sizeof types / sizeof *types && !kind; i++) {
            kind = memmem(list, length, types[i].name, strlen(types[i].name));
            if (kind && isalnum((unsigned char)kind[strlen(types[i].name)])) kind = NULL;
            if (kind) size = (size_t)types[i].size;
        }
        alignment = size;
        const char *stated = memmem(list, length, ".align", 6);
        if (stated && stated < kind) alignment = strtoul(stated + 6, NULL, 10); /* else: pointee's */
        const char *bracket = memchr(list, '[', length);
        if (bracket) count = strtoul(bracket + 1, NULL, 10);
        if (size && alignment && kernel->parameters < PARAMETERS) {
            size_t offset = (kernel->parameter_size + alignment - 1) / alignment * alignment;
            kernel->parameter[kernel->parameters].offset = (uint16_t)offset;
            kernel->parameter[kernel->parameters++].size = (uint16_t)(size * count);
            kernel->parameter_size = offset + size * count;
        }
        list = stop;
    }
}

/* What follows the first `directive`, or NULL. */
static const char *after(const char *text, const char *directive) {
    const char *found = strstr(text, directive);
    return found ? found + strlen(directive) : NULL;
}

static CUresult read_ptx(struct call *call, const char *source, struct image *image) {
    struct text text = {0};
    char page[256];
    for (bool ended = false; !ended;) {
        size_t got = 0;
        while (got < sizeof page && !ended) { /* byte by byte: the text may end anywhere */
            if (read_memory(page + got, source, 1) != 1) ended = true;
            else if (!*source) ended = true;
            else got++, source++;
        }
        text_add(&text, "%.*s", (int)got, page);
    }
    image->ptx = true;
    image->bytes = text.data;
    image->size = text.size;
    const char *version = after(text.data, ".version"), *target = after(text.data, ".target");
    int major = 0, minor = 0, sm = 0, used = 0;
    if (!version || sscanf(version, " %d.%d", &major, &minor) != 2 || !target ||
        sscanf(target, " sm_%d%n", &sm, &used) != 1 || !strstr(text.data, ".address_size 64"))
        return call_fail(call, CUDA_ERROR_INVALID_PTX,
                         "the PTX lacks .version, .target or .address_size 64");
    image->ptx_version = 10 * major + minor;
    image->sm = sm;
    const struct device *device = &state.device;
    if (image->ptx_version > device->ptx_version)
        return call_fail(call, CUDA_ERROR_UNSUPPORTED_PTX_VERSION,
                         "PTX %d.%d; this driver takes %d.%d at most", major, minor,
                         device->ptx_version / 10, device->ptx_version % 10);
    int have = 10 * device->major + device->minor;
    char suffix = target[used];
    bool fits = suffix == 'a'   ? sm == have
                : suffix == 'f' ? sm / 10 == device->major && sm <= have
                                : sm <= have;
    if (!fits)
        return call_fail(call, CUDA_ERROR_NO_BINARY_FOR_GPU,
                         "PTX for sm_%d%.1s cannot run on compute capability %d.%d", sm,
                         isalpha((unsigned char)suffix) ? &target[used] : "", device->major,
                         device->minor);
    for (const char *entry = text.data; (entry = after(entry, ".entry"));) {
        entry += strspn(entry, " \t\r\n");
        size_t size = strcspn(entry, " \t\r\n({");
        struct kernel *kernel = kernel_new(image, entry, size);
        const char *body = strchr(entry, '{'), *open = strchr(entry, '('), *close = NULL;
        if (open && (!body || open < body)) close = strchr(open, ')');
        if (close) read_parameters(kernel, open, close);
        const char *block = after(entry, ".reqntid");
        if (block && (!body || block < body)) {
            unsigned *b = kernel->required_block;
            int got = sscanf(block, " %u , %u , %u", &b[0], &b[1], &b[2]);
            for (int i = got; i < 3; i++) b[i] = 1;
        }
    }
    return CUDA_SUCCESS;
}

CUresult image_read(struct call *call, const void *source, struct image **result) {
    char start[SELFMAG] = {0};
    if (!source || read_memory(start, source, sizeof start) != sizeof start)
        BAD("no image at %p", source);
    struct image *image = calloc(1, sizeof *image);
    if (!image) abort();
    CUresult done;
    if (memcmp(start, ELFMAG, SELFMAG) == 0)
        done = read_cubin(call, source, image);
    else if (!start[0] || !strchr("./ \t\r\n", start[0]))
        done = call_fail(call, CUDA_ERROR_INVALID_IMAGE, "neither an ELF file nor PTX text");
    else
        done = read_ptx(call, source, image);
    if (done == CUDA_SUCCESS)
        *result = image;
    else
        image_free(image);
    return done;
}
