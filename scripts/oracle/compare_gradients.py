# SPDX-License-Identifier: Apache-2.0
"""The model written again in PyTorch, its gradients by autograd in f64, against ours (see scripts/oracle/gradients).

Nothing but torch is needed; safetensors files are read here by hand."""
import json
import struct
import sys

import torch
import torch.nn.functional as F

TYPES = {"F32": torch.float32, "F64": torch.float64, "I32": torch.int32}


def read(path):
    data = bytearray(open(path, "rb").read())
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        piece = bytearray(data[8 + size + begin:8 + size + end])
        tensors[name] = torch.frombuffer(piece, dtype=TYPES[entry["dtype"]]).reshape(entry["shape"]).clone()
    return tensors


def norm(x, gain, epsilon):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + epsilon) * gain


def rotate(x, theta):  # (T, heads, S), positions 0 … T-1
    half = x.shape[-1] // 2
    frequency = theta ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = torch.arange(x.shape[0], dtype=torch.float64)[:, None] * frequency
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]
    a, b = x[..., :half], x[..., half:]
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


def attention(x, w, name, c):
    rows, size = x.shape[0], c["head_dim"]
    heads, groups = c["num_attention_heads"], c["num_key_value_heads"]
    q = (x @ w[name + "q_proj.weight"].T).view(rows, heads, size)
    k = (x @ w[name + "k_proj.weight"].T).view(rows, groups, size)
    v = (x @ w[name + "v_proj.weight"].T).view(rows, groups, size)
    q = rotate(norm(q, w[name + "q_norm.weight"], c["rms_norm_eps"]), c["rope_theta"])
    k = rotate(norm(k, w[name + "k_norm.weight"], c["rms_norm_eps"]), c["rope_theta"])
    k, v = (t.repeat_interleave(heads // groups, 1) for t in (k, v))
    score = torch.einsum("ihs,jhs->hij", q, k) / size ** 0.5
    score = score.masked_fill(torch.ones(rows, rows, dtype=torch.bool).triu(1), -float("inf"))
    y = torch.einsum("hij,jhs->ihs", score.softmax(-1), v)
    return y.reshape(rows, heads * size) @ w[name + "o_proj.weight"].T


def experts(x, w, name, c):
    probability = (x @ w[name + "gate.weight"].T).softmax(-1)
    weight, chosen = probability.topk(c["num_experts_per_tok"], -1)
    if c["norm_topk_prob"]:
        weight = weight / weight.sum(-1, keepdim=True)
    y = torch.zeros_like(x)
    for e in range(c["num_experts"]):
        rows, slot = (chosen == e).nonzero(as_tuple=True)
        p = f"{name}experts.{e}."
        h = F.silu(x[rows] @ w[p + "gate_proj.weight"].T) * (x[rows] @ w[p + "up_proj.weight"].T)
        y = y.index_add(0, rows, (h @ w[p + "down_proj.weight"].T) * weight[rows, slot, None])
    return y


def loss_of(tokens, targets, lengths, w, c):
    total, begin = 0, 0
    for length in lengths.tolist():  # documents never see one another
        part = slice(begin, begin + length)
        begin += length
        x = w["model.embed_tokens.weight"][tokens[part].long()]
        for layer in range(c["num_hidden_layers"]):
            name = f"model.layers.{layer}."
            h = norm(x, w[name + "input_layernorm.weight"], c["rms_norm_eps"])
            x = x + attention(h, w, name + "self_attn.", c)
            h = norm(x, w[name + "post_attention_layernorm.weight"], c["rms_norm_eps"])
            x = x + experts(h, w, name + "mlp.", c)
        x = norm(x, w["model.norm.weight"], c["rms_norm_eps"])
        head = w["model.embed_tokens.weight" if c["tie_word_embeddings"] else "lm_head.weight"]
        total = total + F.cross_entropy(x @ head.T, targets[part].long(), ignore_index=-1, reduction="sum")
    return total / (targets >= 0).sum()


failed = 0
work, kernels = sys.argv[1], sys.argv[2:]
print("torch", torch.__version__)
for kernel in kernels:
    for name in ("pico", "untied", "normalised", "wide"):
        path = f"{work}/{kernel}-{name}"
        config = json.load(open(path + "/config.json"))
        weights = {n: t.double().requires_grad_() for n, t in read(path + "/model.safetensors").items()}
        ours = read(path + ".gradients.safetensors")
        loss = loss_of(ours["tokens"], ours["targets"], ours["lengths"], weights, config)
        loss.backward()
        worst, where, largest, used = 0, "", 0, 0
        for n, weight in weights.items():
            exact = weight.grad if weight.grad is not None else torch.zeros_like(weight)
            size = exact.norm().item()
            difference = (ours[n].double().reshape(exact.shape) - exact).norm().item()
            relative = difference / size if size > 0 else float(difference > 0)
            used += size > 0
            largest = max(largest, size)
            if relative > worst:
                worst, where = relative, n
        fine = worst < 1e-4 and abs(loss.item() - ours["loss"].item()) < 1e-4 * abs(loss.item())
        failed += not fine
        print(f"{kernel:5} {name:10} loss {loss.item():.6f}, ours {ours['loss'].item():.6f}; {used} of {len(weights)} weights "
              f"have a gradient; largest relative difference {worst:.2e} ({where})  {'ok' if fine else 'FAILED'}")
print(f"{len(kernels) * 4 - failed} passed, {failed} failed")
sys.exit(failed > 0)
