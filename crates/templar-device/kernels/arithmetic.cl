// The operations of f32/1: those of the hardware, or the same by integers.

// ---- binary32 in integers: exact wherever 32- and 64-bit integers are ------------------------------------------------

#if defined(SOFT) || defined(SOFT_DIV)

// The number with this sign whose magnitude is significand * 2^exponent, with more bits below in `sticky`: rounded to
// nearest, ties to even.
DEVICE u32 soft_round(u32 sign, i32 exponent, u64 significand, u32 sticky) {
    if (significand == 0) return sign;                          // callers give exact zeros only
    i32 shift = 40 - (i32)LEADING_ZEROS(significand);           // bits above 24
    if (exponent + shift < -149) shift = -149 - exponent;       // subnormal: fewer
    if (shift > 63) {
        sticky |= significand != 0;
        significand = 0;
        exponent += shift;
    } else if (shift > 0) {
        u64 rest = significand & (((u64)1 << shift) - 1), mid = (u64)1 << (shift - 1);
        significand >>= shift;
        exponent += shift;
        if (rest > mid || (rest == mid && (sticky || (significand & 1)))) significand += 1;
    } else {                                                    // fewer than 24 bits, so nothing is below them
        significand <<= -shift;
        exponent += shift;
    }
    if (significand == (1 << 24)) { significand >>= 1; exponent += 1; }
    if (significand >> 23 == 0) return sign | (u32)significand; // subnormal, the exponent is -149
    if (exponent > 104) return sign | INFINITE;
    return sign | ((u32)(exponent + 150) << 23) | ((u32)significand & 0x7fffffu);
}

DEVICE i32 soft_exponent(u32 x) { u32 e = x >> 23 & 255; return (i32)(e ? e : 1) - 150; }
DEVICE u64 soft_significand(u32 x) { return (x & 0x7fffffu) | (u64)((x >> 23 & 255) != 0) << 23; }

DEVICE u32 soft_fma(u32 a, u32 b, u32 c) {
    u32 sign = (a ^ b) & SIGN, am = a & ~SIGN, bm = b & ~SIGN, cm = c & ~SIGN;
    if (am > INFINITE || bm > INFINITE || cm > INFINITE) return NOT_A_NUMBER;
    if (am == INFINITE || bm == INFINITE) {
        if (am == 0 || bm == 0 || (cm == INFINITE && (c & SIGN) != sign)) return NOT_A_NUMBER;
        return sign | INFINITE;
    }
    if (cm == INFINITE) return c;
    u64 p = soft_significand(am) * soft_significand(bm);        // 48 bits
    i32 pe = soft_exponent(am) + soft_exponent(bm);
    u64 q = soft_significand(cm);
    i32 qe = soft_exponent(cm);
    u32 qsign = c & SIGN;
    if (p == 0 && q == 0) return sign == qsign ? sign : 0;
    if (p == 0) return c;
    if (q == 0) return soft_round(sign, pe, p, 0);
    // Both to the left, the leading bit at 62 (one bit for a carry); then the smaller to the right, with a sticky bit.
    i32 shift = (i32)LEADING_ZEROS(p) - 1;
    p <<= shift;
    pe -= shift;
    shift = (i32)LEADING_ZEROS(q) - 1;
    q <<= shift;
    qe -= shift;
    if (qe > pe || (qe == pe && q > p)) {
        u64 t = p; p = q; q = t;
        i32 te = pe; pe = qe; qe = te;
        u32 ts = sign; sign = qsign; qsign = ts;
    }
    i32 distance = pe - qe;
    u32 sticky = 0;
    if (distance > 63) { sticky = 1; q = 0; }
    else if (distance > 0) { sticky = (q & (((u64)1 << distance) - 1)) != 0; q >>= distance; }
    if (sign == qsign) return soft_round(sign, pe, p + q, sticky);
    u64 d = p - q - sticky;                                     // the true value lies between d and d + 1
    return d == 0 && !sticky ? 0 : soft_round(sign, pe, d, sticky);
}

DEVICE u32 soft_div(u32 a, u32 b) {
    u32 sign = (a ^ b) & SIGN, am = a & ~SIGN, bm = b & ~SIGN;
    if (am > INFINITE || bm > INFINITE || (am == INFINITE && bm == INFINITE) || (am == 0 && bm == 0)) return NOT_A_NUMBER;
    if (am == INFINITE || bm == 0) return sign | INFINITE;
    if (am == 0 || bm == INFINITE) return sign;
    u64 p = soft_significand(am), q = soft_significand(bm);
    i32 pe = soft_exponent(am), qe = soft_exponent(bm);
    i32 shift = (i32)LEADING_ZEROS(p) - 1;
    p <<= shift;
    pe -= shift;
    u64 quotient = p / q;                                       // p at bit 62, q below 2^24: at least 38 bits
    return soft_round(sign, pe - qe, quotient, quotient * q != p);
}

DEVICE u32 soft_sqrt(u32 a) {
    if (is_nan(a)) return NOT_A_NUMBER;
    if ((a & ~SIGN) == 0 || a == INFINITE) return a;
    if (a >> 31) return NOT_A_NUMBER;
    u64 p = soft_significand(a);
    i32 pe = soft_exponent(a);
    i32 shift = (i32)LEADING_ZEROS(p) - 2;
    p <<= shift;                                                // leading bit at 61
    pe -= shift;
    if (pe & 1) { p <<= 1; pe -= 1; }
    u64 root = 0;
    for (u64 bit = (u64)1 << 62; bit > 0; bit >>= 2) {          // digit by digit
        if (p >= root + bit) { p -= root + bit; root = (root >> 1) + bit; } else root >>= 1;
    }
    return soft_round(0, pe / 2, root, p != 0);
}

#endif

// ---- the operations --------------------------------------------------------------------------------------------------

#if defined(SOFT)
DEVICE float f_fma(float a, float b, float c) { return FLOAT(soft_fma(BITS(a), BITS(b), BITS(c))); }
// A product alone: adding a zero of the product's sign keeps the sign of a zero product.
DEVICE float f_mul(float a, float b) { return FLOAT(soft_fma(BITS(a), BITS(b), (BITS(a) ^ BITS(b)) & SIGN)); }
DEVICE float f_add(float a, float b) { return FLOAT(soft_fma(BITS(a), 0x3f800000u, BITS(b))); }
DEVICE float f_sub(float a, float b) { return FLOAT(soft_fma(BITS(a), 0x3f800000u, BITS(b) ^ SIGN)); }
// Comparisons too: hardware that flushes calls two subnormals equal.
DEVICE i32 order(u32 x) { return x >> 31 ? (i32)(SIGN - x) : (i32)x; }
DEVICE u32 f_less(float a, float b) { return !is_nan(BITS(a)) && !is_nan(BITS(b)) && order(BITS(a)) < order(BITS(b)); }
#elif defined(MUTANT_CONTRACT)
#define f_fma(a, b, c) fma(a, b, c)
#define f_mul(a, b) ((a) * (b))
#define f_add(a, b) ((a) + (b))
#define f_sub(a, b) ((a) - (b))
#define f_less(a, b) ((a) < (b))
#else
DEVICE float f_fma(float a, float b, float c) { return HARD_FMA(a, b, c); }
DEVICE float f_mul(float a, float b) { return HARD_MUL(a, b); }
DEVICE float f_add(float a, float b) { return HARD_ADD(a, b); }
DEVICE float f_sub(float a, float b) { return HARD_ADD(a, -(b)); }
DEVICE u32 f_less(float a, float b) { return a < b; }
#endif

#if defined(SOFT) || defined(SOFT_DIV)
DEVICE float f_div(float a, float b) { return FLOAT(soft_div(BITS(a), BITS(b))); }
DEVICE float f_sqrt(float a) { return FLOAT(soft_sqrt(BITS(a))); }
#else
DEVICE float f_div(float a, float b) { return HARD_DIV(a, b); }
DEVICE float f_sqrt(float a) { return HARD_SQRT(a); }
#endif

DEVICE float f_neg(float a) { return FLOAT(BITS(a) ^ SIGN); }

// ---- sums of squares in binary64, as bits ----------------------------------------------------------------------------
//
// Only squares of binary32 are added: no negative numbers, no subnormal ones, no overflow. An infinite or NaN element
// gives an infinity or a NaN, whichever; the host looks for the element then.

#if defined(SOFT_F64)

#define INFINITE64 ((u64)0x7ff << 52)

DEVICE u64 square64(float x) {
    u32 b = BITS(x) & ~SIGN;
    if (b >= INFINITE) return INFINITE64;
    if (b == 0) return 0;
    u64 significand = b & 0x7fffffu;
    i32 exponent = (i32)(b >> 23);
    if (exponent > 0) significand |= (u64)1 << 23; else exponent = 1;
    significand *= significand;                                 // at most 48 bits, so the square is exact
    i32 shift = (i32)LEADING_ZEROS(significand) - 11;           // leading bit to 52
    return ((u64)(2 * (exponent - 150) - shift + 1075) << 52) + ((significand << shift) - ((u64)1 << 52));
}

DEVICE u64 add64(u64 a, u64 b) {
    if (a < b) { u64 t = a; a = b; b = t; }
    if (a >= INFINITE64) return INFINITE64;
    if (b == 0) return a;
    i32 exponent = (i32)(a >> 52), distance = exponent - (i32)(b >> 52);
    u64 hidden = (u64)1 << 52, low = hidden - 1;
    u64 p = ((a & low) | hidden) << 3, q = ((b & low) | hidden) << 3;
    if (distance > 62) q = 1;
    else q = q >> distance | ((q & (((u64)1 << distance) - 1)) != 0);
    p += q;
    if (p >> 56) { p = p >> 1 | (p & 1); exponent += 1; }
    u64 rest = p & 7;
    p >>= 3;
    p += rest > 4 || (rest == 4 && (p & 1));                    // a carry into bit 53 makes the exponent one larger
    return ((u64)(exponent - 1) << 52) + p;
}

#else

#if defined(__OPENCL_VERSION__) || defined(__OPENCL_C_VERSION__)
#define BITS64 as_ulong
#define DOUBLE as_double
#else
#define BITS64 (u64)__double_as_longlong
#define DOUBLE __longlong_as_double
#endif
DEVICE u64 square64(float x) { double v = (double)x; return BITS64(HARD_MUL64(v, v)); }
DEVICE u64 add64(u64 a, u64 b) { return BITS64(HARD_ADD64(DOUBLE(a), DOUBLE(b))); }

#endif
