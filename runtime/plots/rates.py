"""The plot of a range test of the learning rate, and that of a schedule."""

# Keyword arguments have no types in matplotlib's stubs.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from runtime.analysis.rate_range import RateRange
from runtime.analysis.rate_schedule import RateSchedule
from runtime.plots.figure import Axes, Figure, new_axes, new_figure


def range_figure(found: RateRange, schedule: RateSchedule | None) -> Figure:
    """Loss over rate, with what was found marked, and below it the schedule as it is now."""
    rows = 1 if schedule is None else 2
    figure = new_figure(height=4.2 * rows)
    if schedule is not None:
        _draw_schedule(new_axes(figure, "Schedule of the training", "step", schedule.setting, 1, rows), schedule)
    axes = new_axes(figure, "Learning-rate range test", found.setting, "loss", 0, rows)
    axes.set_xscale("log")
    axes.plot(found.rates, found.losses, color="0.75", linewidth=0.8, label="loss")
    axes.plot(found.rates, found.smoothed, color="tab:blue", label="smoothed")
    # The loss after the divergence would flatten all that came before.
    finite = [loss for loss in found.smoothed if loss == loss]
    if finite:
        low, high = min(finite), finite[0]
        axes.set_ylim(low - 0.1 * abs(high - low), high + 0.6 * abs(high - low) + 1e-12)
    for rate, what, colour in (
        (found.steepest, "steepest descent", "tab:orange"),
        (found.divergence, "divergence", "tab:red"),
        (found.suggestion, "suggestion", "tab:green"),
    ):
        if rate is not None:
            axes.axvline(rate, color=colour, linestyle="--", label=f"{what} {rate:.2g}")
    axes.legend(fontsize="small")
    return figure


def schedule_figure(found: RateSchedule) -> Figure:
    """Rate over steps, with the epochs on a second scale."""
    figure = new_figure()
    _draw_schedule(new_axes(figure, "Learning-rate schedule", "step", found.setting), found)
    return figure


def _draw_schedule(axes: Axes, found: RateSchedule) -> None:
    axes.plot(found.steps, found.rates, color="tab:blue")
    axes.set_ylim(bottom=0)
    epochs = axes.twiny()
    epochs.set_xlim(*(step / found.steps_per_epoch for step in axes.get_xlim()))
    epochs.set_xlabel("epoch")
