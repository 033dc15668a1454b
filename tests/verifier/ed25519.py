"""Ed25519 (RFC 8032) with strict verification.

Follows: "Signatures" of manifests/README.md. Where the PyPI package `cryptography` is installed it verifies, after the
rules that it does not have were checked here; otherwise the curve below does. Both say the same, which tests check.
The curve is slow and takes no care to run in constant time: it may verify anything, and sign only with keys of demos.
"""

import hashlib
from functools import lru_cache

try:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
except ImportError:
    Ed25519PublicKey = None

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)
IDENTITY = (0, 1, 1, 0)


def add(p, q):
    """The sum of two points (X, Y, Z, T) with x = X/Z, y = Y/Z, x·y = T/Z. The formula has no exceptions."""
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def multiply(number, point):
    result = IDENTITY
    while number:
        if number & 1:
            result = add(result, point)
        point = add(point, point)
        number >>= 1
    return result


def multiples_of_base():
    """B, 2·B, 4·B, …: with them a multiple of the base point takes additions alone."""
    points = [BASE]
    while len(points) < 256:
        points.append(add(points[-1], points[-1]))
    return points


def multiply_base(number):
    result = IDENTITY
    for place in range(number.bit_length()):
        if number >> place & 1:
            result = add(result, MULTIPLES[place])
    return result


def is_identity(point):
    return point[0] % P == 0 and (point[1] - point[2]) % P == 0


def decode(data):
    """The point of 32 bytes, or None. A y of p or more is reduced, as the strict rules of manifests/README.md say."""
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, (y & (2**255 - 1)) % P
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT_OF_MINUS_ONE % P
    if (x * x - square) % P:
        return None
    if x & 1 != sign:
        x = -x % P
    return (x, y, 1, x * y % P)


def encode(point):
    inverse = pow(point[2], P - 2, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


BASE = decode((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))
MULTIPLES = multiples_of_base()


def torsion():
    """The y of the eight points of small order. Such a point is left of any point that is multiplied with the order."""
    for start in range(2, 100):
        point = decode(start.to_bytes(32, "little"))
        left = multiply(ORDER, point) if point else IDENTITY
        if not is_identity(multiply(4, left)):
            return frozenset(y_of(encode(multiply(n, left))) for n in range(8))


def y_of(data):
    return (int.from_bytes(data, "little") & (2**255 - 1)) % P


SMALL_ORDER = torsion()


@lru_cache(maxsize=4096)
def is_point(key):
    """Whether the bytes of a key are a point of the curve."""
    return decode(key) is not None


def is_strict(key, signature):
    """The rules that a library may lack: s is below the order, and neither A nor R is of small order. (An R that is no
    point is not the encoding of the point that the equation gives.)"""
    if not is_point(key) or int.from_bytes(signature[32:], "little") >= ORDER:
        return False
    return y_of(key) not in SMALL_ORDER and y_of(signature[:32]) not in SMALL_ORDER


def verify_slowly(key, message, signature):
    """Strict verification with the curve above."""
    if len(key) != 32 or len(signature) != 64 or not is_strict(key, signature):
        return False
    digest = hashlib.sha512(signature[:32] + key + message).digest()
    challenge = int.from_bytes(digest, "little") % ORDER
    x, y, z, t = decode(key)
    s = int.from_bytes(signature[32:], "little")
    expected = add(multiply_base(s), multiply(challenge, (-x % P, y, z, -t % P)))
    return encode(expected) == signature[:32]


def verify(key, message, signature):
    """Whether the signature of `message` by `key` is strictly valid."""
    if Ed25519PublicKey is None:
        return verify_slowly(key, message, signature)
    if len(key) != 32 or len(signature) != 64 or not is_strict(key, signature):
        return False
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
        return True
    except (InvalidSignature, ValueError):
        return False


def secret_scalar(secret):
    digest = hashlib.sha512(secret).digest()
    scalar = int.from_bytes(digest[:32], "little") & ~7 & (2**255 - 1) | 1 << 254
    return scalar & (2**255 - 1), digest[32:]


def public_key(secret):
    return encode(multiply_base(secret_scalar(secret)[0]))


def sign(secret, message):
    """The signature of `message` by the secret key of 32 bytes."""
    scalar, prefix = secret_scalar(secret)
    key = encode(multiply_base(scalar))
    nonce = int.from_bytes(hashlib.sha512(prefix + message).digest(), "little") % ORDER
    r = encode(multiply_base(nonce))
    challenge = int.from_bytes(hashlib.sha512(r + key + message).digest(), "little") % ORDER
    return r + ((nonce + challenge * scalar) % ORDER).to_bytes(32, "little")
