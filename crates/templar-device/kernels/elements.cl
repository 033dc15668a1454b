// Kernels of one thread an element, and the copies between layouts.

KERNEL void fill(OUT(x), float value, u64 n) {
    USE_OUT(x);
    u64 i = GLOBAL_ID;
    if (i < n) x[i] = value;
}

KERNEL void add(OUT(x), IN(y), u64 n) {
    USE_OUT(x); USE_IN(y);
    u64 i = GLOBAL_ID;
    if (i < n) x[i] = f_add(x[i], y[i]);
}

KERNEL void subtract(OUT(x), IN(y), u64 n) {
    USE_OUT(x); USE_IN(y);
    u64 i = GLOBAL_ID;
    if (i < n) x[i] = f_sub(x[i], y[i]);
}

KERNEL void scale(OUT(x), float factor, u64 n) {
    USE_OUT(x);
    u64 i = GLOBAL_ID;
    if (i < n) x[i] = f_mul(x[i], factor);
}

KERNEL void swiglu(IN(gate), IN(up), OUT(out), u64 n) {
    USE_IN(gate); USE_IN(up); USE_OUT(out);
    u64 i = GLOBAL_ID;
    if (i < n) out[i] = f_mul(f_mul(gate[i], sigmoid_1(gate[i])), up[i]);
}

KERNEL void swiglu_backward(IN(gate), IN(up), IN(dout), OUT(dgate), OUT(dup), u64 n) {
    USE_IN(gate); USE_IN(up); USE_IN(dout); USE_OUT(dgate); USE_OUT(dup);
    u64 i = GLOBAL_ID;
    if (i >= n) return;
    float g = gate[i], s = sigmoid_1(g), d = dout[i];
    float of_up = f_mul(d, f_mul(g, s));
    dgate[i] = f_mul(f_mul(d, up[i]), f_mul(s, f_add(1.0f, f_mul(g, f_sub(1.0f, s)))));
    dup[i] = of_up;
}

KERNEL void adamw(OUT(params), IN(grads), OUT(m), OUT(v), u64 n, float beta1, float rest1, float beta2, float rest2,
                  float keep, float step, float unbias, float eps) {
    USE_OUT(params); USE_IN(grads); USE_OUT(m); USE_OUT(v);
    u64 i = GLOBAL_ID;
    if (i >= n) return;
    float g = grads[i];
    float first = f_add(f_mul(beta1, m[i]), f_mul(rest1, g));
    float second = f_add(f_mul(beta2, v[i]), f_mul(rest2, f_mul(g, g)));
    m[i] = first;
    v[i] = second;
    params[i] = f_sub(f_mul(params[i], keep), f_div(f_mul(step, first), f_add(f_sqrt(f_mul(second, unbias)), eps)));
}

KERNEL void embedding(IN(table), IDS(ids), OUT(out), u32 width, u64 n) {
    USE_IN(table); USE_IDS(ids); USE_OUT(out);
    u64 i = GLOBAL_ID;
    if (i < n) out[i] = table[(u64)ids[i / width] * width + i % width];
}

// A group takes the rows of one id, ascending. `links` has for each row of the buffer of ids the row before and the row
// after it with the same id, counted from the buffer's start, or all ones; this call's rows are first..first + rows.
KERNEL void embedding_backward(IN(dout), IDS(ids), GLOBAL const u32 *links, OUT(dtable), u32 width, u32 first, u32 rows) {
    USE_IN(dout); USE_IDS(ids); USE_OUT(dtable);
    u32 row = GROUP(0), before = links[2 * (first + row)];
    if (before != ~0u && before >= first) return;               // the group of an earlier row takes this one too
    GLOBAL float *to = dtable + (u64)ids[row] * width;
    for (u32 r = row; r < rows;) {
        for (u32 j = ID(0); j < width; j += 128) to[j] = f_add(to[j], dout[(u64)r * width + j]);
        u32 after = links[2 * (first + r) + 1];
        r = after == ~0u ? rows : after - first;
    }
}

// [sequences, length, count, width] to [sequences, count, length, width], or back. One thread an element of `to`.
KERNEL void relayout(IN(from), OUT(to), u32 length, u32 count, u32 width, u64 n, u32 back) {
    USE_IN(from); USE_OUT(to);
    u64 i = GLOBAL_ID;
    if (i >= n) return;
    u32 inner = back ? count : length, outer = back ? length : count;
    u64 e = i % width, rest = i / width, in = rest % inner, out = rest / inner % outer, sequence = rest / inner / outer;
    to[i] = from[((sequence * inner + in) * outer + out) * width + e];
}

// Queries and keys of [sequences, heads + 2 kv_heads, length, width] turned by their positions, and the queries multiplied by
// `factor`; or, backward, multiplied first and turned back. One thread a pair; tables are [length, width / 2].
KERNEL void rotary(OUT(x), IN(cos), IN(sin), u64 pairs, u32 heads, u32 kv_heads, u32 length, u32 width, float factor,
                   u32 backward) {
    USE_OUT(x); USE_IN(cos); USE_IN(sin);
    u64 t = GLOBAL_ID;
    if (t >= pairs) return;
    u32 mid = width / 2, i = (u32)(t % mid), turned = heads + kv_heads;
    u64 rest = t / mid;
    u32 position = (u32)(rest % length), head = (u32)(rest / length % turned);
    u64 sequence = rest / length / turned;
    u64 at = ((sequence * (turned + kv_heads) + head) * length + position) * width + i, table = (u64)position * mid + i;
    float a = x[at], b = x[at + mid], c = cos[table], s = sin[table];
    u32 is_query = head < heads;
    if (backward) {
        s = f_neg(s);
        if (is_query) { a = f_mul(a, factor); b = f_mul(b, factor); }
    }
    float turned_a = f_sub(f_mul(a, c), f_mul(b, s)), turned_b = f_add(f_mul(b, c), f_mul(a, s));
    if (!backward && is_query) { turned_a = f_mul(turned_a, factor); turned_b = f_mul(turned_b, factor); }
    x[at] = turned_a;
    x[at + mid] = turned_b;
}
