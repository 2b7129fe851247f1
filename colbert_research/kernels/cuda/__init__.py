"""CUDA kernels: sources in C++ (`*.cu`, `*.cuh`), their compilation to cubin, and one way to launch them.

| file | what it holds |
|---|---|
| `warp.cuh` | what a kernel asks of the machine: PTX on a GPU, an emulator under g++ (tests/kernels/emulator) |
| `compile.py` | source to cubin by NVRTC, kept on disk; no GPU is needed for it |
| `launch.py` | devices: a GPU through CuPy on the caller's stream, or the emulator; both take the same call |
| `arrays.py` | pointers, types and places of NumPy, torch and CuPy arrays, without a copy |
| `instances.py` | all instances, for the tests and the notebook: add the name of your module there |
| `maxsim.cuh` | products of 32 query tokens with 8 document tokens, running maxima, documents |
| `dense.cu`, `batch.cu`, `backward.cu`, `dense.py` | MaxSim over vectors: few queries, many queries, gradients |
| `autograd.py` | the same for torch, differentiable |
| `codes.cu`, `prepare.cu`, `decoder.py`, `codes.py` | MaxSim over codes in integers; products with centroids |
| `interaction.cu`, `interaction.py` | centroid interaction in bytes |
| `select.cu`, `order.cuh`, `select.py` | the best of scores and the greatest of rows, in order, ties by place |
| `union.cu`, `union.py` | the documents in any of some inverted lists |
| `assign.cu`, `assign.py` | the nearest centroid of each vector |

Nothing is imported or compiled before it is used.
"""
