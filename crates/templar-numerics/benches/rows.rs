//! Speed of every kernel except matrix products, on one thread, by instruction set, over 64 rows of 512 elements.
//!
//! `cargo bench -p templar -p templar-numerics --bench rows`. An item is an element.

use divan::Bencher;
use divan::counter::ItemsCount;
use templar_numerics::{AdamW, Isa, Kernels, RotaryScaling, RotaryTables};

const ROWS: usize = 64;
const WIDTH: usize = 512;
const LEN: usize = ROWS * WIDTH;

fn main() {
    // The measuring thread is the one that computes, so no call waits for another thread to wake up.
    rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global().expect("the first pool");
    divan::main();
}

/// The arrays that the kernels read and write.
struct Arrays {
    x: Vec<f32>,
    y: Vec<f32>,
    a: Vec<f32>,
    b: Vec<f32>,
    c: Vec<f32>,
    weight: Vec<f32>,
    dweight: Vec<f32>,
    inv: Vec<f32>,
    losses: Vec<f32>,
    tables: RotaryTables,
}

/// Calls a kernel on one thread with this instruction set.
fn measure(bencher: Bencher<'_, '_>, isa: &str, kernel: impl Fn(&Kernels, &mut Arrays)) {
    let isa = isa.parse::<Isa>().expect("an instruction set");
    let kernels = Kernels::with_isa(isa).expect("the machine has the instruction set");
    let x: Vec<f32> = (0..LEN).map(|i| ((i * 37) % 1009) as f32 / 200.0 - 2.5).collect();
    let y: Vec<f32> = x.iter().rev().copied().collect();
    let mut arrays = Arrays {
        a: x.clone(),
        b: y.clone(),
        c: vec![0.5; LEN],
        weight: vec![1.0; WIDTH],
        dweight: vec![0.0; WIDTH],
        inv: vec![0.1; ROWS],
        losses: vec![0.0; ROWS],
        tables: RotaryTables::new(ROWS, 32, 10_000.0, RotaryScaling::None),
        x,
        y,
    };
    bencher.counter(ItemsCount::new(LEN)).bench_local(|| kernel(&kernels, &mut arrays));
}

/// The instruction sets of this machine by name.
fn sets() -> impl Iterator<Item = String> {
    Isa::available().into_iter().map(|isa| isa.to_string())
}

macro_rules! kernels {
    ($($name:ident: |$kernels:ident, $arrays:ident| $call:expr;)*) => {
        $(
            #[divan::bench(args = sets())]
            fn $name(bencher: Bencher<'_, '_>, isa: &str) {
                measure(bencher, isa, |$kernels, $arrays| $call);
            }
        )*
    };
}

kernels! {
    exp_with_a_copy: |k, all| {
        all.a.copy_from_slice(&all.x);
        k.exp_in_place(&mut all.a);
    };
    sum: |k, all| _ = divan::black_box(k.sum(&all.x));
    dot: |k, all| _ = divan::black_box(k.dot(&all.x, &all.y));
    squared_norm_f64: |k, all| _ = divan::black_box(k.squared_norm_f64(&all.x));
    softmax: |k, all| all.a.chunks_mut(WIDTH).for_each(|row| k.softmax(row));
    softmax_backward: |k, all| {
        for ((x, y), c) in all.x.chunks(WIDTH).zip(all.y.chunks(WIDTH)).zip(all.c.chunks_mut(WIDTH)) {
            k.softmax_backward(x, y, c);
        }
    };
    rms_norm: |k, all| k.rms_norm(&all.x, &all.weight, 1e-5, &mut all.a, &mut all.inv);
    rms_norm_backward: |k, all| {
        k.rms_norm_backward(&all.x, &all.weight, &all.inv, &all.y, &mut all.c, &mut all.dweight);
    };
    swiglu: |k, all| k.swiglu(&all.x, &all.y, &mut all.a);
    swiglu_backward: |k, all| k.swiglu_backward(&all.x, &all.y, &all.y, &mut all.a, &mut all.b);
    rotary: |k, all| k.rotary(&mut all.a, WIDTH / 32, 32, all.tables.angles(), 0, ROWS);
    cross_entropy: |k, all| k.cross_entropy(&mut all.b, &[7; ROWS], 1.0, &mut all.losses);
    cross_entropy_loss: |k, all| k.cross_entropy_loss(&all.x, &[7; ROWS], &mut all.losses);
    adamw: |k, all| k.adamw(&SETTINGS, &mut all.a, &all.x, &mut all.b, &mut all.c);
    add_in_place: |k, all| k.add_in_place(&mut all.b, &all.y);
    first_non_finite: |k, all| _ = divan::black_box(k.first_non_finite(&all.x));
}

const SETTINGS: AdamW =
    AdamW { lr: 1e-6, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, bias1: 0.1, bias2: 0.05 };
