// Times every kernel that serves a layer of a network: layers [--branches 1|2] [--levels N] [--rounds N] [--check]
// [--microseconds N] shapes.txt ...
//
// A kernel's output is compared with the reference first. The kernels of a layer run in turns; a round's time is the
// shortest of its runs, of 500 or as many microseconds; printed are the median and the 10th and 90th percentile of the
// rounds, the multiply-adds per nanosecond, and their share of what the best kernel reaches on a large product in the
// same run. The kernel that the delegate would take is marked. --check reads all files, and compares and times, once,
// layers that are small.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>
#include <string>

#include "bench/shapes.h"
#include "tests/one_node.h"

namespace dbq {
namespace {

struct Flags {
  int branches = 1, levels = 0, rounds = 31, microseconds = 500;
  bool check = false;
  std::vector<const char*> files;
};

constexpr int64_t kSmall = 1000000;  // multiply-adds of a layer that --check runs

// A layer with one kernel, ready to run.
struct Runner {
  const char* kernel;
  bool chosen;
  std::unique_ptr<Plan> plan;
  std::vector<double> microseconds;  // of every round

  // The kernel's own step, without what turns int8 codes into uint8 and back.
  double Shortest() const {
    const std::string text = plan->ProfileText(), tabs = std::string("\t") + kernel + "\t";
    const size_t start = text.rfind('\n', text.find(tabs)) + 1;
    return std::atof(text.c_str() + start);
  }
};

class Layer {
 public:
  Layer(const NamedShape& named, const Flags& flags) : named_(named), flags_(flags) {
    testing::Random random(1);
    const LayerShape& s = named.shape;
    file_ = testing::MakeLayer(s, &random);
    x_ = testing::MakeInput(s.image.Pixels() * s.image.channels, &random);
    const auto size = [&](int n) { return static_cast<int>(CeilDiv(n, s.stride_h)); };
    output_ = {1, size(s.image.height), size(s.image.width), s.out_channels};
    y_.resize(output_.Pixels() * output_.channels);
  }

  // False when a kernel's output is not the reference's.
  bool Run() {
    MakeRunners();
    if (!Compare()) return false;
    for (int round = 0; round < flags_.rounds; ++round) {
      for (Runner& runner : runners_) RunRound(&runner);
    }
    return true;
  }

  double Best() const {
    double best = 0;
    for (const Runner& r : runners_) best = std::max(best, Rate(Percentile(r, 0.5)));
    return best;
  }

  void Print(double peak) const {
    for (const Runner& r : runners_) {
      const double median = Percentile(r, 0.5), rate = Rate(median);
      std::printf("%-34s %c %-32s %9.2f %9.2f %9.2f %8.1f %6.2f\n", named_.text.c_str(), r.chosen ? '*' : ' ', r.kernel,
                  median, Percentile(r, 0.1), Percentile(r, 0.9), rate, rate / peak);
    }
  }

 private:
  using LayerShape = testing::LayerShape;

  double Rate(double microseconds) const {
    return static_cast<double>(named_.MultiplyAdds()) / std::max(microseconds, 1e-3) / 1000;
  }

  static double Percentile(const Runner& runner, double part) {
    std::vector<double> times = runner.microseconds;
    std::sort(times.begin(), times.end());
    return times[static_cast<size_t>(part * static_cast<double>(times.size() - 1) + 0.5)];
  }

  // Null: the kernel that selection takes.
  template <typename Kernel>
  void AddRunner(const Kernel* kernel, const Kernel* PackedLayer::*member, const char* chosen) {
    Graph graph = testing::MakeGraph(named_.shape, file_);
    graph.nodes.back().packed = std::make_shared<PackedLayer>();
    *graph.nodes.back().packed.*member = kernel;
    Runner runner{kernel->name, std::strcmp(kernel->name, chosen) == 0, nullptr, {}};
    const Status status = Compile(&graph, DetectFeatures(), 1, &runner.plan);
    if (status.ok()) runners_.push_back(std::move(runner));
  }

  const PackedLayer& Chosen() {
    chosen_ = testing::MakeGraph(named_.shape, file_);
    std::unique_ptr<Plan> plan;
    DBQ_EXPECT_OK(Compile(&chosen_, DetectFeatures(), 1, &plan));
    return *chosen_.nodes.back().packed;
  }

  void MakeRunners() {
    const PackedLayer& chosen = Chosen();
    const LayerShape& s = named_.shape;
    if (s.kind == OpKind::kDepthwiseConv2D) {
      const DepthwiseShape shape{s.kernel_h, s.kernel_w, s.stride_h, s.stride_w, 1, 1, s.out_channels};
      for (const DepthwiseKernel* kernel : DepthwiseKernels()) {
        if (!Has(DetectFeatures(), kernel->needs) || kernel->cost(shape) <= 0) continue;
        AddRunner(kernel, &PackedLayer::depthwise_kernel, chosen.depthwise_kernel->name);
      }
      return;
    }
    for (const GemmKernel* kernel : GemmKernels()) {
      if (!Has(DetectFeatures(), kernel->needs) || kernel->cost(chosen.gemms[0].shape) <= 0) continue;
      AddRunner(kernel, &PackedLayer::gemm_kernel, chosen.gemm_kernel->name);
    }
  }

  bool Compare() {
    const std::vector<int8_t> expected = testing::RunReference(named_.shape, file_, output_, x_);
    for (Runner& runner : runners_) {
      y_.assign(y_.size(), 0x55);
      Invoke(&runner);
      if (y_ == expected) continue;
      std::fprintf(stderr, "layers: %s: %s differs from the reference\n", named_.text.c_str(), runner.kernel);
      return false;
    }
    return true;
  }

  void Invoke(Runner* runner) {
    const void* inputs[] = {x_.data()};
    void* outputs[] = {y_.data()};
    runner->plan->Run(inputs, outputs, nullptr);
  }

  void RunRound(Runner* runner) {
    runner->plan->StartProfile();
    Invoke(runner);
    const double first = runner->Shortest();
    for (double spent = first; spent < flags_.microseconds && !flags_.check; spent += first) Invoke(runner);
    runner->microseconds.push_back(runner->Shortest());
  }

  NamedShape named_;
  Flags flags_;
  testing::FileLayer file_;
  ImageShape output_{};
  std::vector<int8_t> x_, y_;
  Graph chosen_;
  std::vector<Runner> runners_;
};

// Multiply-adds in a nanosecond of the best kernel, from the second-level cache.
double MeasurePeak(const Flags& flags) {
  std::vector<NamedShape> shapes;
  DBQ_EXPECT_OK(ParseShape("conv 24 16 1024 256 1 1", flags.branches, &shapes));
  Layer layer(shapes[0], flags);
  return layer.Run() ? layer.Best() : 0;
}

bool RunFile(const char* path, const Flags& flags, double peak) {
  std::vector<NamedShape> shapes;
  const Status status = ReadShapes(path, flags.branches, &shapes);
  if (!status.ok()) return std::fprintf(stderr, "layers: %s\n", status.message()), false;
  std::printf("%s, %d branch(es), peak %.0f GMAC/s\n", path, flags.branches, peak);
  std::printf("%-34s   %-32s %9s %9s %9s %8s %6s\n", "kind height width in out kernel stride", "kernel", "median us",
              "p10", "p90", "GMAC/s", "peak");
  std::set<std::string> known;  // of layers that are alike one is timed
  for (NamedShape& shape : shapes) {
    if (shape.shape.kind != OpKind::kDepthwiseConv2D) shape.shape.levels = flags.levels;
    if (!known.insert(shape.text).second || (flags.check && shape.MultiplyAdds() > kSmall)) continue;
    Layer layer(shape, flags);
    if (!layer.Run()) return false;
    layer.Print(peak);
  }
  return true;
}

bool ParseFlags(int argc, char** argv, Flags* flags) {
  for (int i = 1; i < argc; ++i) {
    const bool more = i + 1 < argc;
    if (std::strcmp(argv[i], "--check") == 0) {
      flags->check = true, flags->rounds = 1;
    } else if (more && std::strcmp(argv[i], "--branches") == 0) {
      flags->branches = std::atoi(argv[++i]);
    } else if (more && std::strcmp(argv[i], "--levels") == 0) {
      flags->levels = std::atoi(argv[++i]);
    } else if (more && std::strcmp(argv[i], "--rounds") == 0) {
      flags->rounds = std::atoi(argv[++i]);
    } else if (more && std::strcmp(argv[i], "--microseconds") == 0) {
      flags->microseconds = std::atoi(argv[++i]);
    } else {
      flags->files.push_back(argv[i]);
    }
  }
  return !flags->files.empty() && flags->rounds > 0 && (flags->branches == 1 || flags->branches == 2) &&
         flags->levels >= 0 && flags->levels <= kMostThresholds;
}

int Main(int argc, char** argv) {
  Flags flags;
  if (!ParseFlags(argc, argv, &flags)) {
    return std::fprintf(
               stderr,
               "layers: expected [--branches 1|2] [--levels N] [--rounds N] [--check] [--microseconds N] shapes.txt "
               "...\n"),
           2;
  }
  const double peak = flags.check ? 1 : MeasurePeak(flags);
  const bool ok =
      std::all_of(flags.files.begin(), flags.files.end(), [&](const char* path) { return RunFile(path, flags, peak); });
  return ok ? 0 : 1;
}

}  // namespace
}  // namespace dbq

int main(int argc, char** argv) { return dbq::Main(argc, argv); }
