// BLAKE3 of ranges of buffers, all ranges in one launch.
//
// A message is the range in a first buffer, then in a second, then in a third (`parts` of them). A group of 256 takes 256
// chunks of 1 KiB and joins their values to one; where a message has more, the second kernel joins those of its groups.
// Pairs are joined level by level, and an odd last value moves up: that is BLAKE3's tree.

CONSTANT u32 B3_IV[8] = {0x6a09e667u, 0xbb67ae85u, 0x3c6ef372u, 0xa54ff53au, 0x510e527fu, 0x9b05688cu, 0x1f83d9abu, 0x5be0cd19u};
CONSTANT unsigned char B3_ORDER[16] = {2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8};
#define B3_START 1u
#define B3_END 2u
#define B3_PARENT 4u
#define B3_ROOT 8u
#define B3_GROUP 256u
#define B3_CHUNK 256u

DEVICE u32 turn(u32 x, u32 by) { return x >> by | x << (32 - by); }
#define MIX(a, b, c, d, x, y)                                                                                           \
    a += b + x; d = turn(d ^ a, 16); c += d; b = turn(b ^ c, 12); a += b + y; d = turn(d ^ a, 8); c += d; b = turn(b ^ c, 7);

DEVICE void b3_compress(u32 *value, u32 *m, u64 counter, u32 length, u32 flags) {
    u32 v[16], t[16];
    for (u32 i = 0; i < 8; i++) v[i] = value[i];
    for (u32 i = 0; i < 4; i++) v[8 + i] = B3_IV[i];
    v[12] = (u32)counter; v[13] = (u32)(counter >> 32); v[14] = length; v[15] = flags;
    for (u32 round = 0; round < 7; round++) {
        MIX(v[0], v[4], v[8], v[12], m[0], m[1]) MIX(v[1], v[5], v[9], v[13], m[2], m[3])
        MIX(v[2], v[6], v[10], v[14], m[4], m[5]) MIX(v[3], v[7], v[11], v[15], m[6], m[7])
        MIX(v[0], v[5], v[10], v[15], m[8], m[9]) MIX(v[1], v[6], v[11], v[12], m[10], m[11])
        MIX(v[2], v[7], v[8], v[13], m[12], m[13]) MIX(v[3], v[4], v[9], v[14], m[14], m[15])
        for (u32 i = 0; i < 16; i++) t[i] = m[B3_ORDER[i]];
        for (u32 i = 0; i < 16; i++) m[i] = t[i];
    }
    for (u32 i = 0; i < 8; i++) value[i] = v[i] ^ v[i + 8];
}

// The parent of two values that lie one after the other; `key` is the IV, or the key of a keyed hash.
DEVICE void b3_parent(u32 *value, u32 *pair, GLOBAL const u32 *key, u32 flags) {
    for (u32 i = 0; i < 8; i++) value[i] = key[i];
    b3_compress(value, pair, 0, 64, flags | B3_PARENT);
}

// `ranges` is as in rows.cl. `flags` is 16 for a keyed hash. A value goes to values[group], or the message's hash to hashes[message].
KERNEL void b3_groups(GLOBAL const u32 *a, GLOBAL const u32 *b, GLOBAL const u32 *c, u32 parts, GLOBAL const u64 *ranges,
                      u32 messages, GLOBAL const u32 *key, u32 flags, GLOBAL u32 *values, GLOBAL u32 *hashes) {
    LOCAL_ARRAY u32 level[B3_GROUP][8];
    u32 thread = ID(0), group = GROUP(0), message = range_of(group, ranges, messages);
    u64 start = ranges[3 * message], part = ranges[3 * message + 1], words = part * parts;
    u64 chunks = words == 0 ? 1 : (words + B3_CHUNK - 1) / B3_CHUNK, first_chunk = (group - ranges[3 * message + 2]) * B3_GROUP;
    u64 chunk = first_chunk + thread;
    u32 count = chunks - first_chunk < B3_GROUP ? (u32)(chunks - first_chunk) : B3_GROUP;
    if (thread < count) {
        u32 value[8], block[16];
        for (u32 i = 0; i < 8; i++) value[i] = key[i];
        u64 first = chunk * B3_CHUNK, last = first + B3_CHUNK < words ? first + B3_CHUNK : words;
        u32 blocks = last > first ? (u32)((last - first + 15) / 16) : 1;
        for (u32 n = 0; n < blocks; n++) {
            u64 at = first + n * 16;
            u32 length = last - at < 16 ? (u32)(last - at) : 16;
            if (length == 16 && at / part == (at + 15) / part) {
                u64 of = at / part, place = start + at - of * part;
                GLOBAL const u32 *from = (of == 0 ? a : of == 1 ? b : c) + place;
                for (u32 i = 0; i < 16; i++) block[i] = from[i];
            } else {
                for (u32 i = 0; i < 16; i++) {
                    u64 w = at + i;
                    block[i] = i >= length ? 0 : w < part ? a[start + w] : w < 2 * part ? b[start + w - part] : c[start + w - 2 * part];
                }
            }
            u32 ends = n + 1 == blocks ? B3_END | (chunks == 1 ? B3_ROOT : 0) : 0;
            b3_compress(value, block, chunk, length * 4, flags | (n == 0 ? B3_START : 0) | ends);
        }
        for (u32 i = 0; i < 8; i++) level[thread][i] = value[i];
    }
    SYNC;
    for (u32 left = count; left > 1; left = (left + 1) / 2) {
        u32 value[8], pair[16];
        if (2 * thread + 1 < left) {
            for (u32 i = 0; i < 16; i++) pair[i] = level[2 * thread + i / 8][i % 8];
            b3_parent(value, pair, key, flags | (left == 2 && chunks <= B3_GROUP ? B3_ROOT : 0));
        } else if (2 * thread < left) {
            for (u32 i = 0; i < 8; i++) value[i] = level[2 * thread][i];
        }
        SYNC;
        if (2 * thread < left) for (u32 i = 0; i < 8; i++) level[thread][i] = value[i];
        SYNC;
    }
    GLOBAL u32 *to = chunks <= B3_GROUP ? hashes + (u64)message * 8 : values + (u64)group * 8;
    if (thread < 8) to[thread] = level[0][thread];
}

// One group of 256 a message: joins the values of its groups in place.
KERNEL void b3_roots(GLOBAL const u64 *ranges, u32 parts, GLOBAL const u32 *key, u32 flags, GLOBAL u32 *values,
                     GLOBAL u32 *hashes) {
    u32 thread = ID(0), message = GROUP(0);
    u64 chunks = (ranges[3 * message + 1] * parts + B3_CHUNK - 1) / B3_CHUNK;
    u32 groups = (u32)((chunks + B3_GROUP - 1) / B3_GROUP);
    if (groups <= 1) return;
    GLOBAL u32 *level = values + ranges[3 * message + 2] * 8;
    for (u32 left = groups; left > 1; left = (left + 1) / 2) {
        for (u32 p0 = 0; 2 * p0 < left; p0 += B3_GROUP) {
            u32 p = p0 + thread, value[8], pair[16];
            if (2 * p + 1 < left) {
                for (u32 i = 0; i < 16; i++) pair[i] = level[(u64)p * 16 + i];
                b3_parent(value, pair, key, flags | (left == 2 ? B3_ROOT : 0));
            } else if (2 * p < left) {
                for (u32 i = 0; i < 8; i++) value[i] = level[(u64)p * 16 + i];
            }
            SYNC;
            if (2 * p < left) for (u32 i = 0; i < 8; i++) level[(u64)p * 8 + i] = value[i];
            SYNC;
        }
    }
    if (thread < 8) hashes[(u64)message * 8 + thread] = level[thread];
}
