// The delegate through its C entry points, on sound and on damaged graphs.
#include <functional>
#include <thread>
#include <vector>

#include "core/reference.h"
#include "isa/features.h"
#include "tests/fake_runtime.h"
#include "tests/random_layer.h"
#include "tests/testing.h"

namespace dbq {
namespace {

using testing::FakeRuntime;
using testing::FileLayer;
using testing::LayerShape;
using testing::Random;

std::string created_error;

tflite::Delegate* Create(const std::vector<const char*>& keys, const std::vector<const char*>& values) {
  created_error.clear();
  return tflite_plugin_create_delegate(keys.data(), values.data(), keys.size(),
                                       [](const char* message) { created_error = message; });
}

// A graph of one packed operator, open to damage until Load.
struct Graph {
  explicit Graph(const LayerShape& s, uint64_t stream = 1) : shape(s) {
    Random random(stream);
    file = testing::MakeLayer(s, &random);
    x = testing::MakeInput(s.image.Pixels() * s.image.channels, &random);
    x_shape = {s.image.batch, s.image.height, s.image.width, s.image.channels};
  }

  void Build() {
    input = runtime.AddTensor(tflite::kInt8, x_shape, x.data(), x.size(), false);
    std::vector<int> inputs = {input,
                               Constant(tflite::kUInt8, {Size(file.codes)}, &file.codes),
                               Constant(tflite::kUInt8, {file.rows, file.columns}, &file.branch_scales),
                               Constant(tflite::kFloat32, {Size(file.scales)}, &file.scales),
                               Constant(tflite::kInt32, {Size(file.bias)}, &file.bias),
                               Constant(tflite::kInt32, {Size(file.params)}, &file.params)};
    if (file.levels > 0) inputs.push_back(Constant(tflite::kInt32, {file.levels, file.columns}, &file.thresholds));
    output = runtime.AddTensor(tflite::kInt8, {}, nullptr, 0, false);
    runtime.tensor(input)->params = {file.scales[0], shape.input_zero_point};
    // The grid of codes that count is nobody's business.
    if (file.levels == 0) runtime.tensor(output)->params = {file.scales[1], shape.output_zero_point};
    runtime.AddCustomNode(OpName(shape.kind), inputs, {output});
  }

  // What went wrong, or "" when delegate, prepare and invoke all worked.
  std::string Load() {
    tflite::Delegate* delegate = Create({}, {});
    const bool ok = runtime.Delegate(delegate) && runtime.Prepare() && runtime.Invoke();
    DBQ_EXPECT(runtime.delegated());
    DBQ_EXPECT(ok == runtime.error().empty());
    delegates.emplace_back(delegate, tflite_plugin_destroy_delegate);
    return runtime.error();
  }

  template <typename T>
  static int Size(const std::vector<T>& values) {
    return static_cast<int>(values.size());
  }

  template <typename T>
  int Constant(tflite::Type type, const std::vector<int>& dims, std::vector<T>* values) {
    return runtime.AddTensor(type, dims, values->data(), values->size() * sizeof(T), true);
  }

  LayerShape shape;
  FileLayer file;
  std::vector<int8_t> x;
  std::vector<int> x_shape;
  std::vector<std::unique_ptr<tflite::Delegate, void (*)(tflite::Delegate*)>> delegates;
  FakeRuntime runtime;  // destroyed before the delegates, as a real interpreter is
  int input = 0, output = 0;
};

LayerShape Conv() {
  LayerShape s;
  s.branches = 2;
  s.kernel_h = s.kernel_w = 3;
  s.in_channels = 4, s.out_channels = 5;
  s.input_zero_point = 7, s.output_zero_point = -9;
  s.image = {2, 6, 5, 4};
  return s;
}

LayerShape Counted() {
  LayerShape s = Conv();
  s.levels = 3;
  return s;
}

LayerShape FullyConnected() {
  LayerShape s;
  s.kind = OpKind::kFullyConnected;
  s.in_channels = 4, s.out_channels = 5, s.padding = Padding::kValid;
  s.image = {2, 3, 1, 4};
  return s;
}

LayerShape Depthwise() {
  LayerShape s;
  s.kind = OpKind::kDepthwiseConv2D;
  s.kernel_h = s.kernel_w = 3;
  s.in_channels = 4, s.depth_multiplier = 2, s.out_channels = 8;
  s.image = {1, 5, 5, 4};
  return s;
}

void ExpectShape(const tflite::Tensor& tensor, const std::vector<int>& shape) {
  DBQ_EXPECT_EQ(tensor.dims->size, static_cast<int>(shape.size()));
  for (int i = 0; i < tensor.dims->size && i < static_cast<int>(shape.size()); ++i) {
    DBQ_EXPECT_EQ(tensor.dims->data[i], shape[i]);
  }
}

void ExpectReference(const LayerShape& s) {
  Graph graph(s);
  graph.Build();
  DBQ_EXPECT(graph.Load().empty());
  const ImageShape out{2, 6, 5, 5};
  std::vector<int8_t> expected(out.Pixels() * out.channels);
  reference::Conv2D(graph.file.View(), graph.shape.image, graph.x.data(), out, expected.data());
  const tflite::Tensor& y = *graph.runtime.tensor(graph.output);
  ExpectShape(y, {2, 6, 5, 5});
  DBQ_EXPECT_EQ(y.bytes, expected.size());
  DBQ_EXPECT(std::memcmp(y.data, expected.data(), expected.size()) == 0);
}

DBQ_TEST(ConvolutionEqualsReference) {
  ExpectReference(Conv());
  ExpectReference(Counted());
}

DBQ_TEST(FullyConnectedShapes) {
  Graph flat(FullyConnected());
  flat.Build();
  DBQ_EXPECT(flat.Load().empty());
  ExpectShape(*flat.runtime.tensor(flat.output), {6, 5});

  Graph kept(FullyConnected());
  kept.file.params[15] = 1;
  kept.Build();
  DBQ_EXPECT(kept.Load().empty());
  ExpectShape(*kept.runtime.tensor(kept.output), {2, 3, 1, 5});
}

DBQ_TEST(ComputedInputShapeIsPlannedAtEval) {
  Graph graph(Conv());
  graph.Build();
  graph.runtime.tensor(graph.input)->allocation_type = tflite::kDynamic;
  DBQ_EXPECT(graph.Load().empty());
  DBQ_EXPECT(graph.runtime.tensor(graph.output)->allocation_type == tflite::kDynamic);
  ExpectShape(*graph.runtime.tensor(graph.output), {2, 6, 5, 5});
}

DBQ_TEST(EmptyBatch) {
  Graph graph(Conv());
  graph.x_shape[0] = 0;
  graph.x.clear();
  graph.Build();
  DBQ_EXPECT(graph.Load().empty());
  ExpectShape(*graph.runtime.tensor(graph.output), {0, 6, 5, 5});
}

DBQ_TEST(Options) {
  tflite::Delegate* delegate = Create({"isa"}, {"scalar"});
  DBQ_EXPECT(delegate != nullptr);
  DBQ_EXPECT_EQ(delegate->flags, tflite::kDelegateAllowDynamicTensors);
  tflite_plugin_destroy_delegate(delegate);
  DBQ_EXPECT(Create({"isa"}, {"mmx"}) == nullptr);
  DBQ_EXPECT(created_error.find(std::string("isa must be ") + IsaNames() + ", got 'mmx'") != std::string::npos);
  DBQ_EXPECT(Create({"speed"}, {"1"}) == nullptr);
  DBQ_EXPECT(created_error.find("unknown option 'speed', expected isa, partition, builtins or profile") !=
             std::string::npos);
  DBQ_EXPECT(Create({"partition"}, {"layer"}) == nullptr);
  DBQ_EXPECT(created_error.find("partition must be graph or op, got 'layer'") != std::string::npos);
  // The C++ runtime's wrapper gives no error callback.
  const char *key = "isa", *value = "mmx";
  DBQ_EXPECT(tflite_plugin_create_delegate(&key, &value, 1, nullptr) == nullptr);
}

DBQ_TEST(OtherCustomOperatorsAreLeftAlone) {
  FakeRuntime runtime;
  runtime.AddCustomNode("DbqConv3D", {}, {});
  tflite::Delegate* delegate = Create({}, {});
  DBQ_EXPECT(runtime.Delegate(delegate));
  DBQ_EXPECT(!runtime.delegated());
  tflite_plugin_destroy_delegate(delegate);
}

// Every damage gives an error that contains `part`.
void ExpectError(const LayerShape& s, const std::function<void(Graph*)>& damage, const std::string& part) {
  Graph graph(s);
  graph.Build();
  damage(&graph);
  const std::string error = graph.Load();
  if (error.find(part) == std::string::npos || error.find('\n') != error.size() - 1) {
    testing::Fail(__FILE__, __LINE__, "expected one line with '%s', got '%s'", part.c_str(), error.c_str());
  }
}

DBQ_TEST(TensorErrors) {
  // Tensor i + 1 of the operator is the graph's tensor i + 1; 0 is the input, 6 the output.
  auto tensor = [](int index, auto change) { return [=](Graph* g) { change(g->runtime.tensor(index)); }; };
  using T = tflite::Tensor;
  ExpectError(Conv(), tensor(1, [](T* t) { t->type = tflite::kInt8; }), "DbqConv2D 't': codes must be uint8");
  ExpectError(Conv(), tensor(2, [](T* t) { t->type = tflite::kInt32; }), "branch_scales must be uint8");
  ExpectError(Conv(), tensor(3, [](T* t) { t->type = tflite::kInt32; }), "scales must be float32");
  ExpectError(Conv(), tensor(4, [](T* t) { t->type = tflite::kFloat32; }), "bias must be int32");
  ExpectError(Conv(), tensor(5, [](T* t) { t->type = tflite::kFloat32; }), "params must be int32");
  for (int i = 1; i <= 5; ++i) {
    ExpectError(Conv(), tensor(i, [](T* t) { t->data = nullptr; }), "must be constant data");
    ExpectError(Conv(), tensor(i, [](T* t) { t->allocation_type = tflite::kDynamic; }), "must be constant data");
    ExpectError(Conv(), tensor(i, [](T* t) { t->bytes -= 1; }), "but");
    ExpectError(Conv(), tensor(i, [](T* t) { t->dims->data[0] = -1; }), "has a shape of -1 elements");
    ExpectError(Conv(), tensor(i, [](T* t) { t->dims->size = 0; }), "must have rank");
    ExpectError(Conv(), tensor(i, [](T* t) { std::free(t->dims), t->dims = nullptr; }), "must have rank");
  }
  ExpectError(Conv(), tensor(0, [](T* t) { t->type = tflite::kUInt8; }), "input must be int8");
  ExpectError(Conv(), tensor(6, [](T* t) { t->type = tflite::kUInt8; }), "output must be int8");
  ExpectError(Conv(), tensor(0, [](T* t) { t->params.scale *= 2; }), "input tensor has scale");
  ExpectError(Conv(), tensor(0, [](T* t) { t->params.zero_point += 1; }), "input tensor has scale");
  ExpectError(Conv(), tensor(6, [](T* t) { t->params.scale *= 2; }), "output tensor has scale");
  ExpectError(Conv(), tensor(0, [](T* t) { t->dims->size = 3; }), "input must have rank 4 (NHWC), got rank 3");
  ExpectError(Conv(), tensor(0, [](T* t) { t->dims->data[3] = 3; }), "input must have shape [N, H, W, 4]");
  ExpectError(Conv(), tensor(0, [](T* t) { t->dims->data[1] = 2147483647; }), "more than 2^31 - 1 elements");
  ExpectError(Conv(), tensor(0, [](T* t) { std::free(t->dims), t->dims = nullptr; }), "input has no shape");
  ExpectError(FullyConnected(), tensor(0, [](T* t) { t->dims->data[3] = 3; }), "divisible by 4, got 18");
  ExpectError(
      FullyConnected(), [](Graph* g) { g->file.params[15] = 1, g->runtime.tensor(0)->dims->size = 2; },
      "divisible by 4, got 6");
  ExpectError(
      FullyConnected(), [](Graph* g) { g->file.params[15] = 1, g->runtime.tensor(0)->dims->data[3] = 8; },
      "input must end in an axis of 4 (keep_num_dims), got rank 4 ending in 8");
}

std::string LoadNode(const std::vector<int>& inputs, const std::vector<int>& outputs) {
  Graph graph(Conv());
  graph.Build();
  graph.runtime.AddCustomNode("DbqConv2D", inputs, outputs);
  return graph.Load();
}

DBQ_TEST(NodeErrors) {
  DBQ_EXPECT(LoadNode({0, 1, 2, 3, 4}, {6}).find("expected 6 or 7 inputs and 1 output, got 5 and 1") !=
             std::string::npos);
  DBQ_EXPECT(LoadNode({0, 1, 2, 3, 4, 5, 5, 5}, {6}).find("got 8 and 1") != std::string::npos);
  DBQ_EXPECT(LoadNode({0, 1, 2, 3, 4, 5, 5}, {6}).find("thresholds must have rank 2") != std::string::npos);
  DBQ_EXPECT(LoadNode({0, 1, 2, 3, 4, 5, 99}, {6}).find("thresholds is missing") != std::string::npos);
  DBQ_EXPECT(LoadNode({0, 1, 2, 3, 4, 5}, {}).find("got 6 and 0") != std::string::npos);
  DBQ_EXPECT(LoadNode({}, {}).find("got 0 and 0") != std::string::npos);
  DBQ_EXPECT(LoadNode({-1, 1, 2, 3, 4, 5}, {6}).find("input is missing") != std::string::npos);
  DBQ_EXPECT(LoadNode({0, 99, 2, 3, 4, 5}, {6}).find("codes is missing") != std::string::npos);
  DBQ_EXPECT(LoadNode({0, 1, 2, 3, -1, 5}, {6}).find("bias is missing") != std::string::npos);
  DBQ_EXPECT(LoadNode({0, 1, 2, 3, 4, 5}, {0}).find("output must not be one of the inputs") != std::string::npos);
  DBQ_EXPECT(LoadNode({0, 1, 2, 3, 4, 5}, {99}).find("output is missing") != std::string::npos);
}

// One delegate, two interpreters of two threads each, run at the same time.
DBQ_TEST(InterpretersShareADelegate) {
  LayerShape s = Conv();
  s.in_channels = s.out_channels = 64;
  s.image = {1, 24, 24, 64};
  Graph alone(s), first(s), second(s);
  alone.Build();
  DBQ_EXPECT(alone.Load().empty());
  // Scalar kernels are slow enough that this layer is worth two threads.
  tflite::Delegate* delegate = Create({"isa"}, {"scalar"});
  for (Graph* graph : {&first, &second}) {
    graph->Build();
    graph->runtime.SetThreads(2);
    DBQ_EXPECT(graph->runtime.Delegate(delegate) && graph->runtime.Prepare());
  }
  const auto invoke = [](Graph* graph) {
    for (int i = 0; i < 20; ++i) DBQ_EXPECT(graph->runtime.Invoke());
  };
  std::thread other(invoke, &second);
  invoke(&first);
  other.join();
  const tflite::Tensor& expected = *alone.runtime.tensor(alone.output);
  for (Graph* graph : {&first, &second}) {
    const tflite::Tensor& y = *graph->runtime.tensor(graph->output);
    DBQ_EXPECT(std::memcmp(y.data, expected.data, expected.bytes) == 0);
  }
  first.delegates.emplace_back(delegate, tflite_plugin_destroy_delegate);
}

// Memory that shrank between Prepare and Eval is noticed.
DBQ_TEST(EvalChecksMemory) {
  Graph graph(Conv());
  graph.Build();
  DBQ_EXPECT(graph.Load().empty());
  graph.runtime.tensor(graph.input)->bytes -= 1;
  DBQ_EXPECT(!graph.runtime.Invoke());
  DBQ_EXPECT(graph.runtime.error().find("must have 240 bytes, got 239") != std::string::npos);
  graph.runtime.tensor(graph.input)->bytes += 1;
  graph.runtime.tensor(graph.input)->data = nullptr;
  DBQ_EXPECT(!graph.runtime.Invoke());
  DBQ_EXPECT(graph.runtime.error().find("has no memory") != std::string::npos);
}

// Random damage to the constants and shapes: any result is fine but a crash (run this under the sanitizers).
void Damage(Graph* graph, Random* random) {
  FileLayer& f = graph->file;
  static const int kValues[] = {0, 1, -1, 2, 127, -128, 255, 65535, 66312, 2147483647, -2147483647 - 1};
  const int value = random->Int(0, 3) == 0 ? random->Int(-3, 10) : kValues[random->Int(0, 10)];
  switch (random->Int(0, f.levels > 0 ? 10 : 8)) {
    case 9:
      f.thresholds[random->Int(0, Graph::Size(f.thresholds) - 1)] = value;
      break;
    case 10:
      f.levels = random->Int(1, 20);
      f.thresholds.resize(f.levels * f.columns);
      break;
    case 0:
    case 1:
    case 2:
      f.params[random->Int(0, Graph::Size(f.params) - 1)] = value;
      break;
    case 3:
      f.codes[random->Int(0, Graph::Size(f.codes) - 1)] = static_cast<uint8_t>(random->Int(0, 255));
      break;
    case 4:
      f.branch_scales[random->Int(0, Graph::Size(f.branch_scales) - 1)] = static_cast<uint8_t>(random->Int(0, 255));
      break;
    case 5:
      std::memcpy(&f.scales[random->Int(0, Graph::Size(f.scales) - 1)], &value, sizeof(value));
      break;
    case 6:
      f.bias[random->Int(0, Graph::Size(f.bias) - 1)] = value;
      break;
    case 7:
      f.codes.resize(random->Int(1, 2 * Graph::Size(f.codes)));
      break;
    default:
      f.scales.resize(random->Int(2, 2 * Graph::Size(f.scales)), 1.0f);
  }
}

DBQ_TEST(RandomDamageNeverCrashes) {
  int errors = 0;
  constexpr int kTries = 6000;
  for (uint64_t i = 0; i < kTries; ++i) {
    Random random(i + 5000);
    const LayerShape shapes[] = {Conv(), FullyConnected(), Depthwise(), Counted()};
    Graph graph(shapes[random.Int(0, 3)], i);
    for (int n = random.Int(1, 3); n > 0; --n) Damage(&graph, &random);
    graph.Build();
    errors += !graph.Load().empty();
  }
  DBQ_EXPECT(errors > kTries / 2);  // the damage is real
  DBQ_EXPECT(errors < kTries);      // and harmless damage still runs
}

}  // namespace
}  // namespace dbq
