#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compare quant_rows (argument) with gguf.quants, bit for bit."""
import subprocess
import sys

import numpy as np
from gguf import quants
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as T

TYPES = {"f32": T.F32, "f16": T.F16, "bf16": T.BF16, "q8_0": T.Q8_0, "q4_0": T.Q4_0, "q5_0": T.Q5_0, "q4_k": T.Q4_K, "q6_k": T.Q6_K}
F16_AT = {"q8_0": [0], "q4_0": [0], "q5_0": [0], "q4_k": [0, 2], "q6_k": [208]}  # where a block's f16 are
BLOCKS = 20000
failed = 0


def run(verb, name, data):
    return subprocess.run([sys.argv[1], verb, name], input=data, stdout=subprocess.PIPE, check=True).stdout


def tell(what, same, total):
    global failed
    failed += same != total
    print(f"{what:<28} {same} of {total} the same{'' if same == total else '   <-- DIFFERS'}")


def random_blocks(rng, name, size):
    """Random bytes, but every f16 is finite: numpy and we may choose different NaNs."""
    blocks = rng.integers(0, 256, (BLOCKS, size), dtype=np.uint8)
    for at in F16_AT.get(name, []):
        exponent = blocks[:, at + 1] & 0x7c
        blocks[:, at + 1] = np.where(exponent == 0x7c, blocks[:, at + 1] & 0x83, blocks[:, at + 1])
    return blocks


def values(rng, n):
    """Rows of every size a weight may have, down to where scales are denormal, zeros and ties among them. No negative
    zeros: the package takes the sign of a zero scale from a block's first element, ggml and we do not."""
    x = rng.standard_normal((BLOCKS, n)) * 2.0 ** rng.integers(-26, 12, (BLOCKS, 1))
    x[::7] = np.round(x[::7] * 8) / 8
    x[::101] = 0
    return x.astype(np.float32) + np.float32(0)


def main():
    rng = np.random.default_rng(1)
    for name, kind in TYPES.items():
        block, size = GGML_QUANT_SIZES[kind]
        if name in ("f32", "f16", "bf16"):
            bits = np.arange(65536, dtype=np.uint32)
            data = bits.astype("<u2").tobytes() if name != "f32" else (bits << 16).tobytes()
            ours = np.frombuffer(run("unpack", name, data), "<f4")
            raw = np.frombuffer(data, np.uint8).reshape(-1, size)
        else:
            raw = random_blocks(rng, name, size)
            ours = np.frombuffer(run("unpack", name, raw.tobytes()), "<f4")
        with np.errstate(all="ignore"):
            theirs = quants.dequantize(raw, kind).astype(np.float32).reshape(-1)
        good = (ours.view("<u4") == theirs.view("<u4")) | (np.isnan(ours) & np.isnan(theirs))
        tell(f"unpack {name}", int(good.sum()), good.size)

        x = values(rng, max(block, 32))
        if block == 1:  # any 32-bit pattern that is no NaN
            wild = rng.integers(0, 2**32, x.shape, dtype=np.uint32).view(np.float32)
            x = np.where(np.isnan(wild), x, wild)
        try:
            with np.errstate(all="ignore"):
                theirs = quants.quantize(x, kind).view(np.uint8).reshape(-1)
        except NotImplementedError:
            read = np.frombuffer(run("unpack", name, run("pack", name, x.tobytes())), "<f4").reshape(x.shape)
            error = np.sqrt(((read - x) ** 2).sum() / (x**2).sum())
            print(f"{'pack ' + name:<28} gguf has no packer; relative error here {error:.5f}")
            continue
        ours = np.frombuffer(run("pack", name, x.tobytes()), np.uint8)
        tell(f"pack {name}, bytes", int((ours == theirs).sum()), theirs.size)
    sys.exit(1 if failed else 0)


main()
