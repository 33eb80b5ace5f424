"""A GPU as a target: nests for the threads of blocks, as PTX, and as code of this processor that stands for it."""
