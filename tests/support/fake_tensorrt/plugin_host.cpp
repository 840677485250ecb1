// What TensorRT does with a plugin that is written in Python, and nothing else: over the real
// headers and the real bindings, so that every call goes through them. It takes the place of
// libnvinfer; shim.c has the rest of what the bindings link. Says on stdout what it was told.

#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "NvInferRuntime.h"

using namespace nvinfer1;

namespace {

struct Registry final : IPluginRegistry {
    std::map<std::string, IPluginCreatorV3One *> creators;

    bool registerCreator(IPluginCreatorInterface &creator, char const *const space) noexcept override {
        auto &one = static_cast<IPluginCreatorV3One &>(creator);
        std::string const name = one.getPluginName();
        printf("%s %s::%s of %s, version %s\n", one.getInterfaceInfo().kind, space, name.c_str(),
               one.getPluginNamespace(), one.getPluginVersion());
        return creators.emplace(name, &one).second;
    }
    bool registerCreator(IPluginCreator &, char const *const) noexcept override { return false; }
    IPluginCreator *const *getPluginCreatorList(int32_t *const count) const noexcept override {
        *count = 0;
        return nullptr;
    }
    IPluginCreatorInterface *const *getAllCreators(int32_t *const count) const noexcept override {
        *count = 0;
        return nullptr;
    }
    IPluginCreator *getPluginCreator(char const *const, char const *const,
                                     char const *const) noexcept override {
        return nullptr;
    }
    IPluginCreatorInterface *getCreator(char const *const name, char const *const,
                                        char const *const) noexcept override {
        auto const found = creators.find(name);
        return found == creators.end() ? nullptr : found->second;
    }
    void setErrorRecorder(IErrorRecorder *const) noexcept override {}
    IErrorRecorder *getErrorRecorder() const noexcept override { return nullptr; }
    bool deregisterCreator(IPluginCreator const &) noexcept override { return false; }
    bool deregisterCreator(IPluginCreatorInterface const &) noexcept override { return false; }
    bool isParentSearchEnabled() const override { return true; }
    void setParentSearchEnabled(bool const) override {}
    PluginLibraryHandle loadLibrary(char const *) noexcept override { return nullptr; }
    void deregisterLibrary(PluginLibraryHandle) noexcept override {}
    IPluginResource *acquirePluginResource(char const *, IPluginResource *) noexcept override {
        return nullptr;
    }
    int32_t releasePluginResource(char const *) noexcept override { return 0; }
};

Registry registry;

struct Size final : IDimensionExpr {
    struct Value final : apiv::VDimensionExpr {
        int64_t value;
        explicit Value(int64_t of) : value(of) {}
        bool isConstant() const override { return true; }
        int64_t getConstantValue() const override { return value; }
        bool isSizeTensor() const override { return false; }
    } value;
    explicit Size(int64_t of) : value(of) { mImpl = &value; }
};

struct Sizes final : IExprBuilder {
    struct Made final : apiv::VExprBuilder {
        std::vector<std::unique_ptr<Size>> made;
        IDimensionExpr const *constant(int64_t value) override {
            made.emplace_back(new Size(value));
            return made.back().get();
        }
        IDimensionExpr const *operation(DimensionOperation operation, IDimensionExpr const &first,
                                        IDimensionExpr const &second) override {
            int64_t const a = first.getConstantValue(), b = second.getConstantValue();
            if (operation == DimensionOperation::kPROD) return constant(a * b);
            return operation == DimensionOperation::kCEIL_DIV ? constant((a + b - 1) / b) : nullptr;
        }
        IDimensionExpr const *declareSizeTensor(int32_t, IDimensionExpr const &,
                                                IDimensionExpr const &) override {
            return nullptr;
        }
    } sizes;
    Sizes() { mImpl = &sizes; }
};

PluginTensorDesc tensor(DataType type, std::vector<int64_t> const &shape) {
    PluginTensorDesc made{};
    made.type = type;
    made.format = TensorFormat::kLINEAR;
    made.dims.nbDims = static_cast<int32_t>(shape.size());
    for (size_t axis = 0; axis < shape.size(); ++axis) made.dims.d[axis] = shape[axis];
    return made;
}

// As a parser makes it of a node's attributes, and a runtime of what an engine keeps.
IPluginV3 *create(char const *node, int32_t number, TensorRTPhase phase) {
    auto *const creator = registry.creators.at(node);
    std::vector<PluginField> fields;
    for (int32_t i = 0; i < creator->getFieldNames()->nbFields; ++i) {
        fields.emplace_back(creator->getFieldNames()->fields[i].name, &number,
                            PluginFieldType::kINT32, 1);
        printf("field %s\n", fields.back().name);
    }
    PluginFieldCollection const given{static_cast<int32_t>(fields.size()), fields.data()};
    auto *const made = creator->createPlugin("layer", &given, phase);
    printf("%s\n", made ? "made" : "not made");
    return made;
}

template <typename Capability>
Capability *capability(IPluginV3 *plugin, PluginCapabilityType type) {
    return static_cast<Capability *>(plugin->getCapabilityInterface(type));
}

// Asks all that a build asks; gives what the plugin writes into an engine.
int32_t build(IPluginV3 *plugin, std::vector<PluginTensorDesc> const &tensors) {
    auto *const core = capability<IPluginV3OneCore>(plugin, PluginCapabilityType::kCORE);
    auto *const build = capability<IPluginV3OneBuild>(plugin, PluginCapabilityType::kBUILD);
    auto *const run = capability<IPluginV3OneRuntime>(plugin, PluginCapabilityType::kRUNTIME);
    printf("%s::%s, version %s, outputs %d\n", core->getPluginNamespace(), core->getPluginName(),
           core->getPluginVersion(), build->getNbOutputs());

    int32_t const inputs = static_cast<int32_t>(tensors.size()) - 1;
    std::vector<DataType> types;
    std::vector<DimsExprs> shapes(inputs);
    std::vector<DynamicPluginTensorDesc> ranges;
    Sizes sizes;
    for (auto const &one : tensors) {
        types.push_back(one.type);
        ranges.push_back({one, one.dims, one.dims, one.dims});
    }
    for (int32_t i = 0; i < inputs; ++i) {
        shapes[i].nbDims = tensors[i].dims.nbDims;
        for (int32_t axis = 0; axis < shapes[i].nbDims; ++axis) {
            shapes[i].d[axis] = sizes.constant(tensors[i].dims.d[axis]);
        }
    }
    DataType type{};
    int32_t failed = build->getOutputDataTypes(&type, 1, types.data(), inputs);
    printf("output %s", type == tensors.back().type ? "of its type," : "of another type,");
    DimsExprs shape{};
    failed |= build->getOutputShapes(shapes.data(), inputs, nullptr, 0, &shape, 1, sizes);
    for (int32_t axis = 0; axis < shape.nbDims; ++axis) {
        printf(" %d", static_cast<int>(shape.d[axis]->getConstantValue()));
    }
    printf("\nformats");
    for (int32_t place = 0; place <= inputs; ++place) {
        printf(" %d", build->supportsFormatCombination(place, ranges.data(), inputs, 1));
    }
    auto *const outputs = ranges.data() + inputs;
    failed |= build->configurePlugin(ranges.data(), inputs, outputs, 1);
    printf("\nworkspace %zu, tactics %d, failed %d\n",
           build->getWorkspaceSize(ranges.data(), inputs, outputs, 1), build->getNbTactics(), failed);
    auto const *const fields = run->getFieldsToSerialize();
    int32_t kept = -1;
    memcpy(&kept, fields->fields[0].data, sizeof kept);
    printf("keeps %d: %s, %d of type %d\n", fields->nbFields, fields->fields[0].name,
           fields->fields[0].length, static_cast<int>(fields->fields[0].type));
    return kept;
}

} // namespace

extern "C" {

IPluginRegistry *getPluginRegistry() noexcept { return &registry; }

int hostMajorVersion() { return NV_TENSORRT_MAJOR; }

// Build an engine with a node, and read and run it. `kept` gives what to read in place of what was
// written, or a negative number.
void hostPlugin(char const *node, int32_t number, int32_t kept, int64_t queries, int64_t keys,
                void *const *addresses, void *stream) {
    auto const half = DataType::kHALF;
    auto const bits = tensor(DataType::kINT32, {1, queries, (keys + 127) / 128 * 4});
    auto const rows = tensor(half, {1, 3, queries, 64});
    std::vector<PluginTensorDesc> const tensors =
        strcmp(node, "MaskBits") == 0
            ? std::vector<PluginTensorDesc>{tensor(half, {1, queries, 65}),
                                            tensor(half, {1, 65, keys}), bits}
            : std::vector<PluginTensorDesc>{rows, tensor(half, {1, 3, 64, keys}),
                                            tensor(half, {1, 3, keys, 64}), bits, rows};
    auto const inputs = static_cast<int32_t>(tensors.size()) - 1;

    auto *const parsed = create(node, number, TensorRTPhase::kBUILD);
    capability<IPluginV3OneCore>(parsed, PluginCapabilityType::kCORE);
    auto *const layer = parsed->clone();
    delete parsed;
    int32_t const written = build(layer, tensors);
    delete layer;

    auto *const read = create(node, kept < 0 ? written : kept, TensorRTPhase::kRUNTIME);
    if (read != nullptr) {
        auto *const runtime = capability<IPluginV3OneRuntime>(read, PluginCapabilityType::kRUNTIME);
        auto *const used = runtime->attachToContext(nullptr);
        auto *const run = capability<IPluginV3OneRuntime>(used, PluginCapabilityType::kRUNTIME);
        auto const *const outputs = tensors.data() + inputs;
        printf("tactic %d, shapes %d", run->setTactic(0),
               run->onShapeChange(tensors.data(), inputs, outputs, 1));
        void *const out = addresses[inputs];
        for (int32_t time = 0; time < 2; ++time) {
            printf(", run %d", run->enqueue(tensors.data(), outputs, addresses, &out, nullptr,
                                            static_cast<cudaStream_t>(stream)));
        }
        printf("\n");
        delete used;
        delete read;
    }
    fflush(stdout);
}

} // extern "C"
