"""The model of `shape.json` in PyTorch, eager, trained or evaluated when a line on standard input says so.

A contestant of `tests/compare/step.py`, which says what the lines mean. Attention is PyTorch's fused one, the norm its own, the
optimizer its fused AdamW: the fastest of what eager mode offers on a CPU.
"""

import json
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F


class Llama:
    def __init__(self, folder):
        self.shape = json.loads((folder / "shape.json").read_text())
        flat = torch.frombuffer(bytearray((folder / "parameters.bin").read_bytes()), dtype=torch.float32)
        self.tensors, start = {}, 0
        for name, shape in self.shape["tensors"]:
            size = torch.Size(shape).numel()
            # A copy of its own, as a model that was loaded has.
            self.tensors[name] = flat[start : start + size].view(shape).clone().requires_grad_()
            start += size
        positions = torch.arange(self.shape["sequence_length"], dtype=torch.float64)
        width = self.shape["hidden_size"] // self.shape["heads"]
        exponents = torch.arange(0, width, 2, dtype=torch.float64) / width
        angles = torch.outer(positions, self.shape["rope_theta"] ** -exponents)
        self.cos = torch.cat((angles, angles), -1).cos().float()
        self.sin = torch.cat((angles, angles), -1).sin().float()

    def weight(self, name):
        return self.tensors[name + ".weight"]

    def norm(self, x, name):
        return F.rms_norm(x, (x.shape[-1],), self.weight(name), self.shape["norm_eps"])

    def turn(self, x):
        low, high = x.chunk(2, -1)
        return x * self.cos + torch.cat((-high, low), -1) * self.sin

    def attention(self, x, layer):
        batch, length, hidden = x.shape
        heads, kv_heads = self.shape["heads"], self.shape["kv_heads"]
        width = hidden // heads

        def project(part, count):
            y = F.linear(x, self.weight(f"{layer}.self_attn.{part}_proj"))
            return y.view(batch, length, count, width).transpose(1, 2)

        q, k, v = self.turn(project("q", heads)), self.turn(project("k", kv_heads)), project("v", kv_heads)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        y = y.transpose(1, 2).reshape(batch, length, hidden)
        return F.linear(y, self.weight(f"{layer}.self_attn.o_proj"))

    def feed_forward(self, x, layer):
        gate = F.silu(F.linear(x, self.weight(f"{layer}.mlp.gate_proj")))
        up = F.linear(x, self.weight(f"{layer}.mlp.up_proj"))
        return F.linear(gate * up, self.weight(f"{layer}.mlp.down_proj"))

    def loss(self, tokens):
        inputs, targets = tokens[:, :-1], tokens[:, 1:]
        x = F.embedding(inputs, self.weight("model.embed_tokens"))
        for index in range(self.shape["layers"]):
            layer = f"model.layers.{index}"
            x = x + self.attention(self.norm(x, f"{layer}.input_layernorm"), layer)
            x = x + self.feed_forward(self.norm(x, f"{layer}.post_attention_layernorm"), layer)
        logits = F.linear(self.norm(x, "model.norm"), self.weight("lm_head"))
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def main():
    folder = Path(sys.argv[1])
    print("ready", flush=True)
    sys.stdin.readline()
    model = Llama(folder)
    shape = model.shape
    tokens = torch.frombuffer(bytearray((folder / "tokens.bin").read_bytes()), dtype=torch.int32).long()
    batches = tokens.view(-1, shape["sequences"], shape["sequence_length"] + 1)
    every = list(model.tensors.values())
    groups = [
        {"params": [x for x in every if x.dim() == 2], "weight_decay": 0.1},
        {"params": [x for x in every if x.dim() == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=shape["learning_rate"], betas=(0.9, 0.95), eps=1e-8, fused=True)
    print("loaded", flush=True)
    done = 0
    for line in sys.stdin:
        batch = batches[done % len(batches)]
        start = time.perf_counter()
        if line.strip() == "train":
            optimizer.zero_grad(set_to_none=True)
            loss = model.loss(batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(every, 1.0)
            optimizer.step()
            done += 1
        else:
            with torch.inference_mode():
                loss = model.loss(batch)
        loss = loss.item()
        print(f"{loss:.6f} {time.perf_counter() - start:.6f}", flush=True)


main()
