// Vectors of VECTOR elements next to each other, for tiles of products and of attention. A CPU takes a whole register, a GPU as
// much as one load brings, and arithmetic by integers a single element.

#if VECTOR == 1

typedef float vec;
DEVICE vec v_of(float x) { return x; }
DEVICE vec v_local(LOCAL const float *from) { return *from; }
DEVICE void v_to_local(vec v, LOCAL float *to) { *to = v; }
DEVICE void v_to_column(vec v, LOCAL float *to, u32 step) { *to = v; }
DEVICE vec v_load(GLOBAL const float *from, u32 count) { return count > 0 ? *from : 0.0f; }
DEVICE void v_store(vec v, GLOBAL float *to, u32 count) { if (count > 0) *to = v; }
DEVICE vec v_fma(float a, vec b, vec c) { return f_fma(a, b, c); }
DEVICE vec v_add(vec a, vec b) { return f_add(a, b); }
DEVICE vec v_sub(vec a, vec b) { return f_sub(a, b); }
DEVICE vec v_mul(vec a, vec b) { return f_mul(a, b); }
DEVICE vec v_max(vec a, vec b) { return f_less(a, b) ? b : a; }
DEVICE vec v_exp(vec x) { return exp_1(x); }
// Elements at places `first`, `first` + 1, … up to `last`; others where they lie beyond it.
DEVICE vec v_until(vec v, u32 first, u32 last, float others) { return first <= last ? v : others; }

#elif defined(__OPENCL_VERSION__) || defined(__OPENCL_C_VERSION__)

#define PASTE(a, b) a##b
#define NAME(a, b) PASTE(a, b)
typedef NAME(float, VECTOR) vec;
typedef NAME(int, VECTOR) ivec;
typedef NAME(uint, VECTOR) uvec;
#define AS_VEC NAME(as_float, VECTOR)
#define AS_UVEC NAME(as_uint, VECTOR)
DEVICE vec v_of(float x) { return (vec)(x); }
DEVICE vec v_local(LOCAL const float *from) { return NAME(vload, VECTOR)(0, from); }
DEVICE void v_to_local(vec v, LOCAL float *to) { NAME(vstore, VECTOR)(v, 0, to); }
// Element e goes to to[e * step].
DEVICE void v_to_column(vec v, LOCAL float *to, u32 step) {
    float part[VECTOR];
    NAME(vstore, VECTOR)(v, 0, part);
    UNROLL for (u32 e = 0; e < VECTOR; e++) to[e * step] = part[e];
}
DEVICE vec v_load(GLOBAL const float *from, u32 count) {
    if (count >= VECTOR) return NAME(vload, VECTOR)(0, from);
    float part[VECTOR];
    for (u32 e = 0; e < VECTOR; e++) part[e] = e < count ? from[e] : 0.0f;
    return NAME(vload, VECTOR)(0, part);
}
DEVICE void v_store(vec v, GLOBAL float *to, u32 count) {
    if (count >= VECTOR) { NAME(vstore, VECTOR)(v, 0, to); return; }
    float part[VECTOR];
    NAME(vstore, VECTOR)(v, 0, part);
    for (u32 e = 0; e < VECTOR; e++) if (e < count) to[e] = part[e];
}
#if defined(MUTANT_CONTRACT)
DEVICE vec v_fma(float a, vec b, vec c) { return a * b + c; }
DEVICE vec v_mul(vec a, vec b) { return a * b; }
#else
DEVICE vec v_fma(float a, vec b, vec c) { return fma((vec)(a), b, c); }
DEVICE vec v_mul(vec a, vec b) { return fma(a, b, (vec)(-0.0f)); }
#endif
DEVICE vec v_add(vec a, vec b) { return a + b; }
DEVICE vec v_sub(vec a, vec b) { return a - b; }
DEVICE vec v_max(vec a, vec b) { return select(a, b, a < b); }
#if VECTOR == 4
#define PLACES (uvec)(0, 1, 2, 3)
#elif VECTOR == 8
#define PLACES (uvec)(0, 1, 2, 3, 4, 5, 6, 7)
#else
#define PLACES (uvec)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
#endif
DEVICE vec v_until(vec v, u32 first, u32 last, float others) {
    return select((vec)(others), v, PLACES + (uvec)(first) <= (uvec)(last));
}
// exp_1 of each element, by the same steps.
DEVICE vec v_exp(vec x) {
    ivec above = x > (vec)(FLOAT(0x42b17218u)), below = x < (vec)(-104.0f), nan = x != x;
    vec y = select(x, (vec)(0.0f), above | below | nan);
    vec n = v_sub(v_add(v_mul(y, v_of(FLOAT(0x3fb8aa3bu))), v_of(12582912.0f)), v_of(12582912.0f));
    vec r = v_sub(v_sub(y, v_mul(n, v_of(FLOAT(0x3f317200u)))), v_mul(n, v_of(FLOAT(0x35bfbe8eu))));
    vec q = v_of(FLOAT(0x3ab511d4u));
    q = v_add(v_mul(q, r), v_of(FLOAT(0x3c091d1bu)));
    q = v_add(v_mul(q, r), v_of(FLOAT(0x3d2aac7au)));
    q = v_add(v_mul(q, r), v_of(FLOAT(0x3e2aaa48u)));
    q = v_add(v_mul(q, r), v_of(FLOAT(0x3efffffeu)));
    vec p = v_add(v_add(r, v_mul(v_mul(r, r), q)), v_of(1.0f));
    ivec i = NAME(convert_int, VECTOR)(n), low = i >> 1;
    vec e = v_mul(v_mul(p, AS_VEC((low + 127) << 23)), AS_VEC((i - low + 127) << 23));
    e = select(e, (vec)(0.0f), below);
    e = select(e, (vec)(FLOAT(INFINITE)), above);
    return select(e, (vec)(FLOAT(NOT_A_NUMBER)), nan);
}

#else

typedef struct __align__(VECTOR * 4) { float of[VECTOR]; } vec;
#define EACH(e) UNROLL for (u32 e = 0; e < VECTOR; e++)
DEVICE vec v_of(float x) { vec v; EACH(e) v.of[e] = x; return v; }
DEVICE vec v_local(const float *from) { return *(const vec *)from; }
DEVICE void v_to_local(vec v, float *to) { *(vec *)to = v; }
DEVICE void v_to_column(vec v, float *to, u32 step) { EACH(e) to[e * step] = v.of[e]; }
DEVICE vec v_load(const float *from, u32 count) { vec v; EACH(e) v.of[e] = e < count ? from[e] : 0.0f; return v; }
DEVICE void v_store(vec v, float *to, u32 count) { EACH(e) if (e < count) to[e] = v.of[e]; }
DEVICE vec v_fma(float a, vec b, vec c) { EACH(e) c.of[e] = f_fma(a, b.of[e], c.of[e]); return c; }
DEVICE vec v_add(vec a, vec b) { EACH(e) a.of[e] = f_add(a.of[e], b.of[e]); return a; }
DEVICE vec v_sub(vec a, vec b) { EACH(e) a.of[e] = f_sub(a.of[e], b.of[e]); return a; }
DEVICE vec v_mul(vec a, vec b) { EACH(e) a.of[e] = f_mul(a.of[e], b.of[e]); return a; }
DEVICE vec v_max(vec a, vec b) { EACH(e) if (f_less(a.of[e], b.of[e])) a.of[e] = b.of[e]; return a; }
DEVICE vec v_exp(vec x) { EACH(e) x.of[e] = exp_1(x.of[e]); return x; }
DEVICE vec v_until(vec v, u32 first, u32 last, float others) {
    EACH(e) if (first + e > last) v.of[e] = others;
    return v;
}

#endif
