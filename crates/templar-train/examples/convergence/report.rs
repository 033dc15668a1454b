//! Writes tables and plots of finished runs into `CONVERGENCE.md`.
//!
//! Figures are computed here from the cache. The bytes of a delta are counted by compressing the kept input
//! again, so they are those of the current codec. The matrix can be made in parts on several machines: a row
//! whose run is not in the cache stays as it is in the document.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use templar_delta::{DeltaHeader, compress};

use crate::cache::{Cache, Record};
use crate::data::Data;
use crate::plan::{self, BATCH, Config, Method, SEEDS, SEQUENCE, SPARSELOCO, Sparse};
use crate::plot::{Plot, Series};
use crate::run::Failure;

/// A finished run with its sizes.
struct Measured {
    config: Config,
    record: Record,
    /// The bytes that one miner sends in a window. For AdamW, those of as many steps.
    window_bytes: f64,
}

impl Measured {
    fn loss(&self) -> f64 {
        self.record.nanonats as f64 / 1e9
    }

    /// The bytes that a miner has sent after `windows`.
    fn bytes(&self, windows: u64) -> f64 {
        self.window_bytes * windows as f64
    }

    /// The tokens of the run after `windows`.
    fn tokens(&self, windows: u64) -> f64 {
        (self.config.tokens / self.config.windows() * windows) as f64
    }

    /// The row of this run: the loss, and the cells after the difference.
    fn cells(&self) -> (f64, String) {
        let parameters = self.record.parameters as f64;
        let cells = format!(
            "{:.0} | {:.4} | {:.0} | {} | `{}`",
            self.window_bytes,
            self.window_bytes * 8.0 / parameters,
            self.bytes(self.config.windows()),
            ratio(parameters * 4.0 / self.window_bytes),
            &self.record.hash[..10],
        );
        (self.loss(), cells)
    }

    /// The curve of held-out losses, with x values that `x` computes from the number of windows.
    fn curve(&self, label: &str, x: impl Fn(&Self, u64) -> f64) -> Series {
        let points = self.record.points.iter().filter(|point| point.windows > 0);
        let points = points.map(|point| (x(self, point.windows), point.nanonats as f64 / 1e9)).collect();
        Series { label: label.to_owned(), points }
    }
}

/// The bytes that one miner sends in a window.
fn window_bytes(config: &Config, record: &Record, id: &str, data: &Data, cache: &Cache) -> Result<f64, Failure> {
    let dense = record.parameters as f64 * 4.0;
    match config.method {
        Method::AdamW => Ok(dense * f64::from(config.steps)),
        Method::DiLoCo { .. } => Ok(dense),
        Method::SparseLoCo(_) => {
            let recipe = config.recipe(data.vocab_size)?;
            let mut bytes = 0;
            for &window in &record.samples {
                let values = cache.sample(id, window)?;
                let header = DeltaHeader { run: recipe.run.hash(), window, miner: [0; 32] };
                let mut error = vec![0.0; values.len()];
                bytes += compress(&recipe.tensors, &recipe.compression, &header, &values, &mut error)?.len();
            }
            Ok(bytes as f64 / record.samples.len() as f64)
        }
    }
}

/// The finished runs of the plan, by the name of the result.
pub(crate) struct Report<'a> {
    data: &'a Data,
    runs: BTreeMap<String, Measured>,
}

impl<'a> Report<'a> {
    /// Reads every existing result of the plan.
    pub(crate) fn read(data: &'a Data, cache: &Cache) -> Result<Self, Failure> {
        let mut runs = BTreeMap::new();
        for (_, config) in plan::runs() {
            let id = config.id(&data.id);
            if let Some(record) = cache.result(&id)? {
                let window_bytes = window_bytes(&config, &record, &id, data, cache)?;
                runs.insert(id, Measured { config, record, window_bytes });
            }
        }
        Ok(Self { data, runs })
    }

    fn find(&self, config: &Config) -> Option<&Measured> {
        self.runs.get(&config.id(&self.data.id))
    }

    /// Makes every table, with its name. Rows whose runs are missing here are taken from `document`; a run that
    /// is in neither has no row.
    pub(crate) fn tables(&self, document: &str) -> Vec<(&'static str, String)> {
        let mut tables = Vec::new();
        tables.extend(self.setup().map(|setup| ("setup", setup)));
        for section in plan::sections() {
            tables.push((section.name, self.table(&section.rows, between(document, section.name))));
        }
        for (name, rows) in [("seeds-small", plan::seeded_small()), ("seeds", plan::seeded())] {
            tables.push((name, self.seeds(&rows, between(document, name))));
        }
        tables
    }

    fn setup(&self) -> Option<String> {
        let config = Config::new(4, 30, Method::AdamW);
        let parameters = self.runs.values().find(|run| run.config.size == config.size)?.record.parameters;
        Some(format!(
            "{parameters} parameters; {}; {} tokens a run, which is {:.2} epochs; {BATCH} sequences of {SEQUENCE} tokens \
             in a miner's inner step; dataset `{}`.\n",
            self.data.description,
            config.tokens,
            self.data.epochs(config.tokens),
            &self.data.id,
        ))
    }

    fn table(&self, rows: &[(String, Config)], kept: &str) -> String {
        let mut out = String::from(
            "| | held-out loss | to the first row | bytes of a window | bits a parameter | bytes of the run | of dense fp32 | ends in |\n\
             |---|---:|---:|---:|---:|---:|---:|---|\n",
        );
        let mut first = None;
        for (name, config) in rows {
            let found = self.find(config).map(|run| run.cells()).or_else(|| {
                let (loss, rest) = row_of(kept, name)?.split_once(" | ")?;
                // The run that it was compared with is measured again.
                Some((loss.parse().ok()?, rest.split_once(" | ")?.1.to_owned()))
            });
            let Some((loss, cells)) = found else { continue };
            let first = *first.get_or_insert(loss);
            // Writing to a string does not fail.
            let _ = writeln!(out, "| {name} | {loss:.4} | {:+.4} | {cells} |", loss - first);
        }
        if first.is_none() { NOT_RUN.to_owned() } else { out }
    }

    /// The same over several seeds: the difference of each run to the first row's run of the same seed, for all
    /// seeds where both exist.
    fn seeds(&self, rows: &[(&str, Config)], kept: &str) -> String {
        let mut out = String::from("| |");
        for seed in 0..SEEDS {
            let _ = write!(out, " seed {seed} |");
        }
        out += " mean | mean difference | least | most |\n|---|";
        out += &"---:|".repeat(SEEDS as usize + 4);
        out.push('\n');
        let losses = |name: &str, config: &Config| -> Vec<Option<f64>> {
            let kept: Vec<&str> = row_of(kept, name).map_or(Vec::new(), |row| row.split(" | ").collect());
            let kept = |seed: u64| kept.get(seed as usize)?.parse().ok();
            (0..SEEDS).map(|seed| self.find(&config.seeded(seed)).map(Measured::loss).or_else(|| kept(seed))).collect()
        };
        let base = rows.first().map_or(Vec::new(), |(name, config)| losses(name, config));
        let empty = out.len();
        for (name, config) in rows {
            let found = losses(name, config);
            let differences: Vec<f64> =
                found.iter().zip(&base).filter_map(|(one, base)| Some((*one)? - (*base)?)).collect();
            let found_losses: Vec<f64> = found.iter().copied().flatten().collect();
            if differences.is_empty() {
                continue;
            }
            let _ = write!(out, "| {name} |");
            for loss in &found {
                let _ = write!(out, " {} |", loss.map_or("–".to_owned(), |loss| format!("{loss:.4}")));
            }
            let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
            let least = differences.iter().copied().fold(f64::INFINITY, f64::min);
            let most = differences.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let (loss, difference) = (mean(&found_losses), mean(&differences));
            let _ = writeln!(out, " {loss:.4} | {difference:+.4} | {least:+.4} | {most:+.4} |");
        }
        if out.len() == empty { NOT_RUN.to_owned() } else { out }
    }

    /// Every plot with the name of its file. A plot with a missing curve is left out.
    pub(crate) fn plots(&self) -> Vec<(&'static str, String)> {
        let sparse = |sparse: Sparse| Config::new(4, 30, sparse.method());
        let curves = |rows: &[(&str, Config)], x: fn(&Measured, u64) -> f64| -> Option<Vec<Series>> {
            rows.iter().map(|(label, config)| Some(self.find(config)?.curve(label, x))).collect()
        };
        let (adamw, diloco) = (Config::new(4, 30, Method::AdamW), Config::new(4, 30, plan::DILOCO));
        let tokens = curves(
            &[
                ("AdamW, every step", adamw.clone()),
                ("DiLoCo, H = 30", diloco.clone()),
                ("DiLoCo, H = 15", Config::new(4, 15, plan::DILOCO)),
                ("SparseLoCo, H = 30", sparse(SPARSELOCO)),
                ("SparseLoCo, H = 15", Config::new(4, 15, SPARSELOCO.method())),
            ],
            Measured::tokens,
        );
        let bytes = curves(
            &[
                ("AdamW, every step", adamw),
                ("DiLoCo, H = 30", diloco),
                ("SparseLoCo, k = 128", sparse(Sparse { top_k: 128, ..SPARSELOCO })),
                ("SparseLoCo, k = 64", sparse(SPARSELOCO)),
                ("SparseLoCo, k = 32", sparse(Sparse { top_k: 32, ..SPARSELOCO })),
                ("SparseLoCo, k = 64, H = 15", Config::new(4, 15, SPARSELOCO.method())),
            ],
            Measured::bytes,
        );
        let loss = tokens.map(|series| Plot {
            title: "Held-out loss against tokens, four miners",
            x_label: "tokens, all miners together",
            is_log: false,
            y_label: "held-out loss, nats",
            y_max: 6.0,
            series,
        });
        let bytes = bytes.map(|series| Plot {
            title: "Held-out loss against bytes sent, four miners",
            x_label: "bytes that one miner has sent",
            is_log: true,
            y_label: "held-out loss, nats",
            y_max: 6.0,
            series,
        });
        let plots = [("loss.svg", loss), ("bytes.svg", bytes)];
        plots.into_iter().filter_map(|(name, plot)| Some((name, plot?.svg()))).collect()
    }

    /// Writes the tables between their marks in the document of `folder`, and the plots into
    /// `folder/convergence`.
    pub(crate) fn write(&self, folder: &Path) -> Result<(), Failure> {
        let mut text = document(folder)?;
        for (name, table) in self.tables(&text) {
            let (before, rest) = text.split_once(&mark(name)).ok_or_else(|| format!("no mark for {name}"))?;
            let (_, after) = rest.split_once(END).ok_or_else(|| format!("no end of {name}"))?;
            text = format!("{before}{}{table}{END}{after}", mark(name));
        }
        std::fs::write(folder.join(DOCUMENT), text)?;
        let plots = folder.join("convergence");
        std::fs::create_dir_all(&plots)?;
        for (name, svg) in self.plots() {
            std::fs::write(plots.join(name), svg)?;
        }
        Ok(())
    }
}

/// The document that contains the tables.
const DOCUMENT: &str = "CONVERGENCE.md";
/// The mark at the end of a table.
const END: &str = "<!-- end -->";
/// The text in place of a table without any run.
const NOT_RUN: &str = "Not run yet: the command above fills it in.\n";

/// The mark at the start of a table.
fn mark(name: &str) -> String {
    format!("<!-- {name} -->\n")
}

/// Reads the text of the document.
pub(crate) fn document(folder: &Path) -> std::io::Result<String> {
    std::fs::read_to_string(folder.join(DOCUMENT))
}

/// A table of the document, or an empty text if none has this name.
fn between<'a>(document: &'a str, name: &str) -> &'a str {
    let table = document.split_once(&mark(name)).and_then(|(_, rest)| rest.split_once(END));
    table.map_or("", |(table, _)| table)
}

/// The cells of a table's row after its name.
fn row_of<'a>(table: &'a str, name: &str) -> Option<&'a str> {
    let row = |line: &'a str| line.strip_prefix("| ")?.strip_prefix(name)?.strip_prefix(" | ")?.strip_suffix(" |");
    table.lines().find_map(row)
}

/// How many times fewer bytes than the dense vector.
fn ratio(ratio: f64) -> String {
    if ratio >= 1.0 { format!("{ratio:.0}×") } else { format!("1/{:.0}×", 1.0 / ratio) }
}
