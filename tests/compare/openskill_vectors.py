"""Writes crates/templar-protocol/vectors/openskill.txt: careers as PyPI's openskill 6.2.0 rates them.

    python3 -m venv venv && venv/bin/pip install openskill==6.2.0
    venv/bin/python tests/compare/openskill_vectors.py > crates/templar-protocol/vectors/openskill.txt

Twelve players meet in 120 matches of two to twelve. A line is a match, a word of it a player: number, place in the match,
and mean and deviation after it. Places with gaps and ties are drawn from a stated generator, so every run writes the same.
"""

import importlib.metadata

from openskill.models import PlackettLuce


class SplitMix:
    def __init__(self, seed):
        self.state = seed

    def below(self, bound):
        mask = 2**64 - 1
        self.state = (self.state + 0x9E3779B97F4A7C15) & mask
        mixed = self.state
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & mask
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & mask
        return (mixed ^ (mixed >> 31)) % bound


def main():
    version = importlib.metadata.version("openskill")
    assert version == "6.2.0", version
    model = PlackettLuce(beta=7.0, tau=0.1)
    players = [model.rating() for _ in range(12)]
    draw = SplitMix(2026)
    print(f"# openskill {version}, PlackettLuce(beta=7, tau=0.1): player:place:mu:sigma for every match")
    for match in range(120):
        # Every tenth match is everybody's, and in every seventh all share one place.
        count = 12 if match % 10 == 9 else 2 + draw.below(11)
        order = list(range(12))
        for index in range(11, 0, -1):
            other = draw.below(index + 1)
            order[index], order[other] = order[other], order[index]
        entrants = order[:count]
        # Low numbers are better players, mostly, so that careers part.
        places = [0 if match % 7 == 6 else (player + draw.below(8)) // 3 for player in entrants]
        rated = model.rate([[players[player]] for player in entrants], ranks=places)
        for player, (rating,) in zip(entrants, rated):
            players[player] = rating
        print(" ".join(f"{p}:{q}:{players[p].mu!r}:{players[p].sigma!r}" for p, q in zip(entrants, places)))


main()
