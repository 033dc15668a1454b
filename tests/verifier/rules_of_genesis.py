"""The rules that a genesis keeps beside the types of its fields.

Follows: the table "genesis", the unions RopeScaling, WeightRule and Initial, and "Cheating does not pay" of
manifests/README.md.
"""

import struct

from .schema import OFFENCES, variant

PPM = 10**6


class Broken(Exception):
    """A rule of a kind does not hold. The text names the field."""


def need(holds, text):
    if not holds:
        raise Broken(text)


def at_most(value, limit, name):
    need(value <= limit, f"{name} {value} is above {limit}")


def not_zero(value, name):
    need(value != 0, f"{name} is zero")


def ascii_text(text, name, longest, shortest=0):
    need(all(" " <= letter <= "~" for letter in text), f"{name} holds a byte that is not printable ASCII")
    need(len(text) <= longest, f"{name} is longer than {longest} bytes")
    need(len(text) >= shortest, f"{name} is empty")


def ascending(keys, name, by=""):
    need(all(a < b for a, b in zip(keys, keys[1:])), f"{name} is not strictly ascending{by}")


def from_to(value, least, most, name):
    need(least <= value <= most, f"{name} is not from {least} to {most}")


def float_of(bits):
    return struct.unpack("<f", struct.pack("<I", bits))[0]


def check(g):
    """All rules of a genesis, in the order of its table."""
    ascii_text(g["name"], "name", 64, 1)
    model(g["model"])
    if variant(g["initial"])[0] == "tensors":
        need(1 <= len(g["initial"]["tensors"]) <= 4096, "initial.tensors needs 1 to 4096 blobs")
        tensors = len(order_of_tensors(g["model"]))
        need(len(g["initial"]["tensors"]) == tensors, f"initial.tensors has not the model's {tensors} tensors")
    training(g)
    gauntlet(g)
    need(g["gauntlet"]["spot_checks_ppm"] == 0 or g["state_retention_windows"],
         "gauntlet.spot_checks_ppm needs the model before, and state_retention_windows is 0")
    replay(g["replay"], g["emission"], g["state_retention_windows"])
    emission(g["emission"], g["windows"] or 65537)
    validators(g["validators"])
    registration(g["registration"], g["emission"]["registration_cost_micros"])
    benchmarks(g["benchmarks"])
    if g["gauntlet"]["weights"] == "proven-steps":
        need(g["registration"]["slots"] <= g["outer"]["max_contributions"],
             "registration.slots is above outer.max_contributions: proven-steps would pay for what is not used")
    least = least_cost(g)
    cost = g["emission"]["registration_cost_micros"]
    need(least is not None, "replay: no cost of a slot suffices, cheating pays whatever a slot costs")
    need(cost >= least, f"emission.registration_cost_micros {cost} is below {least}: cheating until it is found pays "
                        "more than that")


def benchmarks(listed):
    need(len(listed) <= 64, "benchmarks has more than 64 entries")
    for benchmark in listed:
        not_zero(benchmark["every_windows"], "benchmarks.every_windows")
        kind, questions = variant(benchmark["measures"])
        if kind == "text":
            continue
        ascii_text(questions["task"], "benchmarks.task", 64, 1)
        need(1 <= len(questions["files"]) <= 64, "benchmarks.files needs 1 to 64 files")
        need(len(questions["example_files"]) <= 64, "benchmarks.example_files has more than 64 files")
        need(questions["limit"] != 0, "benchmarks.limit is zero")
        need((questions["shots"] == 0) == (not questions["example_files"]),
             "benchmarks.shots and benchmarks.example_files belong together")


def model(m):
    for name in ("vocab_size", "hidden_size", "layers", "heads", "kv_heads", "ffn_size", "rope_theta",
                 "sequence_length"):
        not_zero(m[name], f"model.{name}")
    width = m["head_size"]
    if width is None:
        need(m["hidden_size"] % m["heads"] == 0, "model.heads does not divide model.hidden_size")
        width = m["hidden_size"] // m["heads"]
    else:
        need(width * m["heads"] != m["hidden_size"], "model.head_size is hidden_size / heads, which is written as null")
    need(width % 2 == 0 and 0 < width <= 512, f"model: the width of a head, {width}, is not even and at most 512")
    need(m["heads"] % m["kv_heads"] == 0, "model.kv_heads does not divide model.heads")
    eps = m["norm_eps_bits"]
    need(0x00800000 <= eps < 0x7F800000, "model.norm_eps_bits is not a positive normal number")
    rope_scaling(m["rope_scaling"], "model.rope_scaling")


def rope_scaling(scaling, name):
    if scaling is None:
        return
    kind, s = variant(scaling)
    need(s["factor_ppm"] >= PPM, f"{name}.factor_ppm is below {PPM}")
    if kind == "llama3":
        not_zero(s["low_freq_factor_ppm"], f"{name}.low_freq_factor_ppm")
        not_zero(s["original_positions"], f"{name}.original_positions")
        need(s["high_freq_factor_ppm"] > s["low_freq_factor_ppm"], f"{name}: high is not above low")


def batch(of, name):
    not_zero(of["batch_sequences"], f"{name}.batch_sequences")
    micro, whole = of["micro_batch_sequences"], of["batch_sequences"]
    need(micro and whole % micro == 0,
         f"{name}.micro_batch_sequences {micro} does not divide {name}.batch_sequences {whole}")


def training(g):
    inner = g["inner"]
    not_zero(inner["steps"], "inner.steps")
    batch(inner, "inner")
    for beta in ("beta1_ppm", "beta2_ppm"):
        need(inner[beta] < PPM, f"inner.{beta} is not below {PPM}")
    need(0 < inner["eps_bits"] < 0x7F800000, "inner.eps_bits is not a positive finite number")
    not_zero(inner["clip_norm_ppm"], "inner.clip_norm_ppm")
    need(1 <= len(inner["schedule"]) <= 64, "inner.schedule needs 1 to 64 segments")
    for segment in inner["schedule"]:
        not_zero(segment["steps"], "inner.schedule.steps")
        need(max(segment["from_nanos"], segment["to_nanos"]) <= 10**9, "inner.schedule holds a learning rate above 1")
    for context in g["context"]:
        not_zero(context["from_window"], "context.from_window")
        not_zero(context["sequence_length"], "context.sequence_length")
        batch(context, "context")
        rope_scaling(context["rope_scaling"], "context.rope_scaling")
    ascending([context["from_window"] for context in g["context"]], "context")
    compression, outer = g["compression"], g["outer"]
    from_to(compression["block_side"], 1, 1024, "compression.block_side")
    from_to(compression["top_k"], 1, compression["block_side"]**2, "compression.top_k")
    at_most(compression["error_decay_ppm"], PPM, "compression.error_decay_ppm")
    need(outer["schedule"] and outer["schedule"][0]["from_window"] == 0, "outer.schedule does not start at window 0")
    ascending([segment["from_window"] for segment in outer["schedule"]], "outer.schedule")
    not_zero(outer["max_contributions"], "outer.max_contributions")


def gauntlet(g):
    of, outer = g["gauntlet"], g["outer"]
    steps_alone = of["weights"] == "proven-steps"
    for name in ("assigned_pages", "unassigned_pages", "evaluators", "spot_checks_ppm"):
        if steps_alone:
            need(of[name] == 0, f"gauntlet.{name} is {of[name]} and must be 0: proven-steps pays for no measurement")
        elif name != "spot_checks_ppm":
            not_zero(of[name], f"gauntlet.{name}")
    at_most(of["spot_checks_ppm"], PPM, "gauntlet.spot_checks_ppm")
    at_most(of["evaluators"], 64, "gauntlet.evaluators")
    at_most(of["trial_step_ppm"], PPM, "gauntlet.trial_step_ppm")
    not_zero(of["held_out_pages"], "gauntlet.held_out_pages")
    not_zero(of["rating"]["beta_micros"], "gauntlet.rating.beta_micros")
    at_most(of["rating"]["beta_micros"], 10**9, "gauntlet.rating.beta_micros")
    at_most(of["rating"]["tau_micros"], 10**9, "gauntlet.rating.tau_micros")
    not_zero(of["proof"]["decay_ppm"], "gauntlet.proof.decay_ppm")
    at_most(of["proof"]["decay_ppm"], PPM, "gauntlet.proof.decay_ppm")
    at_most(of["proof"]["threshold_ppm"], PPM, "gauntlet.proof.threshold_ppm")
    penalties(of["penalties"])
    at_most(of["copy_memory_windows"], 65536, "gauntlet.copy_memory_windows")
    need(of["exploration_contributions"] <= outer["max_contributions"],
         "gauntlet.exploration_contributions is above outer.max_contributions")
    weight_rule(*variant(of["weights"]))


def penalties(rows):
    need(len(rows) <= 64, f"gauntlet.penalties has {len(rows)} entries, at most 64 are allowed")
    for row in rows:
        name = f"gauntlet.penalties.{row['offence']}"
        most = {"invalid": 1, "mismatch": 1, "out-of-sync": 1, "copied": PPM}.get(row["offence"], 8)
        need(1 <= row["from"] <= most, f"{name}.from is not from 1 to {most}")
        at_most(row["factor_ppm"], PPM, f"{name}.factor_ppm")
        at_most(row["excluded_windows"], 2**32, f"{name}.excluded_windows")
    ascending([(OFFENCES.index(row["offence"]), row["from"]) for row in rows], "gauntlet.penalties",
              " by offence and from")
    for first, second in zip(rows, rows[1:]):
        if first["offence"] == second["offence"]:
            milder = (second["factor_ppm"] > first["factor_ppm"] or second["resets"] < first["resets"]
                      or second["excluded_windows"] < first["excluded_windows"])
            need(not milder, f"gauntlet.penalties.{first['offence']}: {second['from']} is milder than {first['from']}")


def weight_rule(kind, rule):
    name = f"gauntlet.weights.{kind}"
    if kind == "measured-steps":
        at_most(rule["least_ppm"], PPM, f"{name}.least_ppm")
        from_to(rule["most_ppm"], PPM, 10**9, f"{name}.most_ppm")
        not_zero(rule["newest_ppm"], f"{name}.newest_ppm")
        at_most(rule["newest_ppm"], PPM, f"{name}.newest_ppm")
    elif kind == "rank-ramp":
        from_to(rule["places"], 1, 4096, f"{name}.places")
        from_to(rule["ramp_share_ppm"], 1, PPM, f"{name}.ramp_share_ppm")
        at_most(rule["tail_decay_ppm"], PPM, f"{name}.tail_decay_ppm")
        at_most(rule["tail_places"], 4096, f"{name}.tail_places")
        from_to(rule["top_ratio_ppm"], PPM, 10**9, f"{name}.top_ratio_ppm")
    elif kind == "score-power":
        not_zero(rule["exponent"], f"{name}.exponent")
        at_most(rule["exponent"], 3, f"{name}.exponent")


def replay(r, pay, retention):
    at_most(r["fraction_ppm"], PPM, "replay.fraction_ppm")
    at_most(r["least_replays"], 1024, "replay.least_replays")
    if r["before_close"]:
        not_zero(r["least_replays"], "replay.least_replays")
    for name in ("verdict_windows", "challenge_windows"):
        need((r[name] == 0) == r["before_close"], f"replay.{name} is 0 exactly where replay.before_close is true")
        at_most(r[name], 1024, f"replay.{name}")
    both = r["verdict_windows"] + r["challenge_windows"]
    if not r["before_close"]:
        need(both < pay["vesting_windows"], "replay: verdicts and challenges end after pay vests")
        need(both <= retention, "replay: verdicts and challenges end after states are kept")
    at_most(r["expulsion_windows"], 1024, "replay.expulsion_windows")
    at_most(r["absence_ppm"], PPM, "replay.absence_ppm")


def emission(e, windows):
    need(e["per_window_micros"] <= 2**50, "emission.per_window_micros is above 2^50")
    need(e["per_window_micros"] * windows < 2**64, "emission: all windows together mint more than 2^64")
    not_zero(e["target_steps"], "emission.target_steps")
    need(e["miners_ppm"] + e["validators_ppm"] + e["treasury_ppm"] <= PPM,
         f"emission: the parts add up to more than {PPM}")
    at_most(e["replays_ppm"], PPM, "emission.replays_ppm")


def validators(listed):
    need(listed, "validators is empty")
    need(len(listed) <= 4096, f"validators has {len(listed)} entries, at most 4096 are allowed")
    ascending([validator["key"] for validator in listed], "validators")
    for validator in listed:
        not_zero(validator["stake"], "validators.stake")
        need(validator["stake"] <= 2**48, "validators.stake is above 2^48")


def registration(r, cost):
    from_to(r["slots"], 1, 4096, "registration.slots")
    ascending(r["members"], "registration.members")
    need(len(r["members"]) <= r["slots"], "registration.members has more than registration.slots")
    need(r["immunity_windows"] <= 4096, "registration.immunity_windows is above 4096")
    from_to(r["idle_windows"], 1, 4096, "registration.idle_windows")
    from_to(r["merit_windows"], 1, 4096, "registration.merit_windows")
    from_to(r["anchor_windows"], 1, 64, "registration.anchor_windows")
    not_zero(r["hashcash"]["per_window"], "registration.hashcash.per_window")
    for way, largest in (("hashcash", 2**48), ("burn", 2**60)):
        of, name = r[way], f"registration.{way}"
        at_most(of["per_window"], 64, f"{name}.per_window")
        need(1 <= of["least"] <= of["first"] <= of["most"] <= largest,
             f"{name}: prices are not 1 <= least <= first <= most <= {largest}")
        from_to(of["rise_ppm"], PPM, 16 * PPM, f"{name}.rise_ppm")
        from_to(of["decay_ppm"], 1, PPM, f"{name}.decay_ppm")
    least = r["burn"]["least"]
    need(r["burn"]["per_window"] == 0 or least >= cost,
         f"registration.burn.least {least} is below emission.registration_cost_micros {cost}: a slot could be had for "
         "less than it is said to cost")


ONE = 2**60


def divided(a, b):
    """The quotient rounded up."""
    return -(-a // b)


def power(base, exponent):
    """base^exponent in parts of 2^60, by squaring, from the lowest bit of the exponent; each product rounded up."""
    result = ONE
    while exponent:
        if exponent & 1:
            result = divided(result * base, ONE)
        base = divided(base * base, ONE)
        exponent >>= 1
    return result


def most_faulty(stakes):
    """How many validators can hold less than a third of the stake together. `stakes` are ascending."""
    faulty, held = 0, 0
    for stake in stakes:
        held += stake
        if 3 * held >= sum(stakes):
            break
        faulty += 1
    return faulty


def all_faulty(places, stakes):
    """At most how likely it is, in parts of 2^60, that all places fall to faulty validators. `stakes` are ascending."""
    most = most_faulty(stakes)
    if places > most:
        return 0
    whole = sum(stakes)
    faulty = min(sum(stakes[len(stakes) - most:]), divided(whole, 3) - 1)
    bound = ONE
    for place in range(places):
        taken = sum(stakes[:place])
        bound = divided(bound * (faulty - taken), whole - taken)
    return bound


def least_cost(g):
    """The least cost of a slot with which cheating does not pay, or None where no cost is enough."""
    r, e = g["replay"], g["emission"]
    stakes = sorted(validator["stake"] for validator in g["validators"])
    by_chance = power(divided((PPM - r["fraction_ppm"]) * ONE, PPM), len(stakes) - most_faulty(stakes))
    for_places = all_faulty(r["least_replays"], stakes)
    survives = min(by_chance, for_places)
    if survives == 0:
        return 0
    if survives >= ONE or r["expulsion_windows"] == 0:
        return None
    reward = e["per_window_micros"] * e["miners_ppm"] // PPM
    windows = e["vesting_windows"] - r["verdict_windows"] - r["challenge_windows"]
    once = divided(reward * power(survives, max(windows, 0)), ONE - survives)
    later = power(survives, r["expulsion_windows"])
    return 2 * once + divided(once * later, ONE - later)


def order_of_tensors(m):
    """Names and shapes of the model's tensors, in its order."""
    hidden, width = m["hidden_size"], m["head_size"] or m["hidden_size"] // m["heads"]
    queries, keys = m["heads"] * width, m["kv_heads"] * width
    tensors = [("model.embed_tokens.weight", [m["vocab_size"], hidden])]
    for layer in range(m["layers"]):
        for name, shape in (
            ("self_attn.q_proj", [queries, hidden]), ("self_attn.k_proj", [keys, hidden]),
            ("self_attn.v_proj", [keys, hidden]), ("self_attn.o_proj", [hidden, queries]),
            ("mlp.gate_proj", [m["ffn_size"], hidden]), ("mlp.up_proj", [m["ffn_size"], hidden]),
            ("mlp.down_proj", [hidden, m["ffn_size"]]), ("input_layernorm", [hidden]),
            ("post_attention_layernorm", [hidden]),
        ):
            tensors.append((f"model.layers.{layer}.{name}.weight", shape))
    tensors.append(("model.norm.weight", [hidden]))
    if not m["tied_embeddings"]:
        tensors.append(("lm_head.weight", [m["vocab_size"], hidden]))
    return tensors
