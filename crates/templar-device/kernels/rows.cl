// Kernels over rows: a group of 32 threads takes a row, thread i lane i of its sums. Loops go over blocks of 32 columns, so
// that all threads of a group make the same number of rounds.

#define LANES 32

// Local memory is reused: a barrier stands before the next writes to `lanes`.
DEVICE float tree_sum(LOCAL float *lanes, u32 lane, float own) {
    lanes[lane] = own;
    SYNC;
    for (u32 mid = LANES / 2; mid > 0; mid /= 2) {
        if (lane < mid) lanes[lane] = f_add(lanes[lane], lanes[lane + mid]);
        SYNC;
    }
    float sum = lanes[0];
    SYNC;
    return sum;
}

DEVICE float tree_max(LOCAL float *lanes, u32 lane, float own) {
    lanes[lane] = own;
    SYNC;
    for (u32 mid = LANES / 2; mid > 0; mid /= 2) {
        if (lane < mid && f_less(lanes[lane], lanes[lane + mid])) lanes[lane] = lanes[lane + mid];
        SYNC;
    }
    float max = lanes[0];
    SYNC;
    return max;
}

#define MINUS_INFINITY FLOAT(0xff800000u)
#define FOR_ROW(j, width) for (u32 j##_0 = 0; j##_0 < (width); j##_0 += LANES)
#define COLUMN(j, width) u32 j = j##_0 + lane; if (j < (width))

KERNEL void rms_norm(IN(x), IN(weight), OUT(out), OUT(inv_rms), u32 width, float eps) {
    USE_IN(x); USE_IN(weight); USE_OUT(out); USE_OUT(inv_rms);
    LOCAL_ARRAY float lanes[LANES];
    u32 lane = ID(0);
    u64 row = GROUP(0), at = row * width;
    float own = 0.0f;
    FOR_ROW(j, width) { COLUMN(j, width) own = f_add(own, f_mul(x[at + j], x[at + j])); }
    float sum = tree_sum(lanes, lane, own);
    float inv = f_div(1.0f, f_sqrt(f_add(f_div(sum, (float)width), eps)));
    if (lane == 0) inv_rms[row] = inv;
    FOR_ROW(j, width) { COLUMN(j, width) out[at + j] = f_mul(f_mul(x[at + j], inv), weight[j]); }
}

KERNEL void rms_norm_backward_x(IN(x), IN(weight), IN(inv_rms), IN(dy), OUT(dx), u32 width) {
    USE_IN(x); USE_IN(weight); USE_IN(inv_rms); USE_IN(dy); USE_OUT(dx);
    LOCAL_ARRAY float lanes[LANES];
    u32 lane = ID(0);
    u64 row = GROUP(0), at = row * width;
    float own = 0.0f, inv = inv_rms[row];
    FOR_ROW(j, width) { COLUMN(j, width) own = f_add(own, f_mul(f_mul(dy[at + j], weight[j]), x[at + j])); }
    float sum = tree_sum(lanes, lane, own);
    float c = f_mul(f_mul(inv, inv), f_div(sum, (float)width));
    FOR_ROW(j, width) {
        COLUMN(j, width) {
            float t = f_mul(dy[at + j], weight[j]);
            dx[at + j] = f_add(dx[at + j], f_mul(inv, f_sub(t, f_mul(x[at + j], c))));
        }
    }
}

// A group of 32 x 8 takes 32 columns. Its threads compute the terms of 64 rows at once, and one thread of each column adds
// them, rows ascending.
#define TERM_ROWS 64
KERNEL void rms_norm_backward_weight(IN(x), IN(inv_rms), IN(dy), OUT(dweight), u32 rows, u32 width) {
    USE_IN(x); USE_IN(inv_rms); USE_IN(dy); USE_OUT(dweight);
    LOCAL_ARRAY float terms[TERM_ROWS][LANES];
    u32 lane = ID(0), y = ID(1), j = GROUP(0) * LANES + lane;
    float chain = y == 0 && j < width ? dweight[j] : 0.0f;
    for (u32 r0 = 0; r0 < rows; r0 += TERM_ROWS) {
        for (u32 r = y; r < TERM_ROWS; r += 8) {
            if (r0 + r < rows && j < width) {
                u64 at = (u64)(r0 + r) * width + j;
                terms[r][lane] = f_mul(dy[at], f_mul(x[at], inv_rms[r0 + r]));
            }
        }
        SYNC_TERMS;
        if (y == 0) {
            u32 count = rows - r0 < TERM_ROWS ? rows - r0 : TERM_ROWS;
            for (u32 r = 0; r < count; r++) chain = f_add(chain, terms[r][lane]);
        }
        SYNC;
    }
    if (y == 0 && j < width) dweight[j] = chain;
}

// With `gradient` the logits become the gradient, else they are only read.
KERNEL void cross_entropy(OUT(logits), IDS(targets), OUT(losses), u32 vocab, float scale, u32 gradient) {
    USE_OUT(logits); USE_IDS(targets); USE_OUT(losses);
    LOCAL_ARRAY float lanes[LANES];
    u32 lane = ID(0), target = targets[GROUP(0)];
    u64 at = (u64)GROUP(0) * vocab;
    float own = MINUS_INFINITY;
    FOR_ROW(j, vocab) { COLUMN(j, vocab) if (f_less(own, logits[at + j])) own = logits[at + j]; }
    float max = tree_max(lanes, lane, own), shifted = f_sub(logits[at + target], max);
    SYNC;  // the target's logit is read before its lane overwrites it
    own = 0.0f;
    FOR_ROW(j, vocab) {
        COLUMN(j, vocab) {
            float e = exp_1(f_sub(logits[at + j], max));
            if (gradient) logits[at + j] = e;
            own = f_add(own, e);
        }
    }
    float sum = tree_sum(lanes, lane, own);
    if (lane == 0) losses[GROUP(0)] = f_sub(ln_1(sum), shifted);
    if (!gradient) return;
    float inverse = f_div(1.0f, sum);
    FOR_ROW(j, vocab) {
        COLUMN(j, vocab) {
            float p = f_mul(logits[at + j], inverse);
            logits[at + j] = f_mul(j == target ? f_sub(p, 1.0f) : p, scale);
        }
    }
}

// ---- ranges of a buffer, all in one launch -----------------------------------------------------------------------------
//
// `ranges` has for each range where it starts, its elements, and the first group that works on it.

DEVICE u32 range_of(u32 group, GLOBAL const u64 *ranges, u32 count) {
    u32 low = 0, high = count;
    while (high - low > 1) {
        u32 mid = (low + high) / 2;
        if (ranges[3 * mid + 2] <= group) low = mid; else high = mid;
    }
    return low;
}

// The squared norm of one block of a range: a group of 32 a block, out[group].
KERNEL void squared_norms(GLOBAL const float *x, GLOBAL const u64 *ranges, u32 count, u32 block, GLOBAL u64 *out) {
    LOCAL_ARRAY u64 lanes[LANES];
    u32 lane = ID(0), group = GROUP(0), range = range_of(group, ranges, count);
    u64 first = ranges[3 * range], limit = first + ranges[3 * range + 1];
    u64 start = first + (group - ranges[3 * range + 2]) * block, end = start + block < limit ? start + block : limit, own = 0;
    for (u64 i0 = start; i0 < end; i0 += LANES) {
        u64 i = i0 + lane;
        if (i < end) own = add64(own, square64(x[i]));
    }
    lanes[lane] = own;
    SYNC;
    for (u32 mid = LANES / 2; mid > 0; mid /= 2) {
        if (lane < mid) lanes[lane] = add64(lanes[lane], lanes[lane + mid]);
        SYNC;
    }
    if (lane == 0) out[group] = lanes[0];
}

// Each group of 256 finds the first element of its 65,536 that is NaN or infinite: its place in x, or all ones.
#define SEARCH 65536
KERNEL void first_non_finite(IN(x), GLOBAL u64 *found, u64 n) {
    USE_IN(x);
    LOCAL_ARRAY u32 nearest[256];
    u32 thread = ID(0), own = SEARCH;
    u64 start = (u64)GROUP(0) * SEARCH;
    for (u32 i = thread; i < SEARCH && start + i < n; i += 256)
        if (own == SEARCH && (BITS(x[start + i]) & INFINITE) == INFINITE) own = i;
    nearest[thread] = own;
    SYNC;
    for (u32 mid = 128; mid > 0; mid /= 2) {
        if (thread < mid && nearest[thread + mid] < nearest[thread]) nearest[thread] = nearest[thread + mid];
        SYNC;
    }
    if (thread == 0) found[GROUP(0)] = nearest[0] == SEARCH ? ~(u64)0 : start + nearest[0];
}
