# SPDX-License-Identifier: Apache-2.0
"""The PyTorch side of bench/peers/train_pytorch: the preset `peer` as a PyTorch user would write it.

A decoder of 8 layers: RMSNorm, grouped-query attention, RMSNorm, 32 SwiGLU experts of which the router's softmax picks one,
untied head, AdamW. It leaves out what sigmoe's step does besides: rotary positions, QK-norm, the balancing loss, clipping and
load statistics.

Arguments: the file of token ids, experts=each|padded|grouped, compute=f32|bf16, threads=N. The first line of output says
what is trained; then each line of input, a number of steps, is answered by one line of JSON."""
import json
import math
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

LAYERS, WIDTH, HEADS, KV_HEADS, EXPERTS, HIDDEN, VOCABULARY = 8, 512, 8, 2, 32, 256, 8192
CONTEXT, BATCH = 256, 8
HEAD = WIDTH // HEADS


def experts_each(x, chosen, gate, up, down):
    """Rows sorted by expert, three products for each expert that has rows."""
    order = torch.argsort(chosen)
    counts = torch.bincount(chosen, minlength=EXPERTS).tolist()
    parts = []
    for rows, g, u, d in zip(x[order].split(counts), gate.unbind(), up.unbind(), down.unbind()):
        if rows.shape[0]:
            parts.append((F.silu(rows @ g.t()) * (rows @ u.t())) @ d.t())
    out = torch.cat(parts)
    return torch.zeros_like(out).index_copy(0, order, out)


def experts_padded(x, chosen, gate, up, down):
    """All experts at once, each with as many rows as the busiest has."""
    counts = torch.bincount(chosen, minlength=EXPERTS)
    order = torch.argsort(chosen)
    expert = chosen[order]
    place = torch.arange(chosen.numel()) - (torch.cumsum(counts, 0) - counts)[expert]
    block = x.new_zeros(EXPERTS, int(counts.max()), x.shape[1]).index_put((expert, place), x[order])
    hidden = F.silu(torch.bmm(block, gate.mT)) * torch.bmm(block, up.mT)
    out = torch.bmm(hidden, down.mT)[expert, place]
    return torch.zeros_like(out).index_copy(0, order, out)


def experts_grouped(x, chosen, gate, up, down):
    """torch's grouped product, where this version has it (bf16 only)."""
    order = torch.argsort(chosen)
    ends = torch.cumsum(torch.bincount(chosen, minlength=EXPERTS), 0).to(torch.int32)
    rows, g, u, d = (t.to(torch.bfloat16) for t in (x[order], gate, up, down))
    hidden = F.silu(torch._grouped_mm(rows, g.mT, offs=ends)) * torch._grouped_mm(rows, u.mT, offs=ends)
    out = torch._grouped_mm(hidden, d.mT, offs=ends).to(x.dtype)
    return torch.zeros_like(out).index_copy(0, order, out)


class Norm(nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x):
        if hasattr(F, "rms_norm"):
            return F.rms_norm(x, (WIDTH,), self.gain, 1e-6)
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * self.gain


class Layer(nn.Module):
    def __init__(self, experts):
        super().__init__()
        self.attention_norm, self.ffn_norm, self.experts = Norm(), Norm(), experts
        self.query = nn.Linear(WIDTH, WIDTH, bias=False)
        self.key_value = nn.Linear(WIDTH, 2 * KV_HEADS * HEAD, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)
        self.router = nn.Linear(WIDTH, EXPERTS, bias=False)
        self.gate = nn.Parameter(torch.randn(EXPERTS, HIDDEN, WIDTH) / math.sqrt(WIDTH))
        self.up = nn.Parameter(torch.randn(EXPERTS, HIDDEN, WIDTH) / math.sqrt(WIDTH))
        self.down = nn.Parameter(torch.randn(EXPERTS, WIDTH, HIDDEN) / math.sqrt(HIDDEN))

    def attend(self, x, mask):
        batch, rows, _ = x.shape
        q = self.query(x).view(batch, rows, HEADS, HEAD).transpose(1, 2)
        k, v = self.key_value(x).view(batch, rows, 2, KV_HEADS, HEAD).permute(2, 0, 3, 1, 4)
        k, v = (t.repeat_interleave(HEADS // KV_HEADS, 1) for t in (k, v))
        if hasattr(F, "scaled_dot_product_attention"):
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            y = torch.softmax(q @ k.mT / math.sqrt(HEAD) + mask, -1) @ v
        return self.out(y.transpose(1, 2).reshape(batch, rows, WIDTH))

    def forward(self, x, mask):
        x = x + self.attend(self.attention_norm(x), mask)
        h = self.ffn_norm(x).view(-1, WIDTH)
        with torch.autocast("cpu", enabled=False):  # the router stays in f32, as ours does
            weight, chosen = torch.softmax(F.linear(h.float(), self.router.weight), -1).max(-1)
        y = self.experts(h, chosen, self.gate, self.up, self.down)
        return x + (y * weight.to(y.dtype)[:, None]).view_as(x)


class Model(nn.Module):
    def __init__(self, experts):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.layers = nn.ModuleList(Layer(experts) for _ in range(LAYERS))
        self.norm, self.head = Norm(), nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.register_buffer("mask", torch.full((CONTEXT, CONTEXT), -math.inf).triu(1))

    def forward(self, tokens, targets):
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x, self.mask)
        return F.cross_entropy(self.head(self.norm(x)).view(-1, VOCABULARY).float(), targets.reshape(-1))


def optimizer_of(model):
    options = {"lr": 1e-3, "betas": (0.9, 0.95), "weight_decay": 0.1}
    try:
        return torch.optim.AdamW(model.parameters(), fused=True, **options)
    except (TypeError, RuntimeError, ValueError):  # not on this version's CPU
        return torch.optim.AdamW(model.parameters(), **options)


def main():
    options = dict(argument.split("=", 1) for argument in sys.argv[2:])
    bf16 = options["compute"] == "bf16"
    torch.set_num_threads(int(options["threads"]))
    torch.manual_seed(1)
    experts = {"each": experts_each, "padded": experts_padded, "grouped": experts_grouped}[options["experts"]]
    model = Model(experts)
    optimizer = optimizer_of(model)
    with open(sys.argv[1], encoding="ascii") as file:
        ids = torch.tensor([int(word) for word in file.read().split()])
    count = sum(p.numel() for p in model.parameters())
    each = sum(p.numel() for layer in model.layers for p in (layer.gate, layer.up, layer.down)) // EXPERTS
    print(json.dumps({"torch": torch.__version__, "parameters": count, "tokens_per_step": CONTEXT * BATCH,
                      "active_parameters": count - (EXPERTS - 1) * each - VOCABULARY * WIDTH}), flush=True)
    at = 0
    for line in sys.stdin:
        seconds, losses = [], []
        for _ in range(int(line)):
            if at + BATCH * CONTEXT + 1 > ids.numel():
                at = 0
            window = ids[at:at + BATCH * CONTEXT + 1]
            at += BATCH * CONTEXT
            tokens, targets = window[:-1].view(BATCH, CONTEXT), window[1:].view(BATCH, CONTEXT)
            start = time.perf_counter()
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
                loss = model(tokens, targets)
            loss.backward()
            optimizer.step()
            seconds.append(time.perf_counter() - start)
            losses.append(loss.item())
        print(json.dumps({"seconds": seconds, "loss": losses[-1]}), flush=True)


main()
