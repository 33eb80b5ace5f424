"""Results as Markdown tables: `report.py RESULTS.json ...` prints them, `--into FILE` puts them in a page.

Several files of one kind of processor make one report, in which the rounds of the same job count together.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

from measurement import QUIET
from peers import PEERS
from pooling import Record, pooled
from probe import FULL

BEGIN, END = "<!-- results: {} -->", "<!-- end of results -->"
ANY_BEGIN = BEGIN.partition("{")[0]
TITLES = {
    "train": ("Training step, ms", "median_ms"),
    "infer1": ("Inference of one example, ms", "median_ms"),
    "infer32": ("Inference of 32 examples, ms", "median_ms"),
    "start": ("Process start to the end of the first training step, s", "first_s"),
    "memory": ("Peak memory while training, MB", "peak_rss_mb"),
}
NOTES = (
    "`dlc / best` divides by the best of the others: below 1 is better. ¹ on one thread. "
    f"~ other processes used more than {100 * QUIET:.0f} % of the machine in every round. "
    f"↓ the machine was below {100 * FULL:.0f} % of its speed before or after every round. — failed or left out."
)


def as_markdown(results: Record) -> str:
    """All tables of results that were pooled, with what they were measured on."""
    machine, plan = results["machine"], results["plan"]
    records: list[Record] = results["measurements"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    made, counted = (sum(numbers) for numbers in zip(*((len(r["rounds"]), r["counted"]) for r in records), strict=True))
    lines = [
        f"{machine['date']}, commit {machine['commit']}, {machine['processor']}, {plan['threads']} threads, "
        f"{plan['rounds']} rounds of {plan['seconds']} s, of which {counted} of {made} counted; {versions}.",
        "",
        NOTES,
    ]
    for mode, (title, figure) in TITLES.items():
        chosen = [record for record in records if record["mode"] == mode]
        if chosen:
            lines += ["", f"#### {title}", "", *_comparison(chosen, figure)]
    products = [record for record in records if record["mode"] == "gemm"]
    if products:
        lines += ["", "#### Product of square f32 matrices, fraction of the peak of fused multiply-adds", ""]
        lines += _products(products, results["full_gflops"])
    return "\n".join([*lines, *_failures(records)]) + "\n"


def _failures(records: Iterable[Record]) -> list[str]:
    """Each failure once."""
    failures = dict.fromkeys(
        f"- {record['mode']} {record['job']['model']}, {record['job']['peer']}: {outcome['error']}"
        for record in records
        for outcome in record["rounds"]
        if outcome["error"]
    )
    return ["", "Failed:", "", *failures] if failures else []


def ratio_to_best(records: Iterable[Record], figure: str) -> float | None:
    """The figure of `dlc` over the least figure of the others, each with its best number of threads."""
    best = {peer: record["figures"][figure] for peer, record in _best(records, figure).items()}
    others = [value for peer, value in best.items() if peer != "dlc"]
    return best["dlc"] / min(others) if "dlc" in best and others else None


def _best(records: Iterable[Record], figure: str) -> dict[str, Record]:
    """For each peer, the record with the least figure."""
    best: dict[str, Record] = {}
    for record in records:
        value, peer = record["figures"].get(figure), record["job"]["peer"]
        if value is not None and (peer not in best or value < best[peer]["figures"][figure]):
            best[peer] = record
    return best


def _comparison(records: list[Record], figure: str) -> list[str]:
    """One row for each model, one column for each peer."""
    peers = [peer for peer in PEERS if any(record["job"]["peer"] == peer for record in records)]
    most_threads = max(record["job"]["threads"] for record in records)
    rows: list[list[str]] = []
    for model, variant in dict.fromkeys((record["job"]["model"], record["variant"]) for record in records):
        own = [record for record in records if (record["job"]["model"], record["variant"]) == (model, variant)]
        best = _best(own, figure)
        ratio = ratio_to_best(own, figure)
        cells = [_cell(best.get(peer), figure, most_threads) for peer in peers]
        rows.append([f"{model} {variant}".strip(), *cells, "—" if ratio is None else f"{ratio:.2f}"])
    return _table(["model", *peers, "dlc / best"], rows)


def _cell(record: Record | None, figure: str, most_threads: int) -> str:
    if record is None:
        return "—"
    spread = ""
    if figure == "median_ms":
        spread = f" ({_number(record['figures']['p10_ms'])}–{_number(record['figures']['p90_ms'])})"
    marks = ("¹" if record["job"]["threads"] == 1 < most_threads else "") + ("~" if record["disturbed"] else "")
    marks += "↓" if record["slow"] else ""
    return _number(record["figures"][figure]) + marks + spread


def _products(records: list[Record], full: dict[int, float]) -> list[str]:
    """One row for each size and number of threads; the peak is the best that was seen with as many threads."""
    rates = {
        (record["job"]["peer"], int(record["job"]["model"]), record["job"]["threads"]): record for record in records
    }
    threads_tried = sorted({threads for _, _, threads in rates})
    peaks = {
        threads: max(
            full.get(threads, 0.0),
            *(r["figures"].get("gflops", 0.0) for (p, _, t), r in rates.items() if p == "peak" and t == threads),
        )
        for threads in threads_tried
    }
    rows: list[list[str]] = []
    for size in sorted({size for _, size, _ in rates}):
        for threads in threads_tried:
            ours, mkl = (_rate(rates.get((peer, size, threads)), size) for peer in ("dlc", "torch"))
            fractions = [f"{rate / peaks[threads]:.2f}" if rate and peaks[threads] else "—" for rate in (ours, mkl)]
            ratio = f"{ours / mkl:.2f}" if ours and mkl else "—"
            rows.append([f"{size}³", str(threads), f"{peaks[threads]:.0f}", *fractions, ratio])
    return _table(["size", "threads", "peak GFLOP/s", "dlc", "MKL", "dlc / MKL (rates)"], rows)


def _rate(record: Record | None, size: int) -> float | None:
    """GFLOP/s."""
    milliseconds = record["figures"].get("median_ms") if record else None
    return 2 * size**3 / milliseconds / 1e6 if milliseconds else None


def _number(value: float) -> str:
    """Three significant digits, without an exponent."""
    decimals = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3 if value >= 0.1 else 4
    return f"{value:.{decimals}f}"


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)]


def with_table(page: str, kind: str, text: str) -> str:
    """The page with the tables of that kind of processor anew; where it has none yet, behind the last of another kind.

    ValueError where the page has no place for tables, or the marks of one do not stand in pairs.
    """
    begin = BEGIN.format(kind)
    table = f"{begin}\n\n{text}\n{END}"
    before, found, rest = page.partition(begin)
    if found:
        old, end, after = rest.partition(END)
        if not end or ANY_BEGIN in old:
            raise ValueError(f"the line {begin} is not followed by {END}")
        return before + table + after
    before, end, after = page.rpartition(END)
    if not end:
        raise ValueError(f"there is no place for results: no line {END}")
    return f"{before}{end}\n\n### {kind}\n\n{table}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("--into", type=Path, help="a page, in which the table of this kind of processor is made anew")
    arguments = parser.parse_args()
    try:
        results = pooled(json.loads(path.read_text()) for path in arguments.results)
        text = as_markdown(results)
        if arguments.into:
            page = with_table(arguments.into.read_text(), results["machine"]["kind"], text)
            arguments.into.write_text(page)
        else:
            print(text, end="")
    except (OSError, ValueError) as error:
        raise SystemExit(f"report.py: {error}") from error


if __name__ == "__main__":
    main()
