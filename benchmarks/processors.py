"""The kind of this processor, as `AMD EPYC Zen 3, AVX2`: from /proc/cpuinfo and the instruction set of `dlc`."""

from __future__ import annotations

import re

SETS = {"avx512": "AVX-512", "avx2": "AVX2", "neon": "NEON", "generic": "128-bit vectors"}
VENDORS = {"AuthenticAMD": "AMD", "GenuineIntel": "Intel"}
SERIES = ("EPYC", "Threadripper", "Ryzen", "Athlon", "Xeon", "Core", "Atom", "Pentium", "Celeron")

# Generations by vendor and family, then by ranges of models; as in Linux, arch/x86/kernel/cpu/amd.c and
# arch/x86/include/asm/intel-family.h. Where models of both series share a number, the steppings differ.
_AMD = {
    0x17: ((0x00, 0x2F, "Zen"), (0x30, 0x4F, "Zen 2"), (0x50, 0x5F, "Zen"), (0x60, 0xAF, "Zen 2")),
    0x19: ((0x00, 0x0F, "Zen 3"), (0x10, 0x1F, "Zen 4"), (0x20, 0x5F, "Zen 3"), (0x60, 0xAF, "Zen 4")),
    0x1A: ((0x00, 0x2F, "Zen 5"), (0x40, 0x4F, "Zen 5"), (0x60, 0x7F, "Zen 5")),
}
_INTEL = {
    "Haswell": (0x3C, 0x3F, 0x45, 0x46),
    "Broadwell": (0x3D, 0x47, 0x4F, 0x56),
    "Skylake": (0x4E, 0x5E),
    "Kaby Lake": (0x8E, 0x9E),
    "Comet Lake": (0xA5, 0xA6),
    "Ice Lake": (0x6A, 0x6C, 0x7D, 0x7E),
    "Tiger Lake": (0x8C, 0x8D),
    "Rocket Lake": (0xA7,),
    "Alder Lake": (0x97, 0x9A),
    "Raptor Lake": (0xB7, 0xBA, 0xBF),
    "Sapphire Rapids": (0x8F,),
    "Emerald Rapids": (0xCF,),
    "Granite Rapids": (0xAD, 0xAE),
    "Meteor Lake": (0xAA, 0xAC),
    "Arrow Lake": (0xC5, 0xC6),
    "Lunar Lake": (0xBD,),
}
_INTEL_FAMILY = 6
_SKYLAKE_SERVERS = 0x55
# Implementer and part of Arm's cores, as in arch/arm64/include/asm/cputype.h.
_ARM = {
    (0x41, 0xD08): "Arm Cortex-A72",
    (0x41, 0xD0B): "Arm Cortex-A76",
    (0x41, 0xD0C): "Arm Neoverse N1",
    (0x41, 0xD40): "Arm Neoverse V1",
    (0x41, 0xD49): "Arm Neoverse N2",
    (0x41, 0xD4F): "Arm Neoverse V2",
}


def kind(information: str, instruction_set: str) -> str:
    """`information` is the text of /proc/cpuinfo, `instruction_set` the name of `dlc`'s machine: avx512, avx2, ..."""
    facts = _facts(information)
    name = _of_arm(facts) if "CPU implementer" in facts else _of_x86(facts)
    return f"{name}, {SETS.get(instruction_set, instruction_set)}"


def model_name(information: str) -> str:
    """What the processor calls itself."""
    return _facts(information).get("model name", "?")


def _facts(information: str) -> dict[str, str]:
    """Of the first processor."""
    lines = (line.partition(":") for line in information.strip().partition("\n\n")[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}


def _of_arm(facts: dict[str, str]) -> str:
    implementer, part = int(facts["CPU implementer"], 0), int(facts.get("CPU part", "0"), 0)
    return _ARM.get((implementer, part), f"Arm implementer {implementer:#x} part {part:#x}")


def _of_x86(facts: dict[str, str]) -> str:
    """Vendor, series and generation; a generation that is not known goes by its numbers."""
    vendor, name = facts.get("vendor_id", ""), facts.get("model name", "")
    family, model, stepping = (int(facts.get(key, "0")) for key in ("cpu family", "model", "stepping"))
    series = next((word for word in SERIES if re.search(rf"\b{word}\b", name)), "")
    generation = f"family {family} model {model}"
    if vendor == "AuthenticAMD":
        ranges = _AMD.get(family, ())
        generation = next((known for first, last, known in ranges if first <= model <= last), generation)
    elif vendor == "GenuineIntel" and family == _INTEL_FAMILY:
        if model == _SKYLAKE_SERVERS:
            generation = "Skylake" if stepping <= 4 else "Cascade Lake" if stepping <= 9 else "Cooper Lake"
        else:
            generation = next((known for known, models in _INTEL.items() if model in models), generation)
    return " ".join(filter(None, (VENDORS.get(vendor, vendor), series, generation)))
