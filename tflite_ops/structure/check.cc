#include "structure/check.h"

#include <vector>

#include "structure/graph.h"

namespace dbq {
namespace structure {
namespace {

constexpr uint32_t kVersion = 3;

bool HasIdentifier(const Reader& reader) {
  constexpr char kIdentifier[] = {'T', 'F', 'L', '3'};
  uint32_t expected;
  std::memcpy(&expected, kIdentifier, sizeof(expected));
  return reader.size() >= 8 && reader.Load<uint32_t>(4) == expected;
}

bool ReadRules(Reader* reader, const Span& codes, std::vector<const Rule*>* rules) {
  for (int64_t i = 0; i < codes.count; ++i) {
    Table table;  // code of old files, custom code, version, code
    if (!reader->Follow(codes, i, "btii", &table) || reader->Number<int32_t>(table, 2, 1) < 1) return false;
    const int code = std::max<int>(reader->Number<int8_t>(table, 0, 0), reader->Number<int32_t>(table, 3, 0));
    rules->push_back(FindRule(*reader, code, table.fields[1]));
    if (rules->back() == nullptr) return false;
  }
  return true;
}

// Metadata in buffers that exist; whether one of them has the key "outputs".
bool ReadMetadata(Reader* reader, const Table& model, const std::vector<Span>& buffers, bool* names_outputs) {
  const int64_t count = static_cast<int64_t>(buffers.size());
  for (int64_t i = 0; i < model.fields[6].count; ++i) {
    Table table;  // name, buffer
    if (!reader->Follow(model.fields[6], i, "tI", &table)) return false;
    const int64_t buffer = reader->Number<uint32_t>(table, 1, 0);
    if (buffer >= count) return false;
    *names_outputs = *names_outputs || reader->Contains(buffers[buffer], "\"outputs\"");
  }
  for (int64_t i = 0; i < model.fields[5].count; ++i) {
    const int32_t buffer = reader->Element<int32_t>(model.fields[5], i);
    if (buffer < 0 || buffer >= count) return false;
  }
  return true;
}

// The names of a signature stand for tensors that exist.
bool CheckNames(Reader* reader, const Span& names, int64_t tensors) {
  for (int64_t i = 0; i < names.count; ++i) {
    Table table;  // name, tensor
    if (!reader->Follow(names, i, "tI", &table) || reader->Number<uint32_t>(table, 1, 0) >= tensors) return false;
  }
  return true;
}

bool CheckSignatures(Reader* reader, const Span& signatures, int64_t tensors) {
  for (int64_t i = 0; i < signatures.count; ++i) {
    Table table;  // inputs, outputs, key, subgraph
    if (!reader->Follow(signatures, i, "**t-I", &table) || reader->Number<uint32_t>(table, 4, 0) != 0) return false;
    if (!CheckNames(reader, table.fields[0], tensors) || !CheckNames(reader, table.fields[1], tensors)) return false;
  }
  return true;
}

}  // namespace

Answer LookAt(const uint8_t* data, int64_t size) {
  Reader reader(data, size);
  Table model, graph;
  // version, operator codes, subgraphs, description, buffers, their metadata, metadata, signatures, external groups and
  // buffers
  if (!HasIdentifier(reader) || !reader.Follow(0, "I**t*V**xx", &model)) return {};
  if (reader.Number<uint32_t>(model, 0, 0) != kVersion || model.fields[2].count != 1) return {};
  std::vector<Span> buffers;
  if (!ReadBuffers(&reader, model.fields[4], &buffers) || buffers.empty() || buffers[0].start >= 0) return {};
  Answer answer;
  if (!ReadMetadata(&reader, model, buffers, &answer.names_outputs)) return {};
  std::vector<const Rule*> rules;
  if (!ReadRules(&reader, model.fields[1], &rules)) return {};
  FileGraph file(&reader);
  // tensors, inputs, outputs, operators, name, debug index
  if (!reader.Follow(model.fields[2], 0, "*VV*ti", &graph) || !file.Read(graph, buffers, rules)) return {};
  answer.is_whole = file.Check() && CheckSignatures(&reader, model.fields[7], file.tensors());
  return answer;
}

}  // namespace structure
}  // namespace dbq
