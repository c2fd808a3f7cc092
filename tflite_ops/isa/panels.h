// Weights in panels: groups of output channels whose weights a kernel reads from front to back.
#ifndef DBQ_ISA_PANELS_H_
#define DBQ_ISA_PANELS_H_

#include "isa/kernel.h"

namespace dbq {

constexpr int kPanelChannels = 64;  // room for bias and multipliers of every panel
constexpr int kVectorChannels = 16;

// Lane of channel `c` in a panel of `vectors` vectors of 16 channels: vector * 16 + lane.
using LaneOrder = int (*)(int c, int vectors);

// Cuts the channels into panels of `panel_channels` (16, 32 or 64) and at the end one of the smallest width that holds
// the rest. A panel is [segments][steps][16 * vectors lanes][depth_step], zero filled; a segment is rounded up to a
// multiple of `segment_step`, and `order` null keeps channels.
void PackPanels(const GemmWeights& weights, int depth_step, int segment_step, int panel_channels, LaneOrder order,
                PackedGemm* packed);

// Room for what is told of every channel, in lanes: bias, multiplier and thresholds.
void MakeLanes(const GemmWeights& weights, int64_t panels, PackedGemm* packed);
// Channel m, with the bias that the kernel starts from.
void SetLane(const GemmWeights& weights, int64_t m, int32_t bias, int64_t panel, int lane, PackedGemm* packed);

// [taps, channels] as they are, for kernels without a layout of their own.
void CopyDepthwise(const DepthwiseWeights& weights, PackedDepthwise* packed);

// How depthwise kernels cut a row of pixels into vectors of `bytes`. Narrow: neighbouring bytes, whatever pixels they
// belong to, so that weights repeat with the period of channels and bytes; else `bytes` channels of one pixel.
// Vectors after which the weights repeat:
int64_t RowBlocks(int64_t channels, int bytes, bool narrow);
// Channel of byte `i` of vector `block`, or -1 behind the last:
int64_t RowChannel(int64_t channels, int bytes, bool narrow, int64_t block, int i);

}  // namespace dbq

#endif  // DBQ_ISA_PANELS_H_
