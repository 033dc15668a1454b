// Causal attention of grouped queries, without a buffer that grows with the square of the length.
//
// The exact softmax of a row needs its largest score before its sum, and its sum before its first probability. So scores are
// computed anew for each of these: a running softmax, which corrects itself on the way, would have other bits.
//
// A group takes a block of 64 rows of one head, which is the block that the specification knows, against blocks of 64 keys.
// The host gives A_Y, the threads of a group along the rows. Each thread has A_ROWS rows and A_VECTORS vectors of columns of
// such a square in registers. A vector holds columns that lie next to each other, and the vectors of a thread lie 16 columns
// apart: so a column's lane in a sum of 32 lanes follows from its vector, and threads keep their lanes in registers too.
//
// Chains over keys go on to the end of the row's block, with probabilities of +0 beyond the diagonal.

#define SIDE 64
#define A_X (16 / VECTOR)
#define A_ROWS (SIDE / A_Y)
#define A_VECTORS 4
#define A_THREADS (A_X * A_Y)
#define A_DEPTH 16
#define A_PITCH (SIDE + 4)

// The rows and the vectors of a thread: `row` and `col` count from the start of the square.
#define FOR_ROWS UNROLL for (u32 i = 0; i < A_ROWS; i++)
#define FOR_SQUARE FOR_ROWS UNROLL for (u32 v = 0; v < A_VECTORS; v++)
#define ROW(i) (y * A_ROWS + (i))
#define COL(v) (((v) * A_X + x) * VECTOR)

// Where a group works, and what its threads share.
#define ATTENTION_SETUP                                                                                                  \
    LOCAL_ARRAY float as[A_DEPTH * A_PITCH];                                                                             \
    LOCAL_ARRAY float bs[A_DEPTH * A_PITCH];                                                                             \
    LOCAL_ARRAY float square[SIDE * A_PITCH];                                                                            \
    LOCAL_ARRAY float of_rows[3 * SIDE];                                                                                 \
    u32 x = ID(0), y = ID(1), thread = y * A_X + x, sequence = GROUP(2), group = heads / kv_heads;                       \
    u64 floats = (u64)length * width, base = (u64)sequence * (heads + 2 * kv_heads) * floats;

// Element (i, k) of `from` goes to to[k * A_PITCH + i], for i below `i_count` and k below `k_count`.
DEVICE void bring_square(GLOBAL const float *from, u64 i_step, u64 k_step, u32 i_count, u32 k_count, LOCAL float *to, u32 thread) {
#if defined(ROW_COPIES)
    bring(from, i_step, k_step, i_count, k_count, to, A_PITCH, thread, A_THREADS);
#else
    for (u32 place = thread; place < SIDE * A_DEPTH; place += A_THREADS) {
        u32 i = i_step == 1 ? place % SIDE : place / A_DEPTH, k = i_step == 1 ? place / SIDE : place % A_DEPTH;
        if (i < i_count && k < k_count) to[k * A_PITCH + i] = from[i * i_step + k * k_step];
    }
#endif
}

// Takes the chains of a square `depth` steps further: column k of the left operand lies at left[k * A_PITCH].
DEVICE void go_on(vec (*chain)[A_VECTORS], LOCAL const float *left, LOCAL const float *right, u32 depth, u32 x, u32 y) {
    for (u32 k = 0; k < depth; k++) {
        vec of_b[A_VECTORS];
        UNROLL for (u32 v = 0; v < A_VECTORS; v++) of_b[v] = v_local(right + k * A_PITCH + COL(v));
        FOR_ROWS {
            float of_a = left[k * A_PITCH + ROW(i)];
            UNROLL for (u32 v = 0; v < A_VECTORS; v++) chain[i][v] = v_fma(of_a, of_b[v], chain[i][v]);
        }
    }
}

// The square of chains over the width of `rows` (from row to row `step` elements) and `keys`.
DEVICE void dots(vec (*chain)[A_VECTORS], GLOBAL const float *rows, u64 step, u32 row_count, GLOBAL const float *keys,
                 u32 key_count, u32 width, LOCAL float *as, LOCAL float *bs, u32 x, u32 y) {
    FOR_SQUARE chain[i][v] = v_of(0.0f);
    for (u32 e = 0; e < width; e += A_DEPTH) {
        u32 depth = width - e < A_DEPTH ? width - e : A_DEPTH;
        bring_square(rows + e, step, 1, row_count, depth, as, y * A_X + x);
        bring_square(keys + e, width, 1, key_count, depth, bs, y * A_X + x);
        SYNC;
        go_on(chain, as, bs, depth, x, y);
        SYNC;
    }
}

// to[row, e] goes on by the chains of left[·, row] and from[·, e] over `depth` rows of `from`, or begins with them at +0.
// From row to row of `from` there are `from_step` elements, of `to` width.
DEVICE void gather(LOCAL const float *left, GLOBAL const float *from, u64 from_step, u32 depth, GLOBAL float *to, u32 row_count,
                   u32 width, u32 begins, LOCAL float *bs, u32 x, u32 y) {
    for (u32 e = 0; e < width; e += SIDE) {
        u32 columns = width - e < SIDE ? width - e : SIDE;
        vec chain[A_ROWS][A_VECTORS];
        FOR_SQUARE {
            u32 count = !begins && ROW(i) < row_count && COL(v) < columns ? columns - COL(v) : 0;
            chain[i][v] = v_load(to + (count ? (u64)ROW(i) * width + e + COL(v) : 0), count);
        }
        for (u32 k = 0; k < depth; k += A_DEPTH) {
            u32 steps = depth - k < A_DEPTH ? depth - k : A_DEPTH;
            bring_square(from + k * from_step + e, 1, from_step, columns, steps, bs, y * A_X + x);
            SYNC;
            go_on(chain, left + k * A_PITCH, bs, steps, x, y);
            SYNC;
        }
        FOR_SQUARE {
            if (ROW(i) < row_count && COL(v) < columns) v_store(chain[i][v], to + (u64)ROW(i) * width + e + COL(v), columns - COL(v));
        }
    }
}

// The sum of the 32 lanes of each row, which the threads hold two vectors a row, into sums[row].
DEVICE void tree_sums(vec (*lanes)[2], LOCAL float *square, LOCAL float *sums, u32 x, u32 y) {
    FOR_ROWS UNROLL for (u32 h = 0; h < 2; h++) v_to_local(lanes[i][h], square + ROW(i) * A_PITCH + h * 16 + x * VECTOR);
    SYNC;
    for (u32 row = y * A_X + x; row < SIDE; row += A_THREADS) {
        LOCAL float *of = square + row * A_PITCH;
        for (u32 mid = 16; mid > 0; mid /= 2)
            for (u32 j = 0; j < mid; j++) of[j] = f_add(of[j], of[j + mid]);
        sums[row] = of[0];
    }
    SYNC;
}

// exp(score - max) / sum of a row's vector; +0 beyond the diagonal, where `last` is the row's own place among the keys.
DEVICE vec probability(vec score, float max, float inverse, u32 col, u32 last) {
    return v_until(v_mul(v_exp(v_sub(score, v_of(max))), v_of(inverse)), col, last, 0.0f);
}

// Groups are (block of rows, head, sequence). `stats` gets [sequences, heads, length, 3]: max, 1 / sum, (d).
KERNEL void attention(IN(qkv), OUT(context), OUT(stats), u32 length, u32 heads, u32 kv_heads, u32 width) {
    USE_IN(qkv); USE_OUT(context); USE_OUT(stats);
    ATTENTION_SETUP
    u32 first = GROUP(0) * SIDE, head = GROUP(1), rows = length - first < SIDE ? length - first : SIDE;
    u64 index = ((u64)sequence * heads + head) * length + first;
    GLOBAL const float *q = qkv + base + head * floats + (u64)first * width;
    GLOBAL const float *key = qkv + base + (heads + head / group) * floats;
    GLOBAL const float *value = qkv + base + (heads + kv_heads + head / group) * floats;
    vec scores[A_ROWS][A_VECTORS], largest[A_ROWS], lanes[A_ROWS][2];
    FOR_ROWS { largest[i] = v_of(MINUS_INFINITY); lanes[i][0] = lanes[i][1] = v_of(0.0f); }
    for (u32 k0 = 0; k0 <= first; k0 += SIDE) {
        u32 keys = length - k0 < SIDE ? length - k0 : SIDE;
        dots(scores, q, width, rows, key + (u64)k0 * width, keys, width, as, bs, x, y);
        FOR_SQUARE largest[i] = v_max(largest[i], v_until(scores[i][v], k0 + COL(v), first + ROW(i), MINUS_INFINITY));
    }
    FOR_ROWS v_to_local(largest[i], square + ROW(i) * A_PITCH + x * VECTOR);
    SYNC;
    for (u32 row = thread; row < SIDE; row += A_THREADS) {
        float max = MINUS_INFINITY;
        for (u32 j = 0; j < 16; j++) if (f_less(max, square[row * A_PITCH + j])) max = square[row * A_PITCH + j];
        of_rows[row] = max;
    }
    SYNC;
    for (u32 k0 = 0; k0 <= first; k0 += SIDE) {
        u32 keys = length - k0 < SIDE ? length - k0 : SIDE;
        dots(scores, q, width, rows, key + (u64)k0 * width, keys, width, as, bs, x, y);
        FOR_SQUARE {
            vec e = v_exp(v_sub(scores[i][v], v_of(of_rows[ROW(i)])));
            // A term of +0 changes no lane.
            lanes[i][v % 2] = v_add(lanes[i][v % 2], v_until(e, k0 + COL(v), first + ROW(i), 0.0f));
        }
    }
    tree_sums(lanes, square, of_rows + SIDE, x, y);
    for (u32 row = thread; row < rows; row += A_THREADS) {
        float inverse = f_div(1.0f, of_rows[SIDE + row]);
        of_rows[SIDE + row] = inverse;
        stats[(index + row) * 3] = of_rows[row];
        stats[(index + row) * 3 + 1] = inverse;
    }
    SYNC;
    for (u32 k0 = 0; k0 <= first; k0 += SIDE) {
        u32 keys = length - k0 < SIDE ? length - k0 : SIDE;
        dots(scores, q, width, rows, key + (u64)k0 * width, keys, width, as, bs, x, y);
        FOR_SQUARE {
            vec p = probability(scores[i][v], of_rows[ROW(i)], of_rows[SIDE + ROW(i)], k0 + COL(v), first + ROW(i));
            v_to_column(p, square + COL(v) * A_PITCH + ROW(i), A_PITCH);
        }
        SYNC;
        gather(square, value + (u64)k0 * width, width, keys, context + index * width, rows, width, k0 == 0, bs, x, y);
    }
}

// dq, and d = dot(p, dp) of each row into `stats`. Groups as above. dcontext is [sequences, length, heads, width].
KERNEL void attention_backward_q(IN(qkv), IN(dcontext), OUT(stats), OUT(dqkv), u32 length, u32 heads, u32 kv_heads, u32 width) {
    USE_IN(qkv); USE_IN(dcontext); USE_OUT(stats); USE_OUT(dqkv);
    ATTENTION_SETUP
    u32 first = GROUP(0) * SIDE, head = GROUP(1), rows = length - first < SIDE ? length - first : SIDE;
    u64 index = ((u64)sequence * heads + head) * length + first;
    GLOBAL const float *q = qkv + base + head * floats + (u64)first * width;
    GLOBAL const float *key = qkv + base + (heads + head / group) * floats;
    GLOBAL const float *value = qkv + base + (heads + kv_heads + head / group) * floats;
    GLOBAL const float *dout = dcontext + (((u64)sequence * length + first) * heads + head) * width;
    vec scores[A_ROWS][A_VECTORS], dp[A_ROWS][A_VECTORS], lanes[A_ROWS][2];
    FOR_ROWS lanes[i][0] = lanes[i][1] = v_of(0.0f);
    for (u32 row = thread; row < rows; row += A_THREADS) {
        of_rows[row] = stats[(index + row) * 3];
        of_rows[SIDE + row] = stats[(index + row) * 3 + 1];
    }
    for (u32 k0 = 0; k0 <= first; k0 += SIDE) {
        u32 keys = length - k0 < SIDE ? length - k0 : SIDE;
        dots(scores, q, width, rows, key + (u64)k0 * width, keys, width, as, bs, x, y);
        dots(dp, dout, (u64)heads * width, rows, value + (u64)k0 * width, keys, width, as, bs, x, y);
        FOR_SQUARE {
            vec p = probability(scores[i][v], of_rows[ROW(i)], of_rows[SIDE + ROW(i)], k0 + COL(v), first + ROW(i));
            lanes[i][v % 2] = v_add(lanes[i][v % 2], v_until(v_mul(p, dp[i][v]), k0 + COL(v), first + ROW(i), 0.0f));
        }
    }
    tree_sums(lanes, square, of_rows + 2 * SIDE, x, y);
    for (u32 row = thread; row < rows; row += A_THREADS) stats[(index + row) * 3 + 2] = of_rows[2 * SIDE + row];
    for (u32 k0 = 0; k0 <= first; k0 += SIDE) {
        u32 keys = length - k0 < SIDE ? length - k0 : SIDE;
        dots(scores, q, width, rows, key + (u64)k0 * width, keys, width, as, bs, x, y);
        dots(dp, dout, (u64)heads * width, rows, value + (u64)k0 * width, keys, width, as, bs, x, y);
        FOR_SQUARE {
            vec p = probability(scores[i][v], of_rows[ROW(i)], of_rows[SIDE + ROW(i)], k0 + COL(v), first + ROW(i));
            vec ds = v_mul(p, v_sub(dp[i][v], v_of(of_rows[2 * SIDE + ROW(i)])));
            ds = v_until(ds, k0 + COL(v), first + ROW(i), 0.0f);
            v_to_column(ds, square + COL(v) * A_PITCH + ROW(i), A_PITCH);
        }
        SYNC;
        GLOBAL float *dq = dqkv + base + head * floats + (u64)first * width;
        gather(square, key + (u64)k0 * width, width, keys, dq, rows, width, k0 == 0, bs, x, y);
    }
}

// dk and dv. Groups are (block of keys, kv head, sequence). Query heads of the group ascend, in each the blocks of rows.
KERNEL void attention_backward_kv(IN(qkv), IN(dcontext), IN(stats), OUT(dqkv), u32 length, u32 heads, u32 kv_heads, u32 width) {
    USE_IN(qkv); USE_IN(dcontext); USE_IN(stats); USE_OUT(dqkv);
    ATTENTION_SETUP
    u32 k0 = GROUP(0) * SIDE, kv_head = GROUP(1), keys = length - k0 < SIDE ? length - k0 : SIDE;
    u64 key_at = base + (heads + kv_head) * floats + (u64)k0 * width, value_at = key_at + kv_heads * floats;
    vec scores[A_ROWS][A_VECTORS], dp[A_ROWS][A_VECTORS];
    for (u32 member = 0; member < group; member++) {
        u32 head = kv_head * group + member;
        for (u32 first = k0; first < length; first += SIDE) {
            u32 rows = length - first < SIDE ? length - first : SIDE, begins = member == 0 && first == k0;
            u64 index = ((u64)sequence * heads + head) * length + first;
            GLOBAL const float *q = qkv + base + head * floats + (u64)first * width;
            GLOBAL const float *dout = dcontext + (((u64)sequence * length + first) * heads + head) * width;
            for (u32 row = thread; row < rows; row += A_THREADS)
                for (u32 s = 0; s < 3; s++) of_rows[s * SIDE + row] = stats[(index + row) * 3 + s];
            dots(scores, q, width, rows, qkv + key_at, keys, width, as, bs, x, y);
            dots(dp, dout, (u64)heads * width, rows, qkv + value_at, keys, width, as, bs, x, y);
            FOR_SQUARE {
                vec p = probability(scores[i][v], of_rows[ROW(i)], of_rows[SIDE + ROW(i)], k0 + COL(v), first + ROW(i));
                vec ds = v_mul(p, v_sub(dp[i][v], v_of(of_rows[2 * SIDE + ROW(i)])));
                v_to_local(p, square + ROW(i) * A_PITCH + COL(v));
                dp[i][v] = v_until(ds, k0 + COL(v), first + ROW(i), 0.0f);
            }
            SYNC;
            gather(square, dout, (u64)heads * width, rows, dqkv + value_at, keys, width, begins, bs, x, y);
            FOR_SQUARE v_to_local(dp[i][v], square + ROW(i) * A_PITCH + COL(v));
            SYNC;
            gather(square, q, width, rows, dqkv + key_at, keys, width, begins, bs, x, y);
        }
    }
}
