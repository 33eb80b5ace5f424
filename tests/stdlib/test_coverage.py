"""Every declaration of the library has a case, and every case a declaration."""

from augmentation_cases import AUGMENTATIONS, RANDOM
from function_cases import FUNCTIONS
from image_cases import IMAGE_FUNCTIONS, IMAGE_LAYERS
from initializer_cases import INITIALIZERS, TESTED_BY_STRUCTURE
from layer_cases import LAYERS
from standard_library import declared
from update_cases import CLIPS, OPTIMIZERS, PENALTIES, SCHEDULES

from compiler.frontend.library import library_modules
from compiler.syntax import tree

WAYS_OF_SAMPLING = ("greedy", "temperature", "top_k", "top_p", "beam")
DRAWS = ("draw_class", "normal_like", "penalise_seen", "keep_top", "keep_nucleus", "level")
DROPOUTS = ("dropout", "optional_dropout", "spatial_dropout", "stochastic_depth")
SECOND_ORDER = ("newton", "newton_cg", "lbfgs", "sam")
OF_SECOND_ORDER = ("line_search", "tried_step", "lowest_share", "hessian", "more_cautious", "solve_upwards")
ATTENTION = ("attention", "bahdanau", "luong", "feed_forward", "encoder_block", "decoder_block")
RECURRENT = ("simple_rnn", "gru", "lstm", "peephole_lstm", "bidirectional", "stacked")
CELLS = ("simple_rnn_cell", "gru_cell", "lstm_cell", "peephole_lstm_cell")
RECURRENT_PARTS = ("recurrence", "memory_recurrence", "with_masks", "kept", "repeats", "mixed_by")
OF_TEXTS = (
    *("random_deletion", "random_insertion", "random_swap", "synonym_replacement"),
    *("is_word", "moved_up", "with_inserted", "exchanged", "random_word", "random_synonym"),
)
BLOCKS = ("separable_conv2d", "conv_norm", "residual", "bottleneck", "inception", "squeeze_excitation", "mbconv")

# (kind, name): why no table of cases holds it.
ELSEWHERE = (
    {("layer", name): "random; test_layers.py checks its statistics" for name in DROPOUTS}
    | {("way of sampling", name): "test_sampling.py" for name in WAYS_OF_SAMPLING}
    | {("fn", name): "what ways of sampling are made of; test_sampling.py" for name in DRAWS}
    | {("layer", name): "several layers in one; test_image_blocks.py" for name in BLOCKS}
    | {("layer", name): "several operands or layers; test_attention.py" for name in ATTENTION}
    | {("layer", name): "several steps or states; test_recurrent.py" for name in (*RECURRENT, *CELLS)}
    | {("fn", name): "parts of recurrent layers; test_recurrent.py" for name in RECURRENT_PARTS}
    | {("schedule", "reduce_on_plateau"): "follows the loss; test_following.py"}
    | {("optimizer", name): "takes the objective; test_second_order.py" for name in SECOND_ORDER}
    | {("fn", name): "of these optimizers; test_second_order.py" for name in OF_SECOND_ORDER}
    | {("init", name): f"test_initializers.py checks that {reason}" for name, reason in TESTED_BY_STRUCTURE.items()}
    | {("fn", name): "several results; through metrics by class" for name in ("class_counts", "counts_by_class")}
    | {("fn", name): "random; test_augmentations.py checks what it does" for name in RANDOM}
    | {("fn", name): "of texts; test_token_augmentations.py" for name in OF_TEXTS}
)


def test_every_declaration_is_tested() -> None:
    tables = {
        "fn": (*FUNCTIONS, *IMAGE_FUNCTIONS, *AUGMENTATIONS),
        "layer": (*LAYERS, *IMAGE_LAYERS),
        "init": INITIALIZERS,
        "optimizer": OPTIMIZERS,
        "schedule": SCHEDULES,
        "clip": CLIPS,
        "penalty": PENALTIES,
    }
    tested = {(kind, case.name) for kind, cases in tables.items() for case in cases}
    assert tested & set(ELSEWHERE) == set()
    assert tested | set(ELSEWHERE) == declared()


def test_every_declaration_is_documented() -> None:
    silent = [
        f"{module.source.name}: {declaration.name}"
        for module in library_modules()
        for declaration in module.declarations
        if isinstance(declaration, tree.Callable) and not declaration.doc
    ]
    assert silent == []
