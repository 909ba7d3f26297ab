# SPDX-License-Identifier: Apache-2.0
"""Compare our logits and greedy tokens with transformers' (see scripts/oracle/transformers)."""
import logging
import sys

import torch
import transformers
from safetensors.torch import load_file

work, kernels = sys.argv[1], sys.argv[2:]
failed = 0


class Warned(logging.Handler):
    """Collects what transformers warns about while loading."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


transformers.utils.logging.disable_progress_bar()
warned = Warned()
transformers.logging.get_logger("transformers").addHandler(warned)
print(f"torch {torch.__version__}, transformers {transformers.__version__}")
for kernel in kernels:
    for name in ("pico", "untied", "normalised", "wide"):
        path = f"{work}/{kernel}-{name}"
        ours = load_file(path + ".logits.safetensors")
        warned.lines.clear()
        model, info = transformers.AutoModelForCausalLM.from_pretrained(
            path, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
        assert type(model).__name__ == "Qwen3MoeForCausalLM", type(model)
        odd = {k: v for k, v in info.items() if v}
        tokens = ours["tokens"].long()[None]
        with torch.no_grad():
            logits = model(tokens).logits[0]
            greedy = model.generate(tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=len(ours["greedy"]),
                                    do_sample=False, pad_token_id=0, eos_token_id=None)[0, tokens.shape[1]:]
        worst = (logits - ours["logits"]).abs().max().item()
        same = torch.equal(greedy, ours["greedy"].long())
        fine = worst < 1e-4 and same and not odd and not warned.lines
        failed += not fine
        print(f"{kernel:5} {name:10} largest |logit| {logits.abs().max():.3f}  largest difference {worst:.2e}  "
              f"greedy {'same' if same else 'DIFFERENT'} ({len(greedy)} tokens)  {'ok' if fine else 'FAILED'}")
        for line in warned.lines:
            print("  warning:", line)
        if odd:
            print("  loading:", odd)
    # A model that is no Qwen3MoE must be refused rather than computed wrongly.
    try:
        transformers.AutoModelForCausalLM.from_pretrained(f"{work}/{kernel}-layers")
        failed += 1
        print(f"{kernel:5} sigmoid router: opened, but must not be: FAILED")
    except (ValueError, KeyError) as error:
        print(f"{kernel:5} sigmoid router: refused ({type(error).__name__})  ok")
print(f"{len(kernels) * 5 - failed} passed, {failed} failed")
sys.exit(failed > 0)
