// One kernel source for OpenCL C (every vendor, and pocl on a CPU) and CUDA C (NVRTC).
//
// Every float operation of a kernel is a call, so that rounding, contraction and flushing are decided in this file and the
// next one. Options that would still break them are never given: --use_fast_math, --ftz=true, -ffp-contract=fast,
// -cl-fast-relaxed-math, -cl-denorms-are-zero.
//
// Definitions that the host gives:
//   SOFT_DIV  division and root by integers, for a device without correctly rounded ones
//   SOFT      all binary32 arithmetic by integers, for a device that flushes subnormals or has no fused multiply-add
//   SOFT_F64  binary64 sums by integers, for a device without binary64
//   VECTOR    elements of a vector of a thread: 1, 4, 8 or 16; for the rest of the shapes see products.cl and attention.cl
// Definitions of tests, which must not pass the self-test:
//   MUTANT_CONTRACT  bare operators and no pragma, as one would write it without thinking
//   MUTANT_FENCE     a barrier that is missing between threads that write terms and the one that adds them

#if defined(__OPENCL_VERSION__) || defined(__OPENCL_C_VERSION__)

#if !defined(MUTANT_CONTRACT)
#pragma OPENCL FP_CONTRACT OFF
#endif
#if !defined(SOFT_F64)
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
#endif
#define KERNEL __kernel
#define GLOBAL __global
#define LOCAL __local
#define LOCAL_ARRAY __local
#define CONSTANT __constant
#define DEVICE
#define ID(d) ((u32)get_local_id(d))
#define GROUP(d) ((u32)get_group_id(d))
#define GLOBAL_ID ((u64)get_global_id(0))
// Both fences: a local one alone does not order global memory within the group, where __syncthreads does.
#define SYNC barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE)
#define BITS as_uint
#define FLOAT as_float
typedef uint u32;
typedef int i32;
typedef ulong u64;
typedef long i64;
#define HARD_FMA(a, b, c) fma(a, b, c)
#define HARD_ADD(a, b) ((a) + (b))
// A product by fma: where a compiler ignores the pragma, nothing is left that it could contract. The speed is the same.
#define HARD_MUL(a, b) fma(a, b, -0.0f)
#define HARD_DIV(a, b) ((a) / (b))
#define HARD_SQRT(a) sqrt(a)
#define HARD_ADD64(a, b) ((a) + (b))
#define HARD_MUL64(a, b) ((a) * (b))
#define LEADING_ZEROS(x) ((u32)clz((ulong)(x)))

#else

#define KERNEL extern "C" __global__
#define GLOBAL
#define LOCAL
#define LOCAL_ARRAY __shared__
#define CONSTANT __constant__
#define DEVICE __device__ static inline
#define ID(d) ((d) == 0 ? threadIdx.x : threadIdx.y)
#define GROUP(d) ((d) == 0 ? blockIdx.x : (d) == 1 ? blockIdx.y : blockIdx.z)
#define GLOBAL_ID ((u64)blockIdx.x * blockDim.x + threadIdx.x)
#define SYNC __syncthreads()
#define BITS __float_as_uint
#define FLOAT __uint_as_float
typedef unsigned int u32;
typedef int i32;
typedef unsigned long long u64;
typedef long long i64;
#define HARD_FMA(a, b, c) __fmaf_rn(a, b, c)
#define HARD_ADD(a, b) __fadd_rn(a, b)
#define HARD_MUL(a, b) __fmul_rn(a, b)
#define HARD_DIV(a, b) __fdiv_rn(a, b)
#define HARD_SQRT(a) __fsqrt_rn(a)
#define HARD_ADD64(a, b) __dadd_rn(a, b)
#define HARD_MUL64(a, b) __dmul_rn(a, b)
#define LEADING_ZEROS(x) ((u32)__clzll((long long)(x)))

#endif

// Arithmetic by integers is so long that loops stay as they are.
#if defined(SOFT)
#define UNROLL
#else
#define UNROLL _Pragma("unroll")
#endif

#if defined(MUTANT_FENCE)
#define SYNC_TERMS
#else
#define SYNC_TERMS SYNC
#endif

#define NOT_A_NUMBER 0x7fc00000u
#define INFINITE 0x7f800000u
#define SIGN 0x80000000u
DEVICE u32 is_nan(u32 x) { return (x & 0x7fffffffu) > INFINITE; }

// A buffer and the element that it begins at: OpenCL has no arithmetic on handles.
#define IN(name) GLOBAL const float *name##_, u64 name##_0
#define OUT(name) GLOBAL float *name##_, u64 name##_0
#define IDS(name) GLOBAL const u32 *name##_, u64 name##_0
#define USE_IN(name) GLOBAL const float *name = name##_ + name##_0
#define USE_OUT(name) GLOBAL float *name = name##_ + name##_0
#define USE_IDS(name) GLOBAL const u32 *name = name##_ + name##_0
