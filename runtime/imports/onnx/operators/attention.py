"""The library's attention and rotary positions, which passes have recognised."""

from __future__ import annotations

from runtime.imports.onnx import code
from runtime.imports.onnx.code import Code
from runtime.imports.onnx.passes.attention import LAYER
from runtime.imports.onnx.passes.rotary import REPEATED, ROTARY
from runtime.imports.onnx.site import Site, Translation

_MASK, _FIRST = 3, 4  # places of the mask and of the first weights; each of four products has weights and a bias


def _attention(site: Site) -> Code:
    heads, base = site.attribute("heads"), site.attribute("base")
    settings = [str(heads)]
    settings += ["causal = true"] if site.attribute("causal") else []
    settings += [] if site.attribute("bias") else ["bias = false"]
    settings += [] if base is None else [f"rotate = {_rotary_by(base)}"]
    settings += [] if site.attribute("key_heads") == heads else [f"key_heads = {site.attribute('key_heads')}"]
    operands = [site.tensor(place) for place in range(3)]
    masks = {"where": site.tensor(_MASK)} if site.has(_MASK) else {}
    weights = [site.weight(place) for place in range(_FIRST, _FIRST + 8) if site.has(place)]
    found = code.call(f"attention({', '.join(settings)})", *operands, **masks)
    return Code(found.text, found.level, found.weights + tuple(weights))


def _rotary(site: Site) -> Code:
    return code.layer(_rotary_by(site.attribute("base")), site.tensor(0))


def _rotary_by(base: float) -> str:
    return "rotary(halves = true)" if base == 10000 else f"rotary(base = {code.literal(base)}, halves = true)"


def _repeated(site: Site) -> Code:
    return code.layer(f"repeated({site.attribute('times')}, 1)", site.tensor(0))


ATTENTION: dict[str, Translation] = {LAYER: _attention, ROTARY: _rotary, REPEATED: _repeated}
