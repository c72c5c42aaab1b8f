"""What each export of a model costs: bytes, and perplexity on WikiText-2 beside the model's own.

    python benchmarks/export.py --model MODEL                          every format and quantization
    python benchmarks/export.py --model MODEL --only gguf:q8_0 onnx:int8

A GGUF file is read by ownlm, which shows what rounding its weights costs, and by llama.cpp where its Python binding is
installed, which rounds activations as well. An ONNX folder runs in ONNX Runtime. Perplexity is that of a token of the
model's own tokenizer, in windows of 512 tokens that each begin anew: fit to compare, and higher than over whole articles.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measure import PEERS, machine_line

WINDOW = 512
EXPORTS = [f"gguf:{kind}" for kind in ("f32", "bf16", "f16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0")]
EXPORTS += ["onnx:", "onnx:int8", "onnx:int4"]


def main() -> None:
    import numpy as np
    import torch

    from ownlm.model.checkpoint import load_model_folder, read_config
    from ownlm.model.export import export_model
    from ownlm.model.registry import find_model
    from ownlm.tokens.tokenizer import load_tokenizer

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--windows", type=int, default=20)
    parser.add_argument("--only", nargs="*", default=EXPORTS)
    arguments = parser.parse_args()
    folder = find_model(arguments.model)
    text = (PEERS.parent / "data" / "wikitext2" / "wiki.test.tokens").read_text()
    ids = load_tokenizer(folder).encode(text[: 8 * WINDOW * arguments.windows])
    windows = [ids[n * WINDOW : (n + 1) * WINDOW] for n in range(arguments.windows)]
    assert len(windows[-1]) == WINDOW, "the text is long enough"

    def perplexity(logits_of: Callable[[list[int]], Any]) -> float:
        total = 0.0
        for window in windows:
            scores = logits_of(window)[:-1].double().log_softmax(-1)
            total -= scores.gather(1, torch.tensor(window[1:])[:, None]).sum().item()
        return round(math.exp(total / (len(windows) * (WINDOW - 1))), 3)

    def in_llama_cpp(path: Path) -> Callable[[list[int]], Any] | None:
        try:
            import llama_cpp
        except ImportError:
            return None
        options = {"n_ctx": WINDOW, "logits_all": True, "verbose": False, "n_threads": torch.get_num_threads()}
        opened = llama_cpp.Llama(str(path), **options)

        def logits(window: list[int]) -> Any:
            opened.reset()
            opened.eval(window)
            return torch.from_numpy(np.array(opened.scores[: len(window)]))

        return logits

    model = load_model_folder(folder)
    rows: list[dict[str, Any]] = [{"export": "the model"}]
    rows[0]["perplexity"] = perplexity(lambda window, run=model: run.logits([window])[0])
    for export in arguments.only:
        to, kind = export.split(":")
        with tempfile.TemporaryDirectory() as temporary:
            out = Path(temporary) / ("model.gguf" if to == "gguf" else "model")
            found = export_model(arguments.model, to, out, kind or None)
            row = {"export": export, "bytes": found["bytes"], "max_difference": round(found["max_difference"], 4)}
            row |= {"divergence": round(found["divergence"], 5)} if "divergence" in found else {}
            if to == "gguf":
                row["perplexity"] = _perplexity_of_file(out, perplexity)
                theirs = in_llama_cpp(out)
                row |= {} if theirs is None else {"perplexity_llama_cpp": perplexity(theirs)}
            else:
                from ownlm.model.export.onnx_session import OnnxModel

                session = OnnxModel(out, read_config(out))
                row["perplexity"] = perplexity(lambda window, run=session: run.outputs([window])[0])
        rows.append(row)
    print(json.dumps({"machine": machine_line(), "tokens": len(windows) * WINDOW, "rows": rows}))


def _perplexity_of_file(path: Path, perplexity: Callable[[Callable[[list[int]], Any]], float]) -> float:
    from ownlm.model.construct import model_with
    from ownlm.model.gguf import read_gguf

    config, state, _ = read_gguf(path)
    model = model_with(config, state)
    return perplexity(lambda window: model.logits([window])[0])


if __name__ == "__main__":
    main()
