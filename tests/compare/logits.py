#!/usr/bin/env python3
"""Models in and out, against transformers: the same logits, and the same bits after a round trip.

    python3 tests/compare/logits.py [--program target/release/examples/logits]

The interpreter needs torch, transformers and safetensors. For each kind of model that the program reads, transformers
makes a small one with random weights, saves it, and computes its logits. The program reads the folder. Its logits must
be within 2e-5 of transformers' (both sum in f32, in other orders; measured: 7e-6 at most, where the logits reach 5), as
training computes them and as generation does.
A model that can be trained is written again; transformers must load the same bits and compute the same logits from
that folder. A model that only generates must be refused for training with the reason that is expected, and a model that
is not read at all must be refused by the name of the key. Kinds that this version of transformers does not know are
skipped, and said.
"""

import argparse
import copy
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

ROOT = Path(__file__).resolve().parents[2]
TOKENS = [1, 7, 60, 33, 2, 2, 61, 19, 45, 8, 3, 50]
TOLERANCE = 2e-5

SMALL = dict(
    vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.2, bos_token_id=1, eos_token_id=2,
)
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}

# Name, class, configuration beside SMALL, how it is saved, and the reason for which it only generates.
KINDS = [
    ("Llama", "Llama", {}, {}, None),
    ("Llama, tied", "Llama", {"tie_word_embeddings": True}, {}, None),
    ("Llama, rope 500000", "Llama", {"rope_theta": 500000.0}, {}, None),
    ("Llama, linear", "Llama", {"rope_scaling": {"rope_type": "linear", "factor": 4.0}}, {}, None),
    ("Llama, llama3", "Llama", {"rope_scaling": LLAMA3, "rope_theta": 500000.0}, {}, None),
    ("Llama, own head width", "Llama", {"head_dim": 16}, {}, None),
    ("Llama, own head width, llama3", "Llama", {"head_dim": 16, "rope_scaling": LLAMA3}, {}, None),
    ("Llama, own head width, tied", "Llama", {"head_dim": 4, "tie_word_embeddings": True}, {}, None),
    ("Llama, own head width, linear", "Llama",
     {"head_dim": 16, "rope_scaling": {"rope_type": "linear", "factor": 2.5}}, {}, None),
    ("Llama, a key for every head", "Llama", {"num_key_value_heads": 4}, {}, None),
    ("Llama, tied, a copy of the head", "Llama", {"tie_word_embeddings": True}, {"copy_head": True}, None),
    ("SmolLM2", "Llama",
     {"tie_word_embeddings": True, "rope_theta": 100000.0, "rms_norm_eps": 1e-5, "bos_token_id": 0, "eos_token_id": 0},
     {"dtype": torch.bfloat16}, None),
    ("Llama, bf16", "Llama", {}, {"dtype": torch.bfloat16}, None),
    ("Llama, f16 in several files", "Llama", {}, {"dtype": torch.float16, "max_shard_size": "20KB"}, None),
    ("Mistral without a window", "Mistral", {"sliding_window": None}, {}, None),
    ("Mistral, window of its context", "Mistral", {"sliding_window": 64, "head_dim": 24}, {}, None),
    ("Mistral, linear", "Mistral",
     {"sliding_window": None, "rope_scaling": {"rope_type": "linear", "factor": 4.0}}, {}, None),
    ("Mistral, tied, f16", "Mistral", {"sliding_window": None, "tie_word_embeddings": True},
     {"dtype": torch.float16}, None),
    ("Mistral, short window", "Mistral", {"sliding_window": 16}, {}, "sliding_window"),
    ("Mistral, short window, head width", "Mistral", {"sliding_window": 12, "head_dim": 24}, {}, "sliding_window"),
    ("Qwen2", "Qwen2", {}, {}, "biases"),
    ("Qwen2, tied", "Qwen2", {"tie_word_embeddings": True}, {}, "biases"),
    ("Qwen2, bf16 in several files", "Qwen2", {"rope_theta": 1000000.0},
     {"dtype": torch.bfloat16, "max_shard_size": "20KB"}, "biases"),
    ("Qwen2, window in some layers", "Qwen2",
     {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1}, {}, "biases"),
    ("Qwen3", "Qwen3", {"head_dim": 16}, {}, "norms"),
    ("Qwen3, tied", "Qwen3", {"head_dim": 8, "tie_word_embeddings": True}, {}, "norms"),
    ("Qwen3, f16", "Qwen3", {"head_dim": 16, "rope_theta": 1000000.0}, {"dtype": torch.float16}, "norms"),
]

# Name, class, configuration beside SMALL, and a word of the error that names what is not computed here.
REFUSED = [
    ("Llama, dynamic", "Llama", {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "dynamic"),
    ("Llama, yarn", "Llama",
     {"rope_scaling": {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 32}}, "yarn"),
    ("Llama, longrope", "Llama",
     {"rope_scaling": {"rope_type": "longrope", "factor": 2.0, "original_max_position_embeddings": 32,
                       "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}}, "longrope"),
    ("Llama, biases of attention", "Llama", {"attention_bias": True}, "attention_bias"),
    ("Llama, biases of the MLP", "Llama", {"mlp_bias": True}, "mlp_bias"),
    ("Llama, gelu", "Llama", {"hidden_act": "gelu"}, "hidden_act"),
    ("Qwen2, linear", "Qwen2", {"rope_scaling": {"rope_type": "linear", "factor": 4.0}}, "rope_scaling"),
    ("Qwen3, biases", "Qwen3", {"head_dim": 8, "attention_bias": True}, "attention_bias"),
    ("Gemma", "Gemma", {"head_dim": 8}, "GemmaForCausalLM"),
    ("Phi3", "Phi3", {"pad_token_id": 0}, "Phi3ForCausalLM"),
]


def config(kind, changes):
    """A configuration of this kind, or nothing where this version does not know it or a part of it."""
    known = getattr(transformers, kind + "Config", None)
    if known is None or getattr(transformers, kind + "ForCausalLM", None) is None:
        return None
    # Some versions write the base into the dictionary that they are given.
    made = known(**(SMALL | copy.deepcopy(changes)))
    if "head_dim" in changes and getattr(made, "head_dim", None) != changes["head_dim"]:
        return None
    return made


def lively(model):
    """Biases and norms that are not all alike, so that leaving one out shows."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.copy_(torch.linspace(0.6, 1.4, len(parameter)) * (1 if "norm" in name else 0.3))


def logits(folder):
    model = AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        return model(torch.tensor([TOKENS])).logits[0].flatten(), model


def difference(ours, theirs):
    return (torch.tensor(ours, dtype=torch.float32) - theirs).abs().max().item()


def check(program, home, row):
    name, kind, changes, saved, reason = row
    made = config(kind, changes)
    if made is None:
        return f"skipped: transformers {transformers.__version__} does not know it"
    torch.manual_seed(1)
    model = getattr(transformers, kind + "ForCausalLM")(made).eval()
    lively(model)
    source, again = home / "source", home / "again"
    saved = dict(saved)
    copies_head = saved.pop("copy_head", False)
    model.to(saved.pop("dtype", torch.float32)).save_pretrained(source, safe_serialization=True, **saved)
    if copies_head:
        weights = source / "model.safetensors"
        tensors = load_file(weights)
        save_file(tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}, weights, {"format": "pt"})
    theirs, loaded = logits(source)
    said = subprocess.run([program, source, again, *map(str, TOKENS)], check=True, capture_output=True, text=True)
    said = json.loads(said.stdout)
    worst = difference(said["generated"], theirs)
    if reason is not None:
        assert said["trained"] is None and reason in said["reason"], said["reason"]
    else:
        assert said["trained"] is not None, said["reason"]
        worst = max(worst, difference(said["trained"], theirs))
        back, written = logits(again)
        assert torch.equal(back, theirs), "transformers computes other logits from the folder that was written"
        ours, original = written.state_dict(), loaded.state_dict()
        assert ours.keys() == original.keys()
        assert all(torch.equal(ours[key], original[key]) for key in ours), "a weight has other bits"
        assert written.config.max_position_embeddings == made.max_position_embeddings
    assert worst < TOLERANCE, f"logits differ by {worst}"
    return f"largest difference {worst:.1e}" + (", generates only" if reason else ", same bits after a round trip")


def check_refused(program, home, row):
    name, kind, changes, word = row
    made = config(kind, changes)
    if made is None:
        return f"skipped: transformers {transformers.__version__} does not know it"
    source = home / "source"
    getattr(transformers, kind + "ForCausalLM")(made).save_pretrained(source, safe_serialization=True)
    said = subprocess.run([program, source, home / "again", "1"], capture_output=True, text=True)
    assert said.returncode == 1 and word in said.stderr, f"not refused by {word}: {said.stdout[:200]}{said.stderr}"
    return f"refused: {said.stderr.strip()[:100]}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", type=Path, default=ROOT / "target/release/examples/logits")
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    getattr(transformers.logging, "disable_progress_bar", lambda: None)()
    failed = 0
    for row in KINDS + REFUSED:
        examine = check if row in KINDS else check_refused
        with tempfile.TemporaryDirectory() as home:
            try:
                result = examine(arguments.program.resolve(), Path(home), row)
            except (AssertionError, subprocess.CalledProcessError) as error:
                failed += 1
                result = f"FAILED: {getattr(error, 'stderr', None) or error}"
        print(f"{row[0]:34} {result}", flush=True)
    print(f"transformers {transformers.__version__}, torch {torch.__version__}: {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
