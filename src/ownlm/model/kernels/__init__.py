"""Kernels for bfloat16 on CPUs with AVX-512 BF16 (AMD's Zen 4, Intel's Cooper Lake) or AMX, compiled on first use.

Everything they do exists in plain torch beside its caller, which is what runs anywhere else: on another processor, where
no compiler is found, on a GPU, in float32, and under ``torch.compile``. What they are for: the framework's own CPU kernels
take twice as long as the multiplications alone would, mostly where a product's operand lies the wrong way round and where
passes over memory follow each other (docs/lab-notes.md has the figures).

``library.py`` compiles and loads, ``calls.py`` has one function for each kernel. Of the sources, ``unit.h`` multiplies tiles
by whichever unit there is, ``tiles.h`` packs operands into them, and the rest is the same for both.
"""
