"""The numbers that decide bits: the version of the numerics, and those by which sums are ordered (docs/numerics.md).

A program, its settings, its data and its seed decide its bits, whatever the machine: so none of these is tuned.
"""

NUMERICS = 3
"""Raised by each change after which some program may give other bits; docs/numerics.md lists the changes.

Runs keep it, so that a command that promises the same bits knows whether it can. 0 stands for runs that kept none.
"""
LANES = 16
"""Elements of every vector, whatever their type and the machine: LLVM splits it where registers are shorter.

As many sums run side by side along a row, so this decides their order.
"""
LONG_SUM_COLUMNS = 256  # of a row, from which the vectors of its sum go into several chains
CHAINS = 4  # of such a sum, and of a sum over the rows of a column: they hide each other's latency
# Sums over the elements of a tensor (`fix_numerics`)
LONG_STRETCH = 2**22  # elements from which a sum is cut between axes: few accumulators lose small numbers beside them
LONG_ROW = 16  # elements of a row of the batch from which moments are taken row by row
PAIR_BLOCK = 128  # rows of the batch whose pairs with a row are summed by themselves (`lay_out_pairs`)
# Sums of products by column (`ProductSum`)
FEWEST_SUMS = 4  # with one factor in common, from which their chains hide each other's latency
FEWEST_COLUMNS = 16  # of each
MOST_IN_STRIPS = 9  # sums with one factor in common; of more, a strip reads too many elements to keep them near
STRIP = 4  # lines of an image
# Products whose sum is split (`SplitContraction`)
LONG_SUM = 64  # summed elements for each row of the batch from which it is
FEW_RESULTS = 8  # splits from which this pays for every product, not only for views
SPLITS = ((1 << 13, 16), (1 << 14, 8), (1 << 16, 4), (1 << 20, 2))  # elements of the result, and the splits up to there
# Products of which a causal mask leaves a triangle (`OrderedContraction`)
FEWEST_ORDERED = 32  # indices from which leaving out pays for the tests and the rest of a tile
# Convolutions (`unroll_taps`, `pixels_in_lanes`)
MOST_TAPS = 64  # beyond, a loop over the taps is shorter than what it would be unrolled to
MOST_CHANNELS = 8  # of a result whose vectors run along the pixels of a line
FEWEST_IN_LANES = 6  # vectors of pixels, times channels: fewer sums would wait for each other
FEWEST_SUMMED = 16  # channels of the image from which turning it costs little beside the product
EVEN = 1.25  # times as many lanes as pixels, at most
