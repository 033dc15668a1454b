"""Members: who may ask for a slot, who gets one, and what it costs.

Follows: "Registrations" and "Members" of manifests/README.md.
"""

from .hashing import derived, u64
from .rules_of_genesis import PPM
from .schema import variant
from .state import Member


def work_of(run, registration, seed):
    """The work of a registration as a number: the smaller, the more it is worth."""
    certificate = registration["certificate"]
    nonce = certificate["payment"]["hashcash"]["nonce"]
    digest = derived("templar/1 registration work", run, u64(certificate["anchor"]), seed, certificate["owner"],
                     certificate["node"], u64(nonce))
    return int.from_bytes(digest[:16], "big")


def fault(registration, state):
    """Why the state before its window does not allow a registration, or None."""
    certificate = registration["certificate"]
    owner, node, anchor, window = certificate["owner"], certificate["node"], certificate["anchor"], state.window
    way, paid = variant(certificate["payment"])
    slot = state.member(owner)
    if owner in state.expelled:
        return f"{owner.hex()} was expelled"
    if way == "rotation":
        if slot is None:
            return f"{owner.hex()} has no slot, so it has no node key to change"
        if anchor <= state.members[slot].anchor:
            return f"certificate of {owner.hex()} is not newer than the one before window {window} that holds"
    elif slot is not None:
        return f"{owner.hex()} is registered already"
    if any(member.node == node for member in state.members.values()):
        return f"node key {node.hex()} trains for a member already"
    if window - anchor >= state.genesis["registration"]["anchor_windows"] or anchor not in state.seeds:
        return f"certificate of {owner.hex()} was made in window {anchor}, too long before window {window}"
    price = state.prices.get(way)
    if way == "hashcash":
        work = work_of(state.run, registration, state.seeds[anchor])
        if work > (2**128 - 1) // price:
            worth = (2**128 - 1) // max(work, 1)
            return f"work of {owner.hex()} is worth {worth} hashes, and a slot costs {price} in window {window}"
    elif way == "burn":
        amount, free = paid["amount_micros"], state.accounts.get(owner, 0)
        if amount < price:
            return f"{amount} micro-ALPHA are burnt and a slot costs {price}"
        if amount > free:
            return f"account of {owner.hex()} has {free} micro-ALPHA free and {amount} are to be burnt"
    return None


def most_registrations(genesis):
    """How many registrations an honest inbox names at most."""
    of = genesis["registration"]
    return 2 * (of["hashcash"]["per_window"] + of["burn"]["per_window"]) + of["slots"]


def change_merits(state, weights, accepted):
    """The first thing that a record does to the members."""
    windows = state.genesis["registration"]["merit_windows"]
    for slot, member in state.members.items():
        weight = 1000 * weights.get(member.owner, 0)
        moved = abs(weight - member.merit) // windows
        merit = member.merit + moved if weight > member.merit else member.merit - moved
        idle_since = state.window + 1 if member.owner in accepted else member.idle_since
        state.replace_member(slot, merit=merit, idle_since=idle_since)


def admit(registrations, state):
    """Gives slots to the registrations of a cut: [(id, body)]. Gives {owner: verdict} and [(owner, amount)] of those
    that burn for their slot."""
    def order(of):
        name, paid = variant(of[1]["certificate"]["payment"])
        if name == "rotation":
            return (0, 0, of[0])
        if name == "hashcash":
            return (1, work_of(state.run, of[1], state.seeds[of[1]["certificate"]["anchor"]]), of[0])
        return (2, -paid["amount_micros"], of[0])

    rule, verdicts, burns = state.genesis["registration"], {}, []
    joined = {"hashcash": 0, "burn": 0}
    for _, body in sorted(registrations, key=order):
        certificate = body["certificate"]
        owner, node = certificate["owner"], certificate["node"]
        way, paid = variant(certificate["payment"])
        if way != "rotation" and joined[way] >= rule[way]["per_window"]:
            verdicts[owner] = "crowded"
        elif any(member.node == node for member in state.members.values()):
            verdicts[owner] = "node-taken"
        elif way == "rotation":
            verdicts[owner] = "rotated"
            slot = state.member(owner)
            note_former(state, state.members[slot])
            state.replace_member(slot, node=node, anchor=certificate["anchor"])
        else:
            slot, replaced = free_slot(state)
            if slot is None:
                verdicts[owner] = "no-slot"
                continue
            joined[way] += 1
            if replaced:
                note_former(state, state.members[slot])
                state.forget(replaced)
            begins = state.window + 1
            state.members[slot] = Member(owner, node, begins, certificate["anchor"], 0, begins)
            verdicts[owner] = {"joined": {"slot": slot, "replaced": replaced}}
            if way == "burn":
                burns.append((owner, paid["amount_micros"]))
    for way, number in joined.items():
        state.prices[way] = next_price(state.prices[way], number, rule[way])
    return verdicts, burns


def expel(owner, state):
    """Takes the slot of an owner for ever."""
    slot = state.member(owner)
    if slot is not None:
        note_former(state, state.members.pop(slot))


def note_former(state, member):
    state.former_nodes[member.node] = (member.owner, state.window)


def free_slot(state):
    """The slot for a newcomer, and the owner that leaves it, or None."""
    rule = state.genesis["registration"]
    for slot in range(rule["slots"]):
        if slot not in state.members:
            return slot, None

    def can_leave(member):
        is_idle = state.window + 1 - member.idle_since >= rule["idle_windows"]
        return member.first_window + rule["immunity_windows"] <= state.window or is_idle

    leaving = [(m.merit, -m.first_window, -slot, slot) for slot, m in state.members.items() if can_leave(m)]
    if not leaving:
        return None, None
    slot = min(leaving)[3]
    return slot, state.members[slot].owner


def next_price(price, joined, rule):
    for factor in [rule["rise_ppm"]] * joined + [rule["decay_ppm"]]:
        price = min(max(price * factor // PPM, rule["least"]), rule["most"])
    return price
