"""The DALI engine: NVIDIA DALI reads, decodes, cuts and resizes image files on the CPU or a GPU (extra ``dali``)."""
