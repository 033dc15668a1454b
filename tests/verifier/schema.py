"""The fields of the fourteen kinds of payloads, and their types.

Follows: the tables under "Kinds" and "Unions" of manifests/README.md. A test reads those tables and compares every
field and variant with the ones here. What else must hold of the values is in `rules.py`.
"""

from .cbor import Refused, encode, other_type


class Type:
    def check(self, value):
        """Raises `Refused` if the value is not of this type."""
        if not self.holds(value):
            raise other_type(encode(value)[0])


class Number(Type):
    def __init__(self, bits):
        self.bits, self.name = bits, f"u{bits}"

    def holds(self, value):
        if type(value) is int and value >= 1 << self.bits:
            raise Refused("a number is too large for its field")
        return type(value) is int


class Plain(Type):
    """Text, bytes of any length, or a truth value."""

    def __init__(self, name, of):
        self.name, self.of = name, of

    def holds(self, value):
        return type(value) is self.of


class Bytes(Type):
    """A hash, a key or a signature."""

    def __init__(self, name, length):
        self.name, self.length = name, length

    def holds(self, value):
        if type(value) is bytes and len(value) != self.length:
            raise Refused(f"invalid length {len(value)}, expected {self.length} bytes")
        return type(value) is bytes


class Known(Type):
    """Text that is one of a few names, as `f32/1`."""

    name = "text"

    def __init__(self, what, *names):
        self.what, self.names = what, names

    def holds(self, value):
        if type(value) is str and value not in self.names:
            known = ", ".join(f'"{name}"' for name in self.names)
            raise Refused(f'{self.what} "{value}" is not known; this version has {known}')
        return type(value) is str


class Maybe(Type):
    def __init__(self, inner):
        self.inner, self.name = inner, f"{inner.name} or null"

    def check(self, value):
        if value is not None:
            self.inner.check(value)


class List(Type):
    def __init__(self, inner):
        self.inner, self.name = inner, f"list of {inner.name}"

    def holds(self, value):
        return type(value) is list

    def check(self, value):
        super().check(value)
        for element in value:
            self.inner.check(element)


class Map(Type):
    name = "map"

    def __init__(self, **fields):
        self.fields = fields

    def holds(self, value):
        return type(value) is dict

    def check(self, value):
        super().check(value)
        for name in value:
            if name not in self.fields:
                raise Refused(f"unknown field `{name}`")
        for name, inner in self.fields.items():
            if name not in value:
                raise Refused(f"missing field `{name}`")
            inner.check(value[name])


class Union(Type):
    """A name alone, or a map of one field, its name, where the variant has content."""

    def __init__(self, name, *bare, **full):
        self.name, self.bare = f"union {name}", tuple(variant.replace("_", "-") for variant in bare)
        self.full = {variant.replace("_", "-"): inner for variant, inner in full.items()}

    def check(self, value):
        if type(value) is str and value in self.bare:
            return
        if type(value) is dict and len(value) == 1 and set(value) <= set(self.full):
            return self.full[next(iter(value))].check(next(iter(value.values())))
        if type(value) not in (str, dict):
            raise other_type(encode(value)[0])
        name = value if type(value) is str else ", ".join(value)
        raise Refused(f"unknown variant `{name}` of {self.name[6:]}")


def variant(value):
    """Name and content of a union's value."""
    return (value, None) if type(value) is str else next(iter(value.items()))


U32, U64 = Number(32), Number(64)
TEXT, BOOL, ANY_BYTES = Plain("text", str), Plain("bool", bool), Plain("bytes", bytes)
HASH, KEY, SIGNATURE = Bytes("hash", 32), Bytes("key", 32), Bytes("signature", 64)

ROPE_SCALING = Union("RopeScaling", linear=Map(factor_ppm=U32), llama3=Map(
    factor_ppm=U32, low_freq_factor_ppm=U32, high_freq_factor_ppm=U32, original_positions=U32))
MEASURES = Union("Measures", text=HASH, questions=Map(
    task=TEXT, files=List(HASH), limit=Maybe(U64), shots=U32, example_files=List(HASH)))
INITIAL = Union("Initial", seed=HASH, tensors=List(HASH))
PAYMENT = Union("Payment", "rotation", hashcash=Map(nonce=U64), burn=Map(amount_micros=U64))
ADMITTED = Union("Admitted", "rotated", "crowded", "no-slot", "node-taken",
                 joined=Map(slot=U32, replaced=Maybe(KEY)))
SEGMENT_SHAPE = Union("SegmentShape", "linear", "cosine")
REFUSAL = Union("Refusal", "withheld", "not-replayed", malformed=Map(error=TEXT), wrong_claim=Map(field=TEXT),
                mismatch=Map(step=U32, tensor=TEXT))
REPLAY = Union("Replay", "not-drawn", "match", refused=REFUSAL)
LOSSES = Map(assigned_before_nanonats=U64, assigned_after_nanonats=U64,
             unassigned_before_nanonats=U64, unassigned_after_nanonats=U64)
EVALUATION = Union("Evaluation", "not-drawn", "untried", measured=Map(losses=LOSSES, claim=HASH, witnesses=List(U64)))
OFFENCES = ("missing", "withheld", "withheld-often", "invalid", "mismatch", "out-of-sync", "negative",
            "negative-often", "copied")
OFFENCE = Union("Offence", *OFFENCES)
WEIGHT_RULE = Union(
    "WeightRule", "proven-steps", score_power=Map(exponent=U32),
    measured_steps=Map(least_ppm=U32, most_ppm=U32, newest_ppm=U32),
    rank_ramp=Map(places=U32, ramp_share_ppm=U32, tail_decay_ppm=U32, tail_places=U32, top_ratio_ppm=U32))
VERDICT = Union("Verdict", "aggregated", "reserve", "excluded", refused=REFUSAL)
VOTE_ON = Union("VoteOn", "cut", "reveals", "window")
VOTE_STEP = Union("VoteStep", "prevote", "precommit")
MINT_KINDS = ("miner", "evaluations", "replays", "treasury")
MINT_KIND = Union("MintKind", *MINT_KINDS)
SLASH_CAUSES = ("mismatch", "expulsion", "absence", "contradiction", "unanswered", "falsehood")
SLASH_CAUSE = Union("SlashCause", *SLASH_CAUSES)
STATEMENTS = ("replay", "evaluation", "contest")
STATEMENT = Union("Statement", *STATEMENTS)
AUDIT_VERDICT = Union("AuditVerdict", "match", mismatch=Map(what=TEXT), unavailable=Map(what=TEXT))

PROOF = Map(claim=HASH, witnesses=List(U64))
REVEALS = List(Map(validator=KEY, value=HASH))
TENSORS = List(Map(spec=Map(name=TEXT, shape=List(U64)), blob=HASH))
PRICES = dict(per_window=U32, first=U64, least=U64, most=U64, rise_ppm=U32, decay_ppm=U32)
SHARDS = List(Map(blob=HASH, tokens=U64))
STATED = Map(payload=ANY_BYTES, signer=KEY, signature=SIGNATURE)
CERTIFICATE = Map(owner=KEY, node=KEY, anchor=U64, payment=PAYMENT)

KINDS = {
    "genesis": Map(
        name=TEXT,
        arithmetic=Known("arithmetic", "f32/1", "i8x2/1"),
        model=Map(vocab_size=U32, hidden_size=U32, layers=U32, heads=U32, head_size=Maybe(U32), kv_heads=U32,
                  ffn_size=U32, rope_theta=U32, rope_scaling=Maybe(ROPE_SCALING), norm_eps_bits=U32,
                  tied_embeddings=BOOL, sequence_length=U32, position_limit=Maybe(U32)),
        initial=INITIAL,
        tokenizer=HASH,
        dataset=HASH,
        inner=Map(steps=U32, batch_sequences=U32, micro_batch_sequences=U32, beta1_ppm=U32, beta2_ppm=U32,
                  eps_bits=U32, weight_decay_ppm=U32, clip_norm_ppm=U32,
                  schedule=List(Map(steps=U64, from_nanos=U64, to_nanos=U64, shape=SEGMENT_SHAPE))),
        context=List(Map(from_window=U64, sequence_length=U32, batch_sequences=U32, micro_batch_sequences=U32,
                         rope_theta=U32, rope_scaling=Maybe(ROPE_SCALING))),
        compression=Map(block_side=U32, top_k=U32, error_decay_ppm=U32,
                        quantiser=Known("quantiser", "templar4", "block-sign", "block-levels")),
        outer=Map(rule=Known("aggregation rule", "mean-of-all", "mean-of-senders"),
                  schedule=List(Map(from_window=U64, learning_rate_ppm=U32)), max_contributions=U32,
                  null_windows=U64),
        gauntlet=Map(assigned_pages=U32, unassigned_pages=U32, evaluators=U32, spot_checks_ppm=U32, trial_step_ppm=U32,
                     held_out_pages=U32, rating=Map(beta_micros=U32, tau_micros=U32),
                     proof=Map(decay_ppm=U32, threshold_ppm=U32, warm_up_windows=U64),
                     penalties=List(Map(offence=OFFENCE, factor_ppm=U32, resets=BOOL, excluded_windows=U64,
                                        **{"from": U32})),
                     copy_memory_windows=U64, exploration_contributions=U32, weights=WEIGHT_RULE),
        replay=Map(before_close=BOOL, fraction_ppm=U32, least_replays=U32, verdict_windows=U64, challenge_windows=U64,
                   expulsion_windows=U64, absence_ppm=U32),
        deadlines=Map(commit_ms=U64, reveal_ms=U64, judge_ms=U64),
        emission=Map(per_window_micros=U64, target_steps=U64, miners_ppm=U32, validators_ppm=U32, treasury_ppm=U32,
                     replays_ppm=U32, vesting_windows=U64, registration_cost_micros=U64),
        validators=List(Map(key=KEY, stake=U64, chain_anchor=HASH)),
        registration=Map(slots=U32, members=List(KEY), immunity_windows=U64, idle_windows=U64, merit_windows=U64,
                         anchor_windows=U64, hashcash=Map(**PRICES), burn=Map(**PRICES)),
        state_retention_windows=U64, state_reset_every=U64, windows=U64,
        benchmarks=List(Map(every_windows=U64, measures=MEASURES))),
    "dataset": Map(
        name=TEXT, licence=TEXT, source=TEXT, tokenizer=HASH, vocab_size=U32, end_token=U32, start_token=Maybe(U32),
        chat_template=Maybe(HASH), token_bytes=U32, documents=U64, shard_tokens=U64,
        held_out=Map(block_tokens=U64, every=U64), training=SHARDS, validation=SHARDS),
    "contribution": Map(
        run=HASH, window=U64, miner=KEY, parent=Maybe(HASH), state_in=HASH, state_out=HASH, delta=HASH,
        delta_bytes=U64, trace=HASH, trace_bytes=U64, steps=U32, tokens=U64, loss_nanonats=U64),
    "registration": Map(run=HASH, window=U64, certificate=CERTIFICATE, owner_signature=SIGNATURE),
    "inbox": Map(run=HASH, window=U64, validator=KEY, contributions=List(Map(miner=KEY, contribution=HASH)),
                 registrations=List(Map(owner=KEY, registration=HASH))),
    "cut": Map(run=HASH, window=U64, inboxes=List(HASH), contributions=List(Map(miner=KEY, contribution=HASH)),
               registrations=List(Map(owner=KEY, registration=HASH))),
    "reveals": Map(run=HASH, window=U64, cut=HASH, reveals=REVEALS),
    "score": Map(
        run=HASH, window=U64, validator=KEY, cut=HASH, seed=HASH,
        entries=List(Map(miner=KEY, contribution=HASH, replay=REPLAY, proof=Maybe(PROOF), evaluation=EVALUATION,
                         body=Maybe(HASH), nearest=Maybe(KEY), overlap_ppm=U32)),
        verdicts=List(Map(window=U64, miner=KEY, contribution=HASH, replay=REPLAY, proof=Maybe(PROOF))),
        evidence=List(Map(signer=KEY, window=U64, first=STATED, second=STATED)),
        contests=List(Map(miner=KEY, contribution=HASH, found=Maybe(LOSSES)))),
    "window": Map(run=HASH, window=U64, previous=Maybe(HASH), checkpoint=HASH, body_root=HASH, state_root=HASH,
                  validators_root=HASH),
    "body": Map(
        run=HASH, window=U64, checkpoint_before=HASH, cut=HASH, reveals=REVEALS, seed=HASH, scores=List(HASH),
        outcomes=List(Map(miner=KEY, contribution=HASH, verdict=VERDICT, losses=Maybe(LOSSES))),
        weights=List(Map(miner=KEY, weight_ppm=U32)),
        mints=List(Map(account=KEY, kind=MINT_KIND, amount_micros=U64)),
        refuted=List(Map(validator=KEY, score=HASH, window=U64, miner=KEY, statement=STATEMENT)),
        burns=List(Map(account=KEY, cause=SLASH_CAUSE, window=U64, amount_micros=U64)),
        challenges=List(Map(window=U64, miner=KEY, contribution=HASH, since=U64)),
        admissions=List(Map(owner=KEY, registration=HASH, verdict=ADMITTED)),
        aggregate=HASH, aggregate_bytes=U64, held_out_loss_nanonats=U64),
    "vote": Map(run=HASH, window=U64, on=VOTE_ON, attempt=U32, step=VOTE_STEP, value=Maybe(HASH)),
    "checkpoint": Map(run=HASH, window=U64, tensors=TENSORS),
    "state": Map(run=HASH, optimizer_steps=U64, tensors=TENSORS),
    "audit": Map(
        run=HASH, window=U64, record=HASH, auditor=KEY, record_verdict=AUDIT_VERDICT,
        checkpoint_verdict=AUDIT_VERDICT, ledger_verdict=AUDIT_VERDICT,
        contributions=List(Map(miner=KEY, contribution=HASH, verdict=AUDIT_VERDICT))),
}

# These kinds belong to no run.
WITHOUT_RUN = ("genesis", "dataset")
