"""Runs to the data of a report, which is the first view of its page: results, curves, predictions, samples, weights."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from compiler.driver import Array
from runtime.analysis.examined.examination import Examination
from runtime.analysis.examined.samples import JudgedText, ShownRow, ShownValue
from runtime.analysis.examined.weights import Filters
from runtime.reporting.elements import scalar_heading, text_of
from runtime.reporting.run_facts import RunFacts, evaluation_json, finite_json
from runtime.reporting.units import duration, heading, value_text
from runtime.runs.directory import open_run
from runtime.runs.numerics import versions_as_cell
from runtime.support.files import JsonObject, JsonValue, finite
from runtime.support.pictures import png_bytes
from runtime.view.run_part import run_to_json
from runtime.view.values import value_to_json

_MOST_TENSORS = 400


def report_to_json(facts: RunFacts, plan: JsonObject, others: Sequence[Path]) -> JsonObject:
    """The report of a run, with the curves and settings of `others` beside its own. Raises CheckpointError."""
    runs = [facts.summary.path, *others]
    names = _names(runs)
    found = facts.examination
    weights = list(facts.weights)
    return {
        "runs": [{"name": name, **run_to_json(path)} for name, path in zip(names, runs, strict=True)],
        "different": _different(runs),
        "result": _result(facts),
        "missing": facts.missing,
        "checkpoint": facts.checkpoint,
        "evaluation": None if found is None else _evaluation(found),
        "weights": [one.to_json() for one in weights[:_MOST_TENSORS]],
        "tensors": len(weights),
        "parameters": sum(one.count for one in weights if one.role == "parameter"),
        "filters": None if facts.filters is None else _filters(facts.filters),
        "settings": _settings(facts.settings),
        "tables": [*_tables({"plan": plan}), *_tables(facts.data), *_tables({"environment": facts.environment})],
    }


def _names(runs: Sequence[Path]) -> list[str]:
    """The names of the folders, or their paths where two have the same."""
    short = [path.absolute().name for path in runs]
    return short if len(set(short)) == len(short) else [str(path) for path in runs]


def _result(facts: RunFacts) -> list[JsonValue]:
    """Names and values: first those of the best weights, then those of the run."""
    run = facts.summary
    scalars = {scalar_heading(name): value for name, value in {**run.test, **run.scalars}.items()}
    named: dict[str, JsonValue] = {
        "state": run.state,
        "began": run.created.replace("T", " ").removesuffix("+00:00"),
        "time": None if facts.seconds is None else duration(facts.seconds),
        "epochs": run.epochs,
        "steps": run.step,
        "best epoch": run.best_epoch,
        "version of the numerics": versions_as_cell(run.numerics) or None,
    }
    figures: list[JsonValue] = [[name, finite_json(value), "figure"] for name, value in scalars.items()]
    said = [[name, text_of(name, value), "fact"] for name, value in named.items() if value is not None]
    return [*figures, *said]


def _settings(settings: JsonObject) -> list[JsonValue]:
    entries = ((name, entry) for name, entry in settings.items() if isinstance(entry, Mapping))
    return [[name, _setting(entry.get("value")), text_of("", entry.get("from"))] for name, entry in entries]


def _different(runs: Sequence[Path]) -> list[JsonValue]:
    """The settings in which runs differ, with the value in each."""
    every: list[JsonObject] = []
    for path in runs:
        settings = open_run(path).read_record("settings.json").get("settings")
        every.append(settings if isinstance(settings, Mapping) else {})
    found: list[JsonValue] = []
    for name in dict.fromkeys(name for settings in every for name in settings):
        entries = [settings.get(name) for settings in every]
        values = [_setting(entry.get("value")) if isinstance(entry, Mapping) else "" for entry in entries]
        if len(set(values)) > 1:
            found.append([name, *values])
    return found


def _evaluation(found: Examination) -> JsonObject:
    said = evaluation_json(found)
    scalars = {heading(name): finite(value) for name, value in found.scalars.items()}
    averages = [
        {heading(name): finite(value) for name, value in confusion.averages().items()} for confusion in found.confusions
    ]
    errors = [{heading(name): finite(value) for name, value in fit.errors.items()} for fit in found.fits]
    samples: list[JsonValue] = [_sample(row) for row in found.samples]
    texts: list[JsonValue] = [{**text.to_json(), "perplexity": finite(text.perplexity)} for text in _shown(found.texts)]
    return {**said, "scalars": scalars, "averages": averages, "errors": errors, "samples": samples, "texts": texts}


def _shown(texts: Sequence[JudgedText]) -> Sequence[JudgedText]:
    return [text for text in texts if text.tokens]


def _sample(row: ShownRow) -> JsonObject:
    """A row with its pictures, and with what is to be read of it: name, text, and whether the model said it."""
    values = [*((value, "") for value in row.inputs), *((value, "") for value in row.targets)]
    values += [(value, ", predicted") for value in row.predictions]
    pictures: list[JsonValue] = [[value.name, _data(value.picture)] for value, _ in values if value.picture is not None]
    lines: list[JsonValue] = []
    for value, suffix in values:
        if value.picture is None or value.name not in {shown.name for shown in row.inputs}:
            lines += [[name + suffix, text] for name, text in _lines(value)]
    return {"kind": row.kind, "place": row.place, "loss": finite(row.loss), "pictures": pictures, "lines": lines}


def _lines(value: ShownValue) -> list[tuple[str, str]]:
    if not value.columns:
        return [(value.name, value.text)]
    return [*value.columns.items(), *([("", f"and {value.left_out:,} more")] if value.left_out else [])]


def _data(picture: Array) -> str:
    return f"data:image/png;base64,{base64.b64encode(png_bytes(picture)).decode()}"


def _filters(found: Filters) -> JsonObject:
    """Of three channels pictures in their colours, grey where a weight is 0; of others the mean over the channels."""
    shown: dict[str, JsonValue] = {"path": found.path, "count": found.count, "bound": finite(found.bound)}
    shown |= {"shown": len(found.images), "channels": found.images.shape[3]}
    if found.images.shape[3] == 3 and np.isfinite(found.images).all():
        scaled = np.round((0.5 + 0.5 * found.images / (found.bound or 1.0)) * 255).astype(np.uint8)
        return {**shown, "pictures": [_data(np.moveaxis(image, 2, 0)) for image in scaled]}
    return {**shown, "maps": value_to_json(found.images.mean(axis=3)[None], "")}


def _tables(record: JsonObject, title: str = "") -> list[JsonValue]:
    """Names and values of a record, and of each mapping in it. Lists of rows are left out: other views show them."""
    single = {name: value for name, value in record.items() if not isinstance(value, Mapping) and not _is_rows(value)}
    pairs: list[JsonValue] = [[_said(name), text_of(name, value)] for name, value in single.items()]
    found: list[JsonValue] = [{"title": title, "rows": pairs}] if pairs else []
    for name, value in record.items():
        if isinstance(value, Mapping):
            found += _tables(value, f"{title}, {_said(name)}" if title else _said(name))
    return found


def _said(name: str) -> str:
    return heading(name) if name.isidentifier() else name


def _is_rows(value: JsonValue) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and any(isinstance(v, Mapping) for v in value)


def _setting(value: JsonValue) -> str:
    """A value as a text of the language has it."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(map(_setting, value))}]"
    return text_of("", value) if isinstance(value, Mapping) else value_text(value)
