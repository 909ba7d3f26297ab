#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Read a GGUF file with GGUF's own Python package and write it again with that package's writer: the same keys and tensors, but every
byte of the container is theirs. `--normalised` sets qwen3moe.expert_weights_norm. usage: gguf_repack.py FROM TO [--normalised]"""
import sys

import gguf

reader = gguf.GGUFReader(sys.argv[1])
field = reader.fields["general.architecture"]
writer = gguf.GGUFWriter(sys.argv[2], field.contents())
for name, field in reader.fields.items():
    if name.startswith("GGUF.") or name == "general.architecture":
        continue
    value = field.contents()
    kind = field.types[0]
    if name.endswith(".expert_weights_norm") and "--normalised" in sys.argv:
        value = True
    if kind == gguf.GGUFValueType.ARRAY:
        if len(value):
            writer.add_array(name, value)
        else:
            writer.add_key_value(name, value, kind, sub_type=field.types[-1])
    else:
        writer.add_key_value(name, value, kind)
for tensor in reader.tensors:
    writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
