"""The arithmetic i8x2/1 in integers, without imports: a product's element, and a sum over tokens.

`python3 i8x2.py` computes every vector of `i8x2.txt` beside it and fails where a bit differs. The specification is the
documentation of `templar_numerics::i8x2`. `import i8x2; i8x2.freeze()` writes the file anew, which nobody should need.

A number is the 32 bits of a binary32, as an integer. NaN is None: its bits are not defined.
"""

BLOCK = 128
INFINITY = 0x7F800000


# Numbers of 32 bits.


def value(bits):
    """A finite number as (n, e) with the value n·2^e."""
    exponent = bits >> 23 & 255
    n = bits & 0x7FFFFF | (exponent > 0) << 23
    return (-n if bits >> 31 else n), max(exponent, 1) - 150


def nearest(n, e):
    """The bits of n·2^e, rounded to nearest, ties to even; 0 is +0."""
    if n == 0:
        return 0
    sign, n = n < 0, abs(n)
    # The result has 24 bits, or fewer where it is subnormal.
    dropped = max(n.bit_length() - 24, -149 - e)
    if dropped > 0:
        low, n = n & (1 << dropped) - 1, n >> dropped
        half = 1 << (dropped - 1)
        n += low > half or low == half and n & 1
        e += dropped
    else:
        n, e = n << -dropped, e + dropped
    if n == 1 << 24:
        n, e = n >> 1, e + 1
    bits = n if n < 1 << 23 else (e + 150 << 23) + (n - (1 << 23))
    return min(bits, INFINITY) | sign << 31


def add(bits, n, e):
    """bits + n·2^e, where n·2^e is finite."""
    if bits is None or bits & 0x7FFFFFFF == INFINITY:
        return bits
    m, f = value(bits)
    low = min(e, f)
    return nearest((m << f - low) + (n << e - low), low)


# Blocks.


def exponent(block):
    return (max((x & 0x7FFFFFFF for x in block), default=0) + 0x10100) >> 23


def quantise(block, E):
    """The integers q of a block, and its scale as a power of two; None where it is out of range."""
    if E >= 187:
        return [0] * len(block), None
    if E < 74:
        return [0] * len(block), 0
    integers = []
    for x in block:
        n, e = value(x)
        dropped = E - 141 - e
        low, q = abs(n) & (1 << dropped) - 1, abs(n) >> dropped
        half = 1 << (dropped - 1)
        q += low > half or low == half and q & 1
        assert q <= 32639
        integers.append(-q if n < 0 else q)
    return integers, E - 137


def limbs(q):
    high = (q + 128) // 256
    low = q - 256 * high
    assert -127 <= high <= 127 and -128 <= low <= 127
    return high, low


def step(c, a, b):
    """C after one block; a and b are results of `quantise`."""
    (a, a_scale), (b, b_scale) = a, b
    if a_scale is None or b_scale is None:
        return None
    high = cross = 0
    for x, y in zip(a, b):
        (x_high, x_low), (y_high, y_low) = limbs(x), limbs(y)
        high += x_high * y_high
        cross += x_high * y_low + x_low * y_high
        assert abs(high) < 1 << 21 and abs(cross) < 1 << 22
    n, e = value(nearest(256 * high + cross, 0))
    return add(c, n, e + a_scale + b_scale)


def product(a, b, c):
    """One element of C: a row of op(A), a column of op(B), the beginning."""
    for k in range(0, len(a), BLOCK):
        x, y = a[k : k + BLOCK], b[k : k + BLOCK]
        c = step(c, quantise(x, exponent(x)), quantise(y, exponent(y)))
    return c


def over_tokens(p, y, c):
    """One row of C: c + Σ p[t]·y[t], where the rows y are quantised along their width."""
    out = []
    for column in range(len(c)):
        first = column // BLOCK * BLOCK
        moved, integers, valid = [], [], []
        for weight, row in zip(p, y):
            block = row[first : first + BLOCK]
            E = exponent(block)
            q, _ = quantise(block, E)
            integers.append(q[column - first])
            n, e = value(weight)
            # Where it is out of range the factor is NaN, but zero times it is zero.
            valid.append(n == 0 or E < 187)
            moved.append(0 if n == 0 or not 74 <= E < 187 else nearest(n, e + E - 127))
        result = c[column]
        for k in range(0, len(p), BLOCK):
            x = moved[k : k + BLOCK]
            block = quantise(x, exponent(x)) if all(valid[k : k + BLOCK]) else ([0] * len(x), None)
            result = step(result, block, (integers[k : k + BLOCK], -10))
        out.append(result)
    return out


# The file: `HEX`, `HEX*count`, or `random:seed:low:high:count` for numbers with exponents from low to high.


def random(seed, low, high, count):
    """SplitMix64: the sign, the exponent and the significand of each number from 64 bits."""
    numbers = []
    for _ in range(count):
        seed = seed + 0x9E3779B97F4A7C15 & (1 << 64) - 1
        z = (seed ^ seed >> 30) * 0xBF58476D1CE4E5B9 & (1 << 64) - 1
        z = (z ^ z >> 27) * 0x94D049BB133111EB & (1 << 64) - 1
        z ^= z >> 31
        numbers.append(z >> 63 << 31 | low + (z >> 32 & 0xFFFF) % (high - low + 1) << 23 | z & 0x7FFFFF)
    return numbers


def numbers(text):
    found = []
    for part in text.split():
        if part.startswith("random:"):
            found += random(*(int(field) for field in part.split(":")[1:]))
        else:
            bits, _, count = part.partition("*")
            found += [int(bits, 16)] * int(count or 1)
    return found


def result(case):
    a, b, c = (numbers(case[field]) for field in "abc")
    if case["kind"] == "product":
        return [product(a, b, c[0])]
    width = len(c)
    return over_tokens(a, [b[t : t + width] for t in range(0, len(b), width)], c)


def spelled(bits):
    return "nan" if bits is None else f"{bits:08x}"


def read(text):
    cases = []
    for line in text.splitlines():
        field, _, rest = line.partition(" ")
        if field in ("product", "tokens"):
            cases.append({"kind": field, "name": rest})
        elif field in ("a", "b", "c", "out"):
            cases[-1][field] = rest
    return cases


def check():
    cases = read(open(__file__.replace(".py", ".txt")).read())
    for case in cases:
        found = " ".join(spelled(bits) for bits in result(case))
        if found != case["out"]:
            raise SystemExit(f"{case['name']}: {found}, not {case['out']}")
    print(f"{len(cases)} vectors agree")


def freeze():
    cases = read(open(__file__.replace(".py", ".txt")).read())
    with open(__file__.replace(".py", ".txt"), "w") as file:
        file.write("# Vectors of the arithmetic i8x2/1; `i8x2.py` says what the fields mean.\n")
        for case in cases:
            file.write(f"\n{case['kind']} {case['name']}\na {case['a']}\nb {case['b']}\nc {case['c']}\n")
            file.write("out " + " ".join(spelled(bits) for bits in result(case)) + "\n")


if __name__ == "__main__":
    check()
