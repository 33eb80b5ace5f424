"""The lines of `train` and `generate`: the meaning of each key, in a sentence."""

from __future__ import annotations

from collections.abc import Mapping

TRAIN: Mapping[str, str] = {
    "data": 'The data: `csv("data.csv")`, `parquet(…)`, `arrow(…)`, `jsonl(…)`, '
    "`npz(…)`, `npy(…)`, `idx(…)`, `cifar(…)`, `images(…)`, `lines(…)`, `text(…)` "
    "or `pairs(…)`, with their options.",
    "validation": "The rows that measure each epoch: a fraction of the data, `stratified(0.2)`, `grouped(…)`, "
    '`latest(0.2)`, `fold(1, of = 5)`, `where("year >= 2020")`, or a data source.',
    "test": "The rows that are measured once, after the training: said as for `validation`.",
    "oversample": "A column whose rarer values are met in training as often as the others.",
    "stream": "The most rows of a block: data larger than memory is read block by block, in an order of two levels.",
    "target": "`target NAME: type`: a value of the data that only loss and metrics see.",
    "loss": "The scalar that training makes smaller: an expression over outputs and targets.",
    "metrics": "A list of scalars that are measured beside the loss.",
    "optimizer": "The rule that updates parameters, or a list of rules, each `on` some of them.",
    "schedule": "The rate over time, as a factor of the optimizer's: `cosine(T = total_steps)`.",
    "epochs": "How often training goes through the data.",
    "steps": "How many updates training makes.",
    "batch": "How many rows a step takes; `all` takes the whole training part.",
    "clip": "The clipping of gradients before the update: `global_norm(1.0)`.",
    "penalty": "A term for parameters that is added to the training loss, or a list of them.",
    "auxiliary": "How much each loss counts that a layer or model states: `{balance: 0.01}`; 1 by default.",
    "augment": "`augment { … }`: changes to samples that only training makes.",
    "init_from": "A safetensors file or a run whose weights training starts from.",
    "freeze": "Patterns of parameters and states that stay as they are.",
    "unfreeze": '`after(3, "backbone.4.*")`, or a list of such: parameters that train after so many epochs.',
    "early_stop": "`patience(n)`: stop after so many epochs without a better `best`.",
    "plateau": "`reduce(factor = 0.1, patience = 10)`: lower the rates after so many epochs without a better `best`.",
    "accumulate": "An update takes so many batches, and is that of one batch of all their rows.",
    "shards": "A batch is cut into so many parts, which any number of processes compute with the same bits.",
    "synchronised": "Whether statistics are those of the batch, and not of each shard of it; false by default.",
    "ema": "How much of itself an average of each parameter keeps in a step; predictions use the averages.",
    "keep": "How many checkpoints are kept beside the best.",
    "best": "The metric by which epochs are compared; `loss` by default.",
    "restore": "Whether the weights at the end are those of the best epoch, and not the last; true by default.",
    "precision": "`f64` takes the place of f32 in the whole program; `bf16` and `tf32` round factors of products.",
    "seed": "The number that start values, shuffling, cuts and draws follow from; 0 by default.",
}
UPDATE: Mapping[str, str] = {
    "parameters": 'Patterns of the parameters that the update changes: `"critic.*"`, or a list of them.',
    "loss": "The scalar that the update makes smaller, by these parameters alone.",
    "optimizer": "The rule that changes the parameters, or a list of rules, each `on` some of them.",
    "schedule": "The rate over the steps, as a factor of the optimizer's.",
    "clip": "The clipping of the gradients of this update.",
    "penalty": "A term for its parameters that is added to its loss in training, or a list of them.",
    "times": "How often a step makes the update, each time on a batch of its own; 1 by default.",
    "every": "The update is made in each step whose number this divides; 1 by default.",
}
"""The lines of an `update` in `train`."""
GENERATE: Mapping[str, str] = {
    "start": "The text or tokens that a sequence begins with.",
    "length": "The most tokens that are generated.",
    "repetition_penalty": "Scores of tokens in the window are divided by it where positive, and multiplied elsewhere.",
    "sample": "How the next token is chosen: `greedy`, `temperature(0.8)`, `top_k(40)`, `beam(4)` …",
    "stop": "The text or token at which a sequence ends.",
}
STATEMENTS: Mapping[str, str] = {
    "param": "`param W: [n, units] = glorot_uniform`: a parameter of the layer or model, with its initialiser.",
    "state": "`state mean: [c] = zeros`: a tensor that is kept from step to step and is not trained.",
    "input": "`input x: f32[batch, 4]`: a tensor that the data gives.",
    "output": "`output y = …`: a result of the model or sample.",
    "loss": "`loss balance = …`: a scalar that is added to the training loss, and shown beside it.",
    "view": "`view a, b = image |> random_flip`: in `augment`, inputs that are drawn of one column, each anew.",
    "if": "`if condition { … } else { … }`: decided while the program is elaborated.",
    "for": "`for i in 0..n { … }`: repeated while the program is elaborated.",
    "return": "`return value`: the result of a function or layer.",
    "scan": "`scan x in xs over time carry h = h0 { … emit y }`: a recurrence over an axis, `until …` rows are done.",
    "emit": "`emit value`: the result of one step of a scan.",
    "update": '`update critic { parameters = "critic.*" … }`: some parameters of a training with a loss of their own.',
    "feed": "`feed tokens from logits`: the token chosen from an output extends an input.",
}
DECLARATIONS: Mapping[str, str] = {
    "const": "`const name = value`: a number or list known before anything runs.",
    "fn": "`fn name(x: [n]) = …`: a function of tensors.",
    "layer": "`layer name(settings)(x: [..., n]) { … }`: a function with parameters.",
    "init": "`init name(settings)(fan_in, fan_out, shape) = …`: the first value of parameters.",
    "model": "`model Name(settings) { … }`: inputs to outputs.",
    "optimizer": "`optimizer name(lr)(p, g, t) { … }`: the update of a parameter.",
    "schedule": "`schedule name(settings)(lr, t) = …`: the rate at an update.",
    "train": "`train Model { … }`: an experiment: data, loss and optimizer of a model.",
    "generate": "`generate Model { … }`: how sequences are decoded from a model.",
    "sample": "`sample name(settings) from Model { … }`: new rows, made with a trained model.",
    "test": "`test name { … }`: claims that `dlc test` checks.",
    "import": '`import "file.dl"`: the declarations of another file.',
}
