"""BLAKE3, ed25519, CBOR and trees: against published vectors, and the slow twins against the packages."""

import unittest

from verifier import blake3_twin, cbor, ed25519, hashing, tree
from verifier.cbor import Refused
from verifier.standings import exp_f64, pico

# https://github.com/BLAKE3-team/BLAKE3/blob/master/test_vectors/test_vectors.json: the bytes 0, 1, … 250, 0, … of so
# many, and the first 32 bytes of each of the three modes.
KEY, CONTEXT = b"whats the Elvish word for friend", "BLAKE3 2019-12-27 16:29:52 test vectors context"
VECTORS = {
    0: ("af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
        "92b2b75604ed3c761f9d6f62392c8a9227ad0ea3f09573e783f1498a4ed60d26",
        "2cc39783c223154fea8dfb7c1b1660f2ac2dcbd1c1de8277b0b0dd39b7e50d7d"),
    1: ("2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213",
        "6d7878dfff2f485635d39013278ae14f1454b8c0a3a2d34bc1ab38228a80c95b",
        "b3e2e340a117a499c6cf2398a19ee0d29cca2bb7404c73063382693bf66cb06c"),
    1023: ("10108970eeda3eb932baac1428c7a2163b0e924c9a9e25b35bba72b28f70bd11",
           "c951ecdf03288d0fcc96ee3413563d8a6d3589547f2c2fb36d9786470f1b9d6e",
           "74a16c1c3d44368a86e1ca6df64be6a2f64cce8f09220787450722d85725dea5"),
    1024: ("42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7",
           "75c46f6f3d9eb4f55ecaaee480db732e6c2105546f1e675003687c31719c7ba4",
           "7356cd7720d5b66b6d0697eb3177d9f8d73a4a5c5e968896eb6a689684302706"),
    1025: ("d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444",
           "357dc55de0c7e382c900fd6e320acc04146be01db6a8ce7210b7189bd664ea69",
           "effaa245f065fbf82ac186839a249707c3bddf6d3fdda22d1b95a3c970379bcb"),
    2048: ("e776b6028c7cd22a4d0ba182a8bf62205d2ef576467e838ed6f2529b85fba24a",
           "879cf1fa2ea0e79126cb1063617a05b6ad9d0b696d0d757cf053439f60a99dd1",
           "7b2945cb4fef70885cc5d78a87bf6f6207dd901ff239201351ffac04e1088a23"),
    3073: ("7124b49501012f81cc7f11ca069ec9226cecb8a2c850cfe644e327d22d3e1cd3",
           "68dede9bef00ba89e43f31a6825f4cf433389fedae75c04ee9f0cf16a427c95a",
           "72613c9ec9ff7e40f8f5c173784c532ad852e827dba2bf85b2ab4b76f7079081"),
    7169: ("a003fc7a51754a9b3c7fae0367ab3d782dccf28855a03d435f8cfe74605e7817",
           "ed9b1a922c046fdb3d423ae34e143b05ca1bf28b710432857bf738bcedbfa511",
           "554b0a5efea9ef183f2f9b931b7497995d9eb26f5c5c6dad2b97d62fc5ac31d9"),
}
EXTENDED = ("d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444f4c4a22b4b399155358a994e52bf255de60035742ec71bd08ac275"
            "a1b51cc6bfe332b0ef84b409108cda080e6269ed4b3e2c3f7d722aa4cdc98d16deb554e5627be8f955c98e1d5f9565a9194cad0c4285f93700062d95"
            "95adb992ae68ff12800ab67a")

# RFC 8032, section 7.1: secret key, public key, message, signature.
SIGNATURES = (
    ("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
     "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
     "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e"
     "7a100b"),
    ("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
     "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
     "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612"
     "bb0c00"),
    ("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
     "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
     "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea"
     "1ec40a"),
)


def numbered(length):
    return bytes(i % 251 for i in range(length))


class Hashing(unittest.TestCase):
    def test_the_published_vectors(self):
        for length, (plain, keyed, derived) in VECTORS.items():
            data = numbered(length)
            self.assertEqual(blake3_twin.plain().update(data).digest().hex(), plain)
            self.assertEqual(blake3_twin.keyed(KEY).update(data).digest().hex(), keyed)
            self.assertEqual(blake3_twin.deriving(CONTEXT).update(data).digest().hex(), derived)
        extended = blake3_twin.plain().update(numbered(1025))
        self.assertEqual(extended.digest(131).hex(), EXTENDED)
        self.assertEqual(extended.digest(31, seek=100).hex(), EXTENDED[200:])

    def test_pieces_do_not_matter(self):
        data = numbered(40_000)
        for size in (1, 1000, 1024, 1025, 20_000):
            hasher = blake3_twin.plain()
            for at in range(0, len(data), size):
                hasher.update(data[at:at + size])
            self.assertEqual(hasher.digest(), blake3_twin.plain().update(data).digest(), size)

    @unittest.skipUnless(hashing.package, "the package blake3 is not installed")
    def test_the_package_says_the_same(self):
        for length in [*range(70), 1024, 1025, 5000, 65_536, 65_537, 3_000_000]:
            data = numbered(length)
            self.assertEqual(hashing.package.blake3(data).digest(), blake3_twin.plain().update(data).digest(), length)

    def test_draws_below_a_bound(self):
        draw = hashing.Draw("templar/1 assignment", b"a test")
        numbers = [draw.below(3) for _ in range(3000)]
        self.assertTrue(all(900 < numbers.count(n) < 1100 for n in range(3)))
        again = hashing.Draw("templar/1 assignment", b"a test")
        self.assertEqual([again.below(3) for _ in range(3000)], numbers)


class Signing(unittest.TestCase):
    def test_the_published_vectors(self):
        for secret, key, message, signature in SIGNATURES:
            secret, key, message, signature = map(bytes.fromhex, (secret, key, message, signature))
            self.assertEqual(ed25519.public_key(secret), key)
            self.assertEqual(ed25519.sign(secret, message), signature)
            for verify in (ed25519.verify, ed25519.verify_slowly):
                self.assertTrue(verify(key, message, signature))
                self.assertFalse(verify(key, message + b"!", signature))
                for bit in (0, 255, 300, 511):
                    changed = bytearray(signature)
                    changed[bit // 8] ^= 1 << bit % 8
                    self.assertFalse(verify(key, message, bytes(changed)))

    def test_what_only_strict_rules_refuse(self):
        secret, key, message, signature = map(bytes.fromhex, SIGNATURES[1])
        larger = int.from_bytes(signature[32:], "little") + ed25519.ORDER
        malleable = signature[:32] + larger.to_bytes(32, "little")
        identity = (1).to_bytes(32, "little")
        for verify in (ed25519.verify, ed25519.verify_slowly):
            self.assertFalse(verify(key, message, malleable))
            # With a key of small order any message has a signature.
            self.assertFalse(verify(identity, message, identity + bytes(32)))
            self.assertFalse(verify(key, message, identity + signature[32:]))
        self.assertFalse(ed25519.is_point((2).to_bytes(32, "little")))


class Encoding(unittest.TestCase):
    def test_values_come_back(self):
        for value in (0, 23, 24, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**64 - 1, None, True, False, "", "é",
                      b"", b"x" * 300, [], [1, [2, "a"]], {}, {"a": 1, "b": [], "aa": {"": None}}):
            self.assertEqual(cbor.decode(cbor.encode(value)), value)

    def test_each_other_spelling_is_refused(self):
        for data, reason in (
            ("", "it ends too early"), ("1817", "a number is longer than it must be"),
            ("190017", "a number is longer than it must be"), ("1a0000ffff", "a number is longer than it must be"),
            ("1b00000000ffffffff", "a number is longer than it must be"), ("9f01ff", "a length is left open"),
            ("bf616101ff", "a length is left open"), ("5f4101ff", "a length is left open"),
            ("0000", "bytes follow its end"), ("a2616201616101", "fields are out of order or repeated"),
            ("a2616101616101", "fields are out of order or repeated"),
            ("a26261610161620a", "fields are out of order or repeated"),
            ("61ff", "a text is not UTF-8"), ("81" * 100 + "00", "it is nested too deep"),
            ("20", "head byte 0x20"), ("c100", "head byte 0xc1"), ("f93c00", "head byte 0xf9"), ("f7", "head byte 0xf7"),
            ("f820", "head byte 0xf8"), ("a10001", "head byte 0x00"), ("1c", "head byte 0x1c"),
            ("9b7fffffffffffffff", "it ends too early"), ("5b00000002540be400", "it ends too early"),
            ("bb7fffffffffffffff", "it ends too early"), ("7a40000000", "it ends too early"),
        ):
            with self.assertRaisesRegex(Refused, reason, msg=data):
                cbor.decode(bytes.fromhex(data))

    def test_a_long_announcement_allocates_nothing(self):
        import tracemalloc
        tracemalloc.start()
        for head in (b"\x9b", b"\xbb", b"\x5b", b"\x7b"):
            with self.assertRaises(Refused):
                cbor.decode(head + (10**10).to_bytes(8, "big") + bytes(100))
        self.assertLess(tracemalloc.get_traced_memory()[1], 1 << 20)
        tracemalloc.stop()


class Arithmetic(unittest.TestCase):
    def test_a_tree_of_each_size(self):
        entries = {}
        roots = {tree.root(entries)}
        for number in range(40):
            entries[b"key\0" + number.to_bytes(number % 5 + 1, "big")] = bytes([number])
            roots.add(tree.root(entries))
        self.assertEqual(len(roots), len(entries) + 1)
        self.assertEqual(tree.root({}), bytes(32))
        self.assertEqual(tree.root(dict(reversed(entries.items()))), tree.root(entries))

    def test_the_exponential_function(self):
        import math
        for number in range(-7000, 7000, 7):
            x = number / 10
            self.assertLessEqual(abs(exp_f64(x) - math.exp(x)), 1.5 * math.ulp(math.exp(x)))
        self.assertEqual(exp_f64(0.0), 1.0)
        self.assertEqual(exp_f64(-746.5), 0.0)

    def test_halves_are_rounded_away_from_zero(self):
        self.assertEqual([pico(x * 1e-12) for x in (0.5, 1.5, -0.5, -1.5, 0.25)], [1, 2, -1, -2, 0])
        self.assertEqual(pico(1e9), 9 * 10**15)
