//! The sources of the kernels, and the definitions that they are compiled with.
//!
//! The same sources are OpenCL C and CUDA C. Which arithmetic they use (the hardware's, or integers) and the
//! shape of a product are definitions, so every combination is compiled from the same lines.

use std::fmt::Write as _;

use crate::report::ArithmeticPath;

/// The sources, in the order in which they are joined to one program.
pub(crate) const SOURCES: [&str; 9] = [
    include_str!("../../kernels/dialect.cl"),
    include_str!("../../kernels/arithmetic.cl"),
    include_str!("../../kernels/elementary.cl"),
    include_str!("../../kernels/vectors.cl"),
    include_str!("../../kernels/products.cl"),
    include_str!("../../kernels/rows.cl"),
    include_str!("../../kernels/elements.cl"),
    include_str!("../../kernels/attention.cl"),
    include_str!("../../kernels/blake3.cl"),
];

/// The shapes of the tiles that threads share and take, as `kernels/products.cl` and `kernels/attention.cl`
/// explain them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TileShape {
    pub(crate) group: [u32; 2],
    pub(crate) rows: u32,
    pub(crate) vector: u32,
    pub(crate) vectors: u32,
    pub(crate) depth: u32,
    /// Threads of a group of attention along the rows.
    pub(crate) attention_rows: u32,
    /// Whether each thread copies whole rows, as it is best on a CPU.
    pub(crate) row_copies: bool,
}

impl TileShape {
    /// A shape for GPUs: 128 × 128 of C by 256 threads, 64 chains each in registers.
    pub(crate) const GPU: Self =
        Self { group: [16, 16], rows: 8, vector: 4, vectors: 2, depth: 8, attention_rows: 16, row_copies: false };
    /// A shape for CPUs with 32 registers of 16 numbers. The threads of a group are the rounds of a loop there.
    pub(crate) const CPU: Self =
        Self { group: [4, 8], rows: 8, vector: 16, vectors: 2, depth: 64, attention_rows: 16, row_copies: true };
    /// The same for CPUs with 16 registers of 8 numbers.
    pub(crate) const CPU_AVX2: Self =
        Self { group: [4, 8], rows: 6, vector: 8, vectors: 2, depth: 64, attention_rows: 32, row_copies: true };
    /// A shape for arithmetic by integers, which has no vectors.
    pub(crate) const INTEGERS: Self =
        Self { group: [16, 16], rows: 2, vector: 1, vectors: 2, depth: 8, attention_rows: 16, row_copies: false };

    /// Rows of C that a group takes.
    pub(crate) fn tile_rows(&self) -> u64 {
        u64::from(self.group[1]) * u64::from(self.rows)
    }

    /// Columns of C that a group takes.
    pub(crate) fn tile_cols(&self) -> u64 {
        u64::from(self.group[0]) * u64::from(self.vector) * u64::from(self.vectors)
    }

    /// Threads of a group of attention: along the columns, of which each thread has whole vectors in every 16,
    /// and along the rows.
    pub(crate) fn attention_group(&self) -> [u32; 2] {
        [16 / self.vector, self.attention_rows]
    }

    /// Bytes of local memory that a group of a product takes.
    pub(crate) fn local_bytes(&self) -> u64 {
        2 * u64::from(self.depth) * (self.tile_rows() + self.tile_cols() + 8) * 4
    }
}

/// How the program of a device is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Definitions {
    pub(crate) path: ArithmeticPath,
    /// Whether the device has binary64.
    pub(crate) has_f64: bool,
    pub(crate) tiles: TileShape,
    /// An option that spoils the arithmetic, for tests of the test; never set otherwise.
    pub(crate) mutant: Option<&'static str>,
}

impl Definitions {
    /// The options of the compiler that define all this.
    pub(crate) fn options(&self) -> String {
        let TileShape { group: [x, y], rows, vector, vectors, depth, attention_rows, row_copies } = self.tiles;
        let mut options = format!(
            "-DGROUP_X={x} -DGROUP_Y={y} -DROWS={rows} -DVECTOR={vector} -DVECTORS={vectors} -DDEPTH={depth} \
             -DA_Y={attention_rows}"
        );
        let flags = [
            (row_copies, "ROW_COPIES"),
            (self.path == ArithmeticPath::IntegerDivision, "SOFT_DIV"),
            (self.path == ArithmeticPath::Integers, "SOFT"),
            (!self.has_f64, "SOFT_F64"),
        ];
        for name in flags.into_iter().filter_map(|(is_set, name)| is_set.then_some(name)) {
            // Writing into a String cannot fail.
            let _ = write!(options, " -D{name}");
        }
        self.mutant.into_iter().for_each(|mutant| options.extend([" ", mutant]));
        options
    }
}
