"""Adapters: a frozen model with small trained matrices beside its own.

config.py   what is asked for
lora.py     the layers: LoRA (Hu et al. 2021) and DoRA (Liu et al. 2024)
attach.py   putting them beside a model's projections, and counting what that trains
merge.py    adding them into the base's weights, and taking them out again
peft.py     PEFT's files, in and out
"""

from .attach import adapter_layers, adapter_parameters, attach, trained_modules
from .config import LoraConfig
from .lora import DoraLinear, LoraLinear
from .merge import merge, unmerge
from .peft import load_adapter, load_peft_state, peft_state

__all__ = [
    "DoraLinear",
    "LoraConfig",
    "LoraLinear",
    "adapter_layers",
    "adapter_parameters",
    "attach",
    "load_adapter",
    "load_peft_state",
    "merge",
    "peft_state",
    "trained_modules",
    "unmerge",
]
