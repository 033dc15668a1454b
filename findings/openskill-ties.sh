#!/usr/bin/env bash
# OpenSkill 6.1.3 rates a tie as a win for everybody; 6.2.0 does not.
#
# Expected: a tie between two equal players leaves both means where they were, in every release.
# Observed: with PlackettLuce of 6.1.3 both players gain as much as the winner of a decided match. Any number of equal players
#   that tie all rise. 6.2.0 leaves the means alone. Decided matches give the same numbers in both releases.
# Matters:  ratings of miners, models or arenas cannot be recomputed with another minor release where ties occur, and with 6.1.3 a
#   group raises its ratings by agreeing to tie.
# Seen:     2026-11-30, Python 3.11 on Linux (beta 7, tau 0.1, fresh ratings of mean 25):
#   openskill 6.1.3: win 27.256209 22.743791 | tie of 2 27.256209 27.256209 | tie of 5 27.283123 each
#   openskill 6.2.0: win 27.256209 22.743791 | tie of 2 25.000000 25.000000 | tie of 5 25.000000 each
# Needs:    python3 with venv.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cat > "$dir/rate.py" <<'PY'
import importlib.metadata

from openskill.models import PlackettLuce

model = PlackettLuce(beta=7, tau=0.1)


def means(ranks):
    rated = model.rate([[model.rating()] for _ in ranks], ranks=ranks)
    return [team[0].mu for team in rated]


win, tie, five = means([1, 2]), means([1, 1]), means([1] * 5)
version = importlib.metadata.version("openskill")
print(
    f"openskill {version}: win {win[0]:.6f} {win[1]:.6f} | tie of 2 {tie[0]:.6f} {tie[1]:.6f} | tie of 5 {five[0]:.6f} each"
)
assert max(five) - min(five) < 1e-12
if version == "6.1.3":
    assert tie == [win[0], win[0]] and five[0] > 27, "changed: a tie is not rated as a win any more"
else:
    assert max(abs(mean - 25) for mean in tie + five) < 1e-9, "changed: a tie moves the means"
PY
for version in 6.1.3 6.2.0; do
    python3 -m venv "$dir/$version"
    "$dir/$version/bin/pip" install --quiet "openskill==$version"
    "$dir/$version/bin/python" "$dir/rate.py"
done
