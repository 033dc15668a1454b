"""What was drawn for each window, as JSON: for whoever wants to look, or to compare with another implementation.

Follows: "Assignment", "Evaluation pages", "Evaluators", "Replays" and the two proofs of manifests/README.md.
"""

from . import draws
from .rules_of_genesis import order_of_tensors


def of_run(run):
    return [of_window(window, run) for window in range(len(run.judgings))]


def of_window(window, run):
    """All keys and hashes as text."""
    judging, pages = run.judgings[window], run.pages[window]
    genesis, drawing, context = run.genesis.body, judging.drawing, run.state.context(window)
    rule, tensors = genesis["gauntlet"], len(order_of_tensors(genesis["model"]))
    assigned = {page for of in pages.values() for page in of}
    all_pages = draws.pages_of(run.state.training_tokens, context.sequence_length)
    contributions = []
    for signed, replayers, evaluators in zip(judging.contributions, judging.replayers, judging.evaluators):
        c, digest = signed.payload.body, signed.payload.id
        trained = pages[c["miner"]][:c["steps"] * context.batch]
        places = {v: draws.place_of_proof(drawing, v, digest, c["steps"], tensors) for v in replayers}
        contributions.append({
            "miner": c["miner"].hex(),
            "replayers": {v.hex(): {"key": key.hex(), "step": step, "tensor": tensor}
                          for v, (key, step, tensor) in places.items()},
            "evaluators": {v.hex(): draws.evaluation_key(drawing, v, digest).hex() for v in evaluators},
            "assigned_pages": draws.assigned_pages(drawing, c["miner"], trained, rule["assigned_pages"]),
        })
    return {
        "seed": drawing.seed.hex(),
        "pages": {miner.hex(): of for miner, of in pages.items()},
        "unassigned_pages": draws.unassigned_pages(drawing, all_pages, assigned, rule["unassigned_pages"]),
        "contributions": contributions,
    }
