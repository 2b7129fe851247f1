"""CUDA kernels: sources in C++ (`*.cu`, `*.cuh`), their compilation to cubin, and one way to launch them.

| file | what it holds |
|---|---|
| `warp.cuh` | what a kernel asks of the machine: PTX on a GPU, an emulator under g++ (tests/kernels/emulator) |
| `compile.py` | source to cubin by NVRTC, kept on disk; no GPU is needed for it |
| `launch.py` | devices: a GPU through CuPy on the caller's stream, or the emulator; both take the same call |
| `arrays.py` | pointers, types and devices of NumPy, torch and CuPy arrays, without a copy |
| `kept.py` | copies on a device that outlive a call, and the streams that use them |
| `transfer.py` | pinned memory, and copies to a device while it computes |
| `instances.py` | all instances, for the tests and the notebook: add the name of your module there |
| `maxsim.cuh` | products of 32 query tokens with 8 document tokens, running maxima, documents |
| `dense.cu`, `batch.cu`, `backward.cu`, `dense.py` | MaxSim over vectors: few queries, many queries, gradients |
| `select.cuh` | radix histograms, sums over a block, a sort: what choosing the greatest is made of |
| `topk.cu`, `topk.py` | the greatest scores of each of several rows, a block a row |
| `tally.cu`, `tally.py` | the best of rows of any length, by counts that were made with the scores |
| `interaction.cu`, `interaction.py` | centroid interaction in bytes |
| `products.cu`, `products.py` | products with centroids in float32, and the nearest centroid |
| `autograd.py` | the same for torch, differentiable |

Nothing is imported or compiled before it is used.
"""
