"""What is known of the CUDA kernels: records of measurements, what the compiler says, and errors against float64."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from colbert_research import kernels
from colbert_research.kernels.cuda.launch import gpu_is_here
from colbert_research.ragged import Ragged

if TYPE_CHECKING:
    import pandas as pd

MACHINE = ("gpu", "date", "copy_gb_s", "product_tflop_s")


def gpu_records(folder: str | Path = "experiments/gpu") -> "pd.DataFrame":
    """A row for each measured case of every file `*.jsonl` below `folder`, as `experiments/benchmarks/gpu.py` writes them.

    The first line of a file is its machine; `MACHINE` of it stands in every row. A case that failed has a row that says why, in
    the column `failed`. Empty where nothing was measured yet. Raises ValueError for a file that does not begin with a machine.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for path in sorted(Path(folder).glob("*.jsonl")):
        machine, *cases = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
        if machine.get("case") != "machine":
            raise ValueError(f"{path} must begin with a line of the case 'machine'; given {machine.get('case')!r}")
        rows += [{**{name: machine[name] for name in MACHINE}, **case, "file": path.name} for case in cases]
    return pd.DataFrame(rows)


def compiled_kernels(architecture: str = "sm_90a") -> "pd.DataFrame":
    """Registers a thread, and bytes of stack and of spills, of every kernel; the compiler runs without a GPU.

    Raises ImportError where NVRTC is not installed.
    """
    import pandas as pd

    from colbert_research.kernels.cuda.instances import usage

    rows = [
        {"source": kernel.source, "kernel": kernel.name, "registers": u.registers, "stack": u.stack, "spills": u.spills}
        for kernel, u in usage(architecture).items()
    ]
    return pd.DataFrame(rows).set_index(["source", "kernel"])


def score_errors(queries: Ragged, documents: Ragged) -> "pd.DataFrame":
    """The largest and the mean distance of scores from those in float64, for each backend here and type of the vectors.

    The reference gets the same rounded vectors, so that what is told is the error of the computation, not of the type.
    """
    import pandas as pd

    rows = []
    for kind in (np.float32, np.float16):
        asked, stored = (Ragged(np.asarray(r.values, kind), r.offsets) for r in (queries, documents))
        exact = kernels.maxsim(asked, stored, backend="reference").astype(np.float64)
        for backend in [*kernels.HOST_BACKENDS, *(["cuda"] if gpu_is_here() else [])]:
            scores = kernels.maxsim(asked, stored, backend=backend).astype(np.float64)
            error = np.abs(scores[np.isfinite(exact)] - exact[np.isfinite(exact)])
            rows.append({"vectors": np.dtype(kind).name, "backend": backend, "largest": error.max(), "mean": error.mean()})
    return pd.DataFrame(rows).set_index(["vectors", "backend"])


def plot_roofline(records: "pd.DataFrame") -> Any:
    """A matplotlib figure: operations a second by operations a byte, a point for each measured case, under what was measured
    of the machine."""
    from matplotlib.figure import Figure

    measured = [*MACHINE, "case", "engine", "flop", "bytes", "tflop_s"]
    records = records.reindex(columns=measured).dropna()  # without those that failed
    figure = Figure(figsize=(8, 4.5), dpi=100, layout="constrained")
    axes = figure.subplots()
    for gpu, of_gpu in records.groupby("gpu"):
        bandwidth, product = of_gpu["copy_gb_s"].max() / 1e3, of_gpu["product_tflop_s"].max()
        ridge = np.array([1.0, product / bandwidth, 1e5])
        axes.plot(ridge, np.minimum(ridge * bandwidth, product), label=f"{gpu}, measured limits")
    for (gpu, engine), part in records.groupby(["gpu", "engine"]):
        axes.scatter(part["flop"] / part["bytes"], part["tflop_s"], label=f"{engine} on {gpu}")
        for _, row in part.iterrows():
            axes.annotate(row["case"], (row["flop"] / row["bytes"], row["tflop_s"]), fontsize=6)
    axes.set(xscale="log", yscale="log", xlabel="operations a byte of documents", ylabel="TFLOP/s")
    if len(records):
        axes.legend(fontsize=7)
    return figure
