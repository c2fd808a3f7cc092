// The walk of a product by tables over chunks, panels and pixels, for the file of one instruction set
// (avx2_table_gemm.cc, neon_table_gemm.cc). It is included behind that file's TableIndex, BuildTables, AddRows,
// KeepPanel and StorePanel.
#ifndef DBQ_ISA_TABLE_RUN_H_
#define DBQ_ISA_TABLE_RUN_H_

namespace dbq {
namespace {

// Adds a block of groups to the sums of a panel, in all of its planes.
void AddBlock(const PackedGemm& gemm, int64_t index, int64_t group, int64_t count, const Scratch& scratch) {
  const Panel& panel = gemm.panels[index];
  const int64_t octets = Octets(panel), planes = Planes(gemm.shape);
  const int8_t* rows = gemm.weights.data() + panel.weights_offset + group * octets * kIndexBytes;
  int16_t* sums = scratch.sums + index * planes * kPanelChannels * kTablePixels;
  for (int64_t plane = 0; plane < planes; ++plane) {
    AddRows(reinterpret_cast<const TableIndex*>(rows), octets, RoundUp(count, kUnroll), scratch.tables, sums,
            group % kChunkGroups == 0);
    rows += octets * StoredGroups(gemm.shape) * kIndexBytes, sums += kPanelChannels * kTablePixels;
  }
}

// Sums of a chunk, for all panels of the task. Codes of the patch are read once, from front to back.
void RunChunk(const GemmTask& task, const Pixels& pixels, int64_t chunk, const Scratch& scratch, Position* position) {
  const int64_t groups = Groups(task.gemm->shape), end = (chunk + 1) * kChunkGroups;
  const int64_t last = end < groups ? end : groups;
  for (int64_t group = chunk * kChunkGroups; group < last; group += kBlockGroups) {
    const int64_t count = GroupsOfBlock(groups, group / kBlockGroups);
    BuildTables(task, pixels, count, position, scratch.tables);
    for (int64_t i = task.first_panel; i < task.last_panel; ++i) AddBlock(*task.gemm, i, group, count, scratch);
  }
}

template <bool first, int planes>
void FinishChunk(const GemmTask& task, int64_t chunk, int64_t pixel, const Scratch& scratch) {
  const PackedGemm& gemm = *task.gemm;
  const bool last = chunk + 1 == Chunks(gemm.shape);
  for (int64_t i = task.first_panel; i < task.last_panel; ++i) {
    const Lanes lanes = LanesOf(gemm, i, chunk, scratch);
    if (last) {
      StorePanel<first, planes>(task, lanes, gemm.panels[i], pixel);
    } else {
      KeepPanel<first, planes>(lanes, gemm.panels[i].channels);
    }
  }
}

template <int planes>
void RunPixels(const GemmTask& task, int64_t pixel, const Scratch& scratch) {
  Pixels pixels;
  for (int64_t i = 0; i < kTablePixels; ++i) {
    pixels.x[i] = task.x + task.x_offset[pixel + i < task.count ? pixel + i : task.count - 1];
  }
  Position position;
  const int64_t chunks = Chunks(task.gemm->shape);
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    RunChunk(task, pixels, chunk, scratch, &position);
    chunk == 0 ? FinishChunk<true, planes>(task, chunk, pixel, scratch)
               : FinishChunk<false, planes>(task, chunk, pixel, scratch);
  }
}

void RunTable(const GemmTask& task) {
  const Scratch scratch = Cut(task.gemm->shape, task.scratch);
  const bool two = Planes(task.gemm->shape) == 2;
  for (int64_t pixel = 0; pixel < task.count; pixel += kTablePixels) {
    two ? RunPixels<2>(task, pixel, scratch) : RunPixels<1>(task, pixel, scratch);
  }
}

}  // namespace
}  // namespace dbq

#endif  // DBQ_ISA_TABLE_RUN_H_
