// exp, ln and sigmoid, by the steps that the documentation of templar-numerics gives. Without branches, so that a compiler
// for a CPU can take several elements at once.

DEVICE float exp_1(float x) {
    u32 above = f_less(FLOAT(0x42b17218u), x), below = f_less(x, -104.0f), nan = is_nan(BITS(x));
    float y = above | below | nan ? 0.0f : x;
    float n = f_sub(f_add(f_mul(y, FLOAT(0x3fb8aa3bu)), 12582912.0f), 12582912.0f);
    float r = f_sub(f_sub(y, f_mul(n, FLOAT(0x3f317200u))), f_mul(n, FLOAT(0x35bfbe8eu)));
    float q = FLOAT(0x3ab511d4u);
    q = f_add(f_mul(q, r), FLOAT(0x3c091d1bu));
    q = f_add(f_mul(q, r), FLOAT(0x3d2aac7au));
    q = f_add(f_mul(q, r), FLOAT(0x3e2aaa48u));
    q = f_add(f_mul(q, r), FLOAT(0x3efffffeu));
    float p = f_add(f_add(r, f_mul(f_mul(r, r), q)), 1.0f);
    // 2^n in two exact halves: the last product rounds, once, into the subnormal range.
    i32 i = (i32)n, low = i >> 1;
    float e = f_mul(f_mul(p, FLOAT((u32)(low + 127) << 23)), FLOAT((u32)(i - low + 127) << 23));
    return nan ? FLOAT(NOT_A_NUMBER) : above ? FLOAT(INFINITE) : below ? 0.0f : e;
}

DEVICE float ln_1(float x) {
    u32 b = BITS(x);
    if ((b & ~SIGN) == 0) return FLOAT(0xff800000u);
    if (is_nan(b) || b >> 31) return FLOAT(NOT_A_NUMBER);
    if (b == INFINITE) return x;
    i32 k = 0;
    if (b < 0x00800000u) { b = BITS(f_mul(x, 8388608.0f)); k = -23; }
    u32 o = b - 0x3f3504f3u;
    k += (i32)o >> 23;
    float y = FLOAT((o & 0x7fffffu) + 0x3f3504f3u);
    float kf = (float)k, f = f_sub(y, 1.0f), s = f_div(f, f_add(2.0f, f)), z = f_mul(s, s);
    float p = FLOAT(0x3e717ee9u);
    p = f_add(f_mul(p, z), FLOAT(0x3e921c54u));
    p = f_add(f_mul(p, z), FLOAT(0x3ecccd3eu));
    p = f_add(f_mul(p, z), FLOAT(0x3f2aaaaau));
    float h = f_mul(0.5f, f_mul(f, f));
    float t = f_add(f_mul(s, f_add(h, f_mul(z, p))), f_mul(kf, FLOAT(0x35bfbe8eu)));
    return f_add(f_mul(kf, FLOAT(0x3f317200u)), f_sub(f, f_sub(h, t)));
}

DEVICE float sigmoid_1(float x) { return f_div(1.0f, f_add(1.0f, exp_1(f_neg(x)))); }
