// Matrix products. A group takes a rectangle of C, and each thread of it a smaller one in registers. The threads bring
// DEPTH columns of A and rows of B into local memory, and multiply while the next ones are on their way.
//
// Each element of C is one chain over k ascending that one thread computes, so the shape of a rectangle cannot be seen in a
// result, and shapes are chosen by speed alone. Nothing is padded along k: a step fma(0, 0, c) would turn a c of -0 into +0.
//
// The shape, given by the host:
//   GROUP_X, GROUP_Y  threads of a group along the columns and the rows of C
//   ROWS              rows of a thread
//   VECTOR, VECTORS   columns of a thread: VECTORS vectors of VECTOR columns, GROUP_X * VECTOR columns apart
//   DEPTH             k of a stage
//   ROW_COPIES        defined for a CPU: each thread copies whole rows of an operand. Without it, threads next to each
//                     other take elements next to each other, by way of registers.

#define THREADS (GROUP_X * GROUP_Y)
#define TILE_ROWS (GROUP_Y * ROWS)
#define TILE_COLS (GROUP_X * VECTOR * VECTORS)
#define ROW_PITCH (TILE_ROWS + 4)
#define COL_PITCH (TILE_COLS + 4)

// ---- operands into local memory ----------------------------------------------------------------------------------------
//
// Element (i, k) of an operand goes to to[k * pitch + i], for i below `size` and k below DEPTH. Elements outside the matrix
// are not read: their places take part in chains that are not stored (i), or in no chain (k).

#if defined(ROW_COPIES)

DEVICE void bring(GLOBAL const float *from, u64 i_step, u64 k_step, u32 size, u32 k_count, LOCAL float *to, u32 pitch,
                  u32 thread, u32 threads) {
    if (i_step == 1) {
        for (u32 k = thread; k < k_count; k += threads)
            for (u32 i = 0; i < size; i++) to[k * pitch + i] = from[k * k_step + i];
    } else {
        // Squares of 4 x 4 are turned in registers.
        u32 whole_rows = size / 4 * 4, whole_k = k_count / 4 * 4;
        for (u32 i = thread * 4; i < whole_rows; i += threads * 4)
            for (u32 k = 0; k < whole_k; k += 4) {
                GLOBAL const float *row = from + i * i_step + k;
                float4 a = vload4(0, row), b = vload4(0, row + i_step);
                float4 c = vload4(0, row + 2 * i_step), d = vload4(0, row + 3 * i_step);
                LOCAL float *at = to + k * pitch + i;
                vstore4((float4)(a.s0, b.s0, c.s0, d.s0), 0, at);
                vstore4((float4)(a.s1, b.s1, c.s1, d.s1), 0, at + pitch);
                vstore4((float4)(a.s2, b.s2, c.s2, d.s2), 0, at + 2 * pitch);
                vstore4((float4)(a.s3, b.s3, c.s3, d.s3), 0, at + 3 * pitch);
            }
        for (u32 i = thread; i < size; i += threads)
            for (u32 k = i < whole_rows ? whole_k : 0; k < k_count; k++) to[k * pitch + i] = from[i * i_step + k];
    }
}

#else

DEVICE void fetch(GLOBAL const float *from, u64 i_step, u64 k_step, u32 size, u32 i_count, u32 k_count, float *held,
                  u32 thread) {
    u32 loads = (size * DEPTH + THREADS - 1) / THREADS;
    UNROLL for (u32 e = 0; e < loads; e++) {
        u32 place = thread + e * THREADS;
        u32 i = i_step == 1 ? place % size : place / DEPTH, k = i_step == 1 ? place / size : place % DEPTH;
        held[e] = i < i_count && k < k_count ? from[i * i_step + k * k_step] : 0.0f;
    }
}

DEVICE void put(const float *held, u64 i_step, u32 size, LOCAL float *to, u32 pitch, u32 thread) {
    u32 loads = (size * DEPTH + THREADS - 1) / THREADS;
    UNROLL for (u32 e = 0; e < loads; e++) {
        u32 place = thread + e * THREADS;
        u32 i = i_step == 1 ? place % size : place / DEPTH, k = i_step == 1 ? place / size : place % DEPTH;
        if (size * DEPTH % THREADS == 0 || place < size * DEPTH) to[k * pitch + i] = held[e];
    }
}

#endif

// ---- the product -------------------------------------------------------------------------------------------------------

DEVICE u32 at_most(u32 x, u32 limit) { return x < limit ? x : limit; }

#if defined(ROW_COPIES)
#define UNROLL_STAGE
#else
#define UNROLL_STAGE UNROLL
#endif

// One step of all chains of a thread: its rows of column k of A, its columns of row k of B.
#define MULTIPLY(k)                                                                                                     \
    {                                                                                                                   \
        vec of_b[VECTORS];                                                                                              \
        UNROLL for (u32 v = 0; v < VECTORS; v++) of_b[v] = v_local(&bs[past][k][(v * GROUP_X + x) * VECTOR]);           \
        UNROLL for (u32 i = 0; i < ROWS; i++) {                                                                         \
            float of_a = as[past][k][y * ROWS + i];                                                                     \
            UNROLL for (u32 v = 0; v < VECTORS; v++) chain[i][v] = v_fma(of_a, of_b[v], chain[i][v]);                   \
        }                                                                                                               \
    }

// C [m, n] = op(A) op(B), or C += where `accumulate`. Operands by their steps: from row to row of op(A) and from column to
// column of op(B) (a_i, b_j), and along k.
KERNEL void gemm(IN(a), u64 a_i, u64 a_k, IN(b), u64 b_j, u64 b_k, OUT(c), u32 m, u32 n, u32 depth, u32 accumulate) {
    USE_IN(a); USE_IN(b); USE_OUT(c);
    LOCAL_ARRAY float as[2][DEPTH][ROW_PITCH];
    LOCAL_ARRAY float bs[2][DEPTH][COL_PITCH];
    u32 x = ID(0), y = ID(1), thread = y * GROUP_X + x, i0 = GROUP(1) * TILE_ROWS, j0 = GROUP(0) * TILE_COLS;
    u32 i_count = at_most(m - i0, TILE_ROWS), j_count = at_most(n - j0, TILE_COLS);
    GLOBAL const float *a_from = a + i0 * a_i, *b_from = b + j0 * b_j;
    GLOBAL float *c_tile = c + (u64)i0 * n + j0;
    vec chain[ROWS][VECTORS];
    UNROLL for (u32 i = 0; i < ROWS; i++)
        UNROLL for (u32 v = 0; v < VECTORS; v++) {
            u32 row = y * ROWS + i, col = (v * GROUP_X + x) * VECTOR;
            u32 count = accumulate && row < i_count && col < j_count ? j_count - col : 0;
            chain[i][v] = v_load(c_tile + (count ? (u64)row * n + col : 0), count);
        }
    for (u32 k0 = 0, stage = 0;; k0 += DEPTH, stage ^= 1) {
        u32 past = stage ^ 1, k_count = k0 < depth ? at_most(depth - k0, DEPTH) : 0;
#if defined(ROW_COPIES)
        bring(a_from + k0 * a_k, a_i, a_k, i_count, k_count, &as[stage][0][0], ROW_PITCH, thread, THREADS);
        bring(b_from + k0 * b_k, b_j, b_k, j_count, k_count, &bs[stage][0][0], COL_PITCH, thread, THREADS);
#else
        float held_a[(TILE_ROWS * DEPTH + THREADS - 1) / THREADS], held_b[(TILE_COLS * DEPTH + THREADS - 1) / THREADS];
        if (k_count > 0) {
            fetch(a_from + k0 * a_k, a_i, a_k, TILE_ROWS, i_count, k_count, held_a, thread);
            fetch(b_from + k0 * b_k, b_j, b_k, TILE_COLS, j_count, k_count, held_b, thread);
        }
#endif
        if (k0 > 0) {
            u32 steps = at_most(depth - (k0 - DEPTH), DEPTH);
            if (steps == DEPTH) {
                UNROLL_STAGE for (u32 k = 0; k < DEPTH; k++) MULTIPLY(k)
            } else {
                for (u32 k = 0; k < steps; k++) MULTIPLY(k)
            }
        }
        if (k_count == 0) break;
#if !defined(ROW_COPIES)
        put(held_a, a_i, TILE_ROWS, &as[stage][0][0], ROW_PITCH, thread);
        put(held_b, b_j, TILE_COLS, &bs[stage][0][0], COL_PITCH, thread);
#endif
        SYNC;
    }
    UNROLL for (u32 i = 0; i < ROWS; i++)
        UNROLL for (u32 v = 0; v < VECTORS; v++) {
            u32 row = y * ROWS + i, col = (v * GROUP_X + x) * VECTOR;
            if (row < i_count && col < j_count) v_store(chain[i][v], c_tile + (u64)row * n + col, j_count - col);
        }
}
