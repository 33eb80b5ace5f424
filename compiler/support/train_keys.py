"""The keys of `train` and of an `update` in it."""

KEYS = [
    *("data", "validation", "test", "oversample", "stream", "target", "loss", "metrics"),
    *("optimizer", "schedule", "epochs", "steps", "batch", "clip", "penalty", "auxiliary", "augment"),
    *("init_from", "freeze", "unfreeze", "early_stop", "plateau", "accumulate", "shards", "synchronised", "ema"),
    *("keep", "best", "restore", "precision", "seed"),
]
OF_UPDATES = ("parameters", "loss", "optimizer", "schedule", "clip", "penalty", "times", "every")
AFTER_TRAINING = ("data", "restore", "early_stop.restore", "precision")
"""The settings of the command line that decide what a trained model is: its dimensions, weights and element type."""
OF_STEPS = (("precision", "bf16"), ("precision", "tf32"))
"""Values of these that only the steps of a training follow."""
OF_PREDICTIONS = ("data", "stream")
OF_EVALUATIONS = (
    *OF_PREDICTIONS,
    "validation",
    "test",
    "target",
    "loss",
    "metrics",
    "auxiliary",
    "batch",
    "accumulate",
)
"""Keys whose settings change what `dlc predict` and `dlc eval` do: how rows are read, which, and what is measured."""
