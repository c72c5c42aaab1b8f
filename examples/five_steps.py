"""Fine-tune GPT-2 on WikiText-2 and generate from it, in five steps.

python examples/five_steps.py                                        the corpus and GPT-2 from the hub
python examples/five_steps.py --data FOLDER --base scratch           an offline copy of the corpus, random weights
"""

import argparse

import ownlm
from ownlm.data.wikitext import wikitext2

# 1. Set up
parser = argparse.ArgumentParser()
parser.add_argument("--data", default="wikitext2", help="a folder with the corpus; fetched into it where there is none")
parser.add_argument("--base", default="gpt2", help="any model, or scratch")
parser.add_argument("--out", default="runs/five-steps")
options = parser.parse_args()

# 2. Load WikiText-2
train, validation = wikitext2(options.data)

# 3. Choose tokenizer and model
if options.base == "scratch":
    ownlm.train_tokenizer([train], vocab_size=4096, out=f"{options.out}/tokenizer")
    shape = {"family": "gpt2", "layers": 4, "width": 256, "heads": 4, "vocab_size": 4096, "max_positions": 512}
    model = {"model": shape, "tokenizer": f"{options.out}/tokenizer", "optimizer": {"lr": 2e-3}}
else:
    model = {"base": options.base, "optimizer": {"lr": 5e-5}}

# 4. Fine-tune: epochs, batch size, save every N steps, keep at most three checkpoints
data = {"train": str(train), "validation": str(validation), "length": 256}
settings = {"epochs": 3, "batch_tokens": 8 * 256, "checkpoint": {"every": 100, "keep": 3}, "validate": {"every": 100}}
run = ownlm.train({"out": f"{options.out}/run", "data": data, **model, **settings})

# 5. Generate
fine_tuned = ownlm.load_model(run.model)
texts = ownlm.generate(fine_tuned, ["In a distant future, humans and AI"], max_tokens=60, temperature=0.8, seed=1)
print("In a distant future, humans and AI" + texts[0])
