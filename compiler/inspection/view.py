"""A request to show a stage or passes, and a pass as it ran."""

from __future__ import annotations

from pathlib import Path

from compiler.support.record import record


@record
class View:
    """A request: a stage, whole or in part.

    `stage` is one of `ast graph step gradient grad fixed fused schedule kernels tiles loops llvm asm`.
    `format` is `text`, `json`, `dot`, `graphml` or `svg`, and `mode` is `train` or `infer`. `line` and `node` keep only
    what came from a line of the file, or from a path such as `encoder.0`. `print_after` names passes, or is `all`;
    `stop_after` is one pass.
    """

    path: str | Path
    line: int | None = None
    stage: str = "graph"
    mode: str = "train"
    node: str | None = None
    format: str = "text"
    experiment: str | None = None
    overrides: tuple[tuple[str, str], ...] = ()
    within: Path | None = None  # where imported files lie; None for the folder of `path`
    print_after: tuple[str, ...] = ()
    stop_after: str | None = None
    sampler: str | None = None  # the `sample` that is shown instead of a step or a prediction
    depth: int | None = None  # how many levels a picture shows; by default 1, and of a part no levels


@record
class PassRun:
    """A pass that ran: its name, with a number from its second time on, how long it took, and the nodes of the graph.

    `text` is the graph behind it, where that was asked for.
    """

    name: str
    seconds: float
    nodes_before: int
    nodes: int
    text: str | None
