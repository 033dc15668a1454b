//! The operations of [`Device`] as launches of kernels.

use std::borrow::Cow;
use std::ops::Range;

use templar_manifest::Arithmetic;
use templar_numerics::{AdamW, AttentionShape, HeadLayout};

use super::Gpu;
use super::driver::Driver;
use super::launch::Launch;
use super::ranges::{SEARCH, check_ranges};
use crate::buffer::{Buffer, View, ViewMut};
use crate::device::{
    AdamWUpdate, AttentionGradient, Device, DeviceError, DeviceMemory, GateInputs, Matrix, MatrixMut, NormGradient,
    NormInputs, RotaryBuffers,
};
use crate::host;

/// Threads that take the columns of an embedding's row; `elements.cl` knows the same number.
const EMBEDDING_GROUP: u32 = 128;

/// The values that attention keeps of each row of each head: its largest score, 1 / the sum, and the sum of p · dp.
const ATTENTION_STATISTICS: u64 = 3;

impl<D: Driver> Device for Gpu<D> {
    fn name(&self) -> String {
        self.driver.name()
    }

    fn arithmetic(&self) -> Arithmetic {
        Arithmetic::F32
    }

    fn memory(&self) -> Option<DeviceMemory> {
        Some(self.driver.memory())
    }

    fn is_rechecked(&self) -> bool {
        true
    }

    fn stop_using(&self, why: &DeviceError) {
        self.failure.lock().get_or_insert_with(|| why.clone());
    }

    fn zeros(&self, len: u64) -> Result<Buffer, DeviceError> {
        let mut buffer = self.buffer(len)?;
        self.fill(buffer.all_mut(), 0.0);
        self.check()?;
        Ok(buffer)
    }

    fn resize(&self, buffer: &mut Buffer, len: u64) -> Result<(), DeviceError> {
        self.resize_buffer(buffer, len)
    }

    fn upload(&self, values: Cow<'_, [f32]>) -> Result<Buffer, DeviceError> {
        let mut buffer = self.buffer(values.len() as u64)?;
        self.write(&values, buffer.all_mut())?;
        Ok(buffer)
    }

    fn upload_ids(&self, ids: &[u32], buffer: &mut Buffer<u32>) -> Result<(), DeviceError> {
        self.write_ids(ids, buffer)
    }

    fn write(&self, values: &[f32], to: ViewMut<'_>) -> Result<(), DeviceError> {
        assert_eq!(values.len() as u64, to.len(), "as many values as elements");
        self.check()?;
        if values.is_empty() {
            return Ok(());
        }
        let view = to.as_view();
        let (memory, at) = self.place(&view);
        self.driver.write(memory, at, bytemuck::cast_slice(values)).map_err(|error| self.fail(error))
    }

    fn read(&self, from: View<'_>, values: &mut [f32]) -> Result<(), DeviceError> {
        assert_eq!(values.len() as u64, from.len(), "as many values as elements");
        let (memory, at) = self.place(&from);
        self.words(memory, at, bytemuck::cast_slice_mut(values))
    }

    fn download(&self, buffer: Buffer) -> Result<Vec<f32>, DeviceError> {
        let mut values = vec![0.0; buffer.len() as usize];
        self.read(buffer.all(), &mut values)?;
        Ok(values)
    }

    fn fill(&self, x: ViewMut<'_>, value: f32) {
        let (view, len) = (x.as_view(), x.len());
        self.kernel("fill").view(&view).f32(value).u64(len).each(len);
    }

    fn gemm(&self, a: Matrix<'_>, b: Matrix<'_>, c: MatrixMut<'_>, accumulate: bool) {
        let shape = |matrix: &Matrix<'_>| match matrix.is_transposed {
            false => (matrix.rows, matrix.cols),
            true => (matrix.cols, matrix.rows),
        };
        let ((m, depth), (depth_b, n)) = (shape(&a), shape(&b));
        assert!(depth == depth_b && (c.rows, c.cols) == (m, n), "a product of matrices that fit");
        // From row to row of op(A) and along k, then from column to column of op(B) and along k.
        let (a_i, a_k) = if a.is_transposed { (1, m) } else { (depth, 1) };
        let (b_j, b_k) = if b.is_transposed { (depth, 1) } else { (1, n) };
        let c = c.elements.as_view();
        let launch = self.kernel("gemm").view(&a.elements).u64(a_i).u64(a_k).view(&b.elements).u64(b_j).u64(b_k);
        let launch = launch.view(&c).size(m).size(n).size(depth).flag(accumulate);
        let groups = [n.div_ceil(self.tiles.tile_cols()), m.div_ceil(self.tiles.tile_rows()), 1];
        launch.run(groups, self.tiles.group);
    }

    fn embedding(&self, table: View<'_>, ids: View<'_, u32>, out: ViewMut<'_>) {
        let (out, width) = (out.as_view(), width(out.len(), ids.len()));
        self.kernel("embedding").view(&table).view(&ids).view(&out).size(width).u64(out.len()).each(out.len());
    }

    fn embedding_backward(&self, dout: View<'_>, ids: View<'_, u32>, dtable: ViewMut<'_>) {
        let (dtable, width) = (dtable.as_view(), width(dout.len(), ids.len()));
        if ids.is_empty() {
            return;
        }
        let launch = self.kernel("embedding_backward").view(&dout).view(&ids).memory(self.links_of(&ids)).view(&dtable);
        let launch = launch.size(width).size(ids.range().start).size(ids.len());
        launch.groups(ids.len(), EMBEDDING_GROUP);
    }

    fn rms_norm(&self, inputs: NormInputs<'_>, eps: f32, out: ViewMut<'_>, inv_rms: ViewMut<'_>) {
        let (out, inv_rms) = (out.as_view(), inv_rms.as_view());
        let NormInputs { x, weight } = inputs;
        check_norm(x.len(), weight.len(), out.len(), inv_rms.len());
        let launch = self.kernel("rms_norm").view(&x).view(&weight).view(&out).view(&inv_rms);
        rows(launch.size(weight.len()).f32(eps), inv_rms.len());
    }

    fn rms_norm_backward(&self, gradient: NormGradient<'_>, dx: ViewMut<'_>, dweight: ViewMut<'_>) {
        let NormGradient { inputs: NormInputs { x, weight }, inv_rms, dy } = gradient;
        let (dx, dweight, count) = (dx.as_view(), dweight.as_view(), inv_rms.len());
        check_norm(x.len(), weight.len(), dy.len(), count);
        check_norm(dx.len(), dweight.len(), dy.len(), count);
        let launch = self.kernel("rms_norm_backward_x").view(&x).view(&weight).view(&inv_rms).view(&dy).view(&dx);
        rows(launch.size(weight.len()), count);
        let launch = self.kernel("rms_norm_backward_weight").view(&x).view(&inv_rms).view(&dy).view(&dweight);
        launch.size(count).size(weight.len()).run([weight.len().div_ceil(32), 1, 1], [32, 8]);
    }

    fn cross_entropy(&self, logits: ViewMut<'_>, targets: View<'_, u32>, grad_scale: f32, losses: ViewMut<'_>) {
        self.losses(&logits.as_view(), &targets, Some(grad_scale), &losses.as_view());
    }

    fn cross_entropy_loss(&self, logits: View<'_>, targets: View<'_, u32>, losses: ViewMut<'_>) {
        self.losses(&logits, &targets, None, &losses.as_view());
    }

    fn split_heads(&self, layout: HeadLayout, by_token: View<'_>, by_head: ViewMut<'_>) {
        self.relayout(layout, &by_token, &by_head.as_view(), false);
    }

    fn merge_heads(&self, layout: HeadLayout, by_head: View<'_>, by_token: ViewMut<'_>) {
        self.relayout(layout, &by_head, &by_token.as_view(), true);
    }

    fn rotary(&self, shape: AttentionShape, qkv: ViewMut<'_>, tables: &RotaryBuffers) {
        self.turn(shape, &qkv.as_view(), tables, false);
    }

    fn rotary_backward(&self, shape: AttentionShape, qkv: ViewMut<'_>, tables: &RotaryBuffers) {
        self.turn(shape, &qkv.as_view(), tables, true);
    }

    fn attention_statistics(&self, shape: AttentionShape, sequences: u64) -> u64 {
        ATTENTION_STATISTICS * sequences * shape.heads as u64 * shape.length as u64
    }

    fn attention(&self, shape: AttentionShape, qkv: View<'_>, context: ViewMut<'_>, statistics: ViewMut<'_>) {
        let (context, statistics) = (context.as_view(), statistics.as_view());
        let sequences = sequences(shape, &qkv, &context);
        assert_eq!(statistics.len(), self.attention_statistics(shape, sequences), "room for the statistics");
        let launch = self.kernel("attention").view(&qkv).view(&context).view(&statistics);
        let groups = [blocks(shape), shape.heads as u64, sequences];
        heads(launch, shape).run(groups, self.tiles.attention_group());
    }

    fn attention_backward(&self, shape: AttentionShape, gradient: AttentionGradient<'_>, statistics: ViewMut<'_>) {
        let AttentionGradient { qkv, dcontext, dqkv } = gradient;
        let (dqkv, statistics) = (dqkv.as_view(), statistics.as_view());
        let count = sequences(shape, &qkv, &dcontext);
        assert_eq!((dqkv.len(), statistics.len()), (qkv.len(), self.attention_statistics(shape, count)), "lengths");
        for (kernel, groups) in [("attention_backward_q", shape.heads), ("attention_backward_kv", shape.kv_heads)] {
            let launch = self.kernel(kernel).view(&qkv).view(&dcontext).view(&statistics).view(&dqkv);
            heads(launch, shape).run([blocks(shape), groups as u64, count], self.tiles.attention_group());
        }
    }

    fn add(&self, x: ViewMut<'_>, y: View<'_>) {
        let (x, len) = (x.as_view(), same([x.len(), y.len()]));
        self.kernel("add").view(&x).view(&y).u64(len).each(len);
    }

    fn subtract(&self, x: ViewMut<'_>, y: View<'_>) {
        let (x, len) = (x.as_view(), same([x.len(), y.len()]));
        self.kernel("subtract").view(&x).view(&y).u64(len).each(len);
    }

    fn scale(&self, x: ViewMut<'_>, factor: f32) {
        let (view, len) = (x.as_view(), x.len());
        self.kernel("scale").view(&view).f32(factor).u64(len).each(len);
    }

    fn swiglu(&self, inputs: GateInputs<'_>, out: ViewMut<'_>) {
        let GateInputs { gate, up } = inputs;
        let (out, len) = (out.as_view(), same([gate.len(), up.len(), out.len()]));
        self.kernel("swiglu").view(&gate).view(&up).view(&out).u64(len).each(len);
    }

    fn swiglu_backward(&self, inputs: GateInputs<'_>, dout: View<'_>, dgate: ViewMut<'_>, dup: ViewMut<'_>) {
        let GateInputs { gate, up } = inputs;
        let (dgate, dup) = (dgate.as_view(), dup.as_view());
        let len = same([gate.len(), up.len(), dout.len(), dgate.len(), dup.len()]);
        let launch = self.kernel("swiglu_backward").view(&gate).view(&up).view(&dout).view(&dgate).view(&dup);
        launch.u64(len).each(len);
    }

    fn adamw(&self, settings: &AdamW, update: AdamWUpdate<'_>) {
        let AdamWUpdate { params, gradient, first, second } = update;
        let (params, first, second) = (params.as_view(), first.as_view(), second.as_view());
        let len = same([params.len(), gradient.len(), first.len(), second.len()]);
        let AdamW { lr, beta1, beta2, eps, weight_decay, bias1, bias2 } = *settings;
        let launch = self.kernel("adamw").view(&params).view(&gradient).view(&first).view(&second).u64(len);
        // The specification computes these once, in f32.
        let launch = launch.f32(beta1).f32(1.0 - beta1).f32(beta2).f32(1.0 - beta2);
        launch.f32(1.0 - lr * weight_decay).f32(lr / bias1).f32(1.0 / bias2).f32(eps).each(len);
    }

    fn squared_norms(&self, x: &Buffer, ranges: &[Range<u64>]) -> Result<Vec<f64>, DeviceError> {
        self.norms(x, ranges)
    }

    fn first_non_finite(&self, x: View<'_>) -> Result<Option<u64>, DeviceError> {
        let groups = x.len().div_ceil(SEARCH);
        let found = self.allocate(2 * groups)?;
        self.kernel("first_non_finite").view(&x).memory(&found).u64(x.len()).groups(groups, 256);
        Ok(self.longs(&found, groups)?.into_iter().find(|place| *place != u64::MAX))
    }

    fn hash(
        &self,
        parts: &[&Buffer],
        ranges: &[Range<u64>],
        key: Option<&[u8; 32]>,
    ) -> Result<Vec<[u8; 32]>, DeviceError> {
        parts.iter().for_each(|part| check_ranges(part, ranges));
        if matches!(parts.len(), 1..=3) {
            return self.hashes(parts, ranges, key);
        }
        // The kernel knows three buffers; others are hashed on the host.
        let read = |part: &&Buffer| -> Result<Buffer, DeviceError> {
            let mut values = vec![0.0; part.len() as usize];
            self.read(part.all(), &mut values)?;
            Ok(host::buffer(values))
        };
        let parts = parts.iter().map(read).collect::<Result<Vec<Buffer>, _>>()?;
        Ok(host::hash(&parts.iter().collect::<Vec<_>>(), ranges, key))
    }
}

impl<D: Driver> Gpu<D> {
    /// The losses of rows; with a scale, the logits become the gradient.
    fn losses(&self, logits: &View<'_>, targets: &View<'_, u32>, scale: Option<f32>, losses: &View<'_>) {
        assert_eq!(targets.len(), losses.len(), "a loss for each target");
        let vocab = width(logits.len(), targets.len());
        let launch = self.kernel("cross_entropy").view(logits).view(targets).view(losses).size(vocab);
        rows(launch.f32(scale.unwrap_or(1.0)).flag(scale.is_some()), targets.len());
    }

    fn relayout(&self, layout: HeadLayout, from: &View<'_>, to: &View<'_>, back: bool) {
        let HeadLayout { length, count, width } = layout;
        let (len, sequence) = (same([from.len(), to.len()]), (length * count * width) as u64);
        assert!(sequence > 0 && len.is_multiple_of(sequence), "a layout of {layout:?} in {len} elements");
        let launch = self.kernel("relayout").view(from).view(to);
        let launch = launch.size(length as u64).size(count as u64).size(width as u64);
        launch.u64(len).flag(back).each(len);
    }

    fn turn(&self, shape: AttentionShape, qkv: &View<'_>, tables: &RotaryBuffers, backward: bool) {
        let AttentionShape { length, heads, kv_heads, width } = shape;
        let (sequence, table) = (shape.sequence_floats() as u64, (length * width / 2) as u64);
        assert!(sequence > 0 && qkv.len().is_multiple_of(sequence), "heads of {shape:?} in {} elements", qkv.len());
        assert!(tables.cos.len() >= table && tables.sin.len() >= table, "a table for every position");
        let pairs = qkv.len() / sequence * ((heads + kv_heads) * length * (width / 2)) as u64;
        let launch = self.kernel("rotary").view(qkv).view(&tables.cos.all()).view(&tables.sin.all()).u64(pairs);
        let sizes = [heads, kv_heads, length, width];
        let launch = sizes.into_iter().fold(launch, |launch, size| launch.size(size as u64));
        launch.f32(shape.query_scale()).flag(backward).each(pairs);
    }
}

/// A launch of kernels over rows: a group of 32 threads each.
fn rows<D: Driver>(launch: Launch<'_, D>, rows: u64) {
    launch.groups(rows, 32);
}

/// The sizes of attention as its kernels take them.
fn heads<D: Driver>(launch: Launch<'_, D>, shape: AttentionShape) -> Launch<'_, D> {
    let AttentionShape { length, heads, kv_heads, width } = shape;
    [length, heads, kv_heads, width].into_iter().fold(launch, |launch, size| launch.size(size as u64))
}

/// The blocks of 64 rows or keys of a sequence, which a group takes each.
fn blocks(shape: AttentionShape) -> u64 {
    shape.length.div_ceil(64) as u64
}

/// The number of sequences in `qkv`, whose queries are as long as `context`.
fn sequences(shape: AttentionShape, qkv: &View<'_>, context: &View<'_>) -> u64 {
    let (sequence, queries) = (shape.sequence_floats() as u64, (shape.heads * shape.length * shape.width) as u64);
    assert!(
        shape.kv_heads > 0 && shape.heads.is_multiple_of(shape.kv_heads) && sequence > 0,
        "attention of no heads, or of query heads that do not divide: {shape:?}"
    );
    let count = qkv.len() / sequence;
    assert!(
        count * sequence == qkv.len() && count * queries == context.len(),
        "attention of {} elements into {} with {shape:?}",
        qkv.len(),
        context.len()
    );
    count
}

/// The one length that all have.
fn same<const N: usize>(lengths: [u64; N]) -> u64 {
    assert!(lengths.iter().all(|len| *len == lengths[0]), "an operation over different lengths: {lengths:?}");
    lengths[0]
}

/// The width of `rows` rows in so many elements.
fn width(elements: u64, rows: u64) -> u64 {
    let width = elements.checked_div(rows).unwrap_or(0);
    assert_eq!(width * rows, elements, "{elements} elements in {rows} rows");
    width
}

/// Checks that all are `[rows, width]`.
fn check_norm(x: u64, width: u64, out: u64, rows: u64) {
    assert!(
        x == out && Some(x) == rows.checked_mul(width),
        "RMSNorm of {x} elements into {out}, {rows} rows of {width}"
    );
}
