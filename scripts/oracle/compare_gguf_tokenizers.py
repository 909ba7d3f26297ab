#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""compare_gguf_tokenizers.py LIBRARIES ENCODE_IDS TOKENIZER FILE.gguf NAME EXACT [TEXT…]: every line of the texts and some
awkward ones, as the tokenizer encodes them and as llama.cpp does with the file made from it. EXACT 0: differences are counted,
not an error."""
import ctypes
import glob
import os
import subprocess
import sys

AWKWARD = ["", " ", "  a", "a  ", "It's we'LL I'd", "1234567 12 3", "\n\n  x\n \n", "\t\tif (a)\r\n\r\n", "naïve Ünïcode ЖЖ жж ΑΒΓ αβγ",
           "日本語 テキスト 한국어", "e\u0301a\u0301", "😀😀 👩‍💻", "a/b//c\n/d", "HTTPServer camelCase ABCdef", "x\u00a0y\u3000z", "!!!??? ...",
           "<|endoftext|>", "tail \n\n", "tail\n  "]


class Block(ctypes.Structure):  # parameters go by value: larger than any of theirs
    _fields_ = [("words", ctypes.c_uint32 * 512)]


def open_llama(folder):
    found = {}
    for name in ("libggml-base", "libggml", "libllama"):
        path = next(p for p in sorted(glob.glob(os.path.join(folder, name + ".*"))) if ".so" in p)
        found[name] = ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
    llama, ggml = found["libllama"], found["libggml"]
    quiet = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
    llama.llama_log_set(quiet, None)
    llama.quiet = quiet
    llama.llama_backend_init()
    ggml.ggml_backend_load_all_from_path(folder.encode())
    llama.llama_model_default_params.restype = Block
    llama.llama_model_load_from_file.restype = ctypes.c_void_p
    llama.llama_model_load_from_file.argtypes = [ctypes.c_char_p, Block]
    llama.llama_model_get_vocab.restype = ctypes.c_void_p
    llama.llama_model_get_vocab.argtypes = [ctypes.c_void_p]
    llama.llama_tokenize.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32, ctypes.c_void_p, ctypes.c_int32,
                                     ctypes.c_bool, ctypes.c_bool]
    return llama


def main():
    folder, encode_ids, tokenizer, file, name, exact = sys.argv[1:7]
    texts = list(AWKWARD)
    for path in sys.argv[7:]:
        with open(path, encoding="utf-8", errors="ignore") as text:
            texts += text.read(200000).replace("\0", "").split("\n")
    ours = subprocess.run([encode_ids, tokenizer], input="\0".join(texts).encode() + b"\0", stdout=subprocess.PIPE, check=True)
    ours = [[int(word) for word in line.split()] for line in ours.stdout.decode().split("\n")]
    llama = open_llama(folder)
    model = llama.llama_model_load_from_file(file.encode(), llama.llama_model_default_params())
    if not model:
        sys.exit(f"error: llama.cpp does not open {file}")
    vocabulary = llama.llama_model_get_vocab(model)
    different = []
    for text, want in zip(texts, ours):
        raw = text.encode()
        ids = (ctypes.c_int32 * (len(raw) + 8))()
        count = llama.llama_tokenize(vocabulary, raw, len(raw), ids, len(raw) + 8, False, True)
        if list(ids[:max(count, 0)]) != want:
            different.append(text)
    print(f"{name:<8} {len(texts) - len(different)} of {len(texts)} texts the same", end="")
    print("" if not different else f"; different, e.g.: {different[:3]!r:.200}", flush=True)
    os._exit(1 if different and exact != "0" else 0)  # its libraries' destructors are not ours to wait for


main()
