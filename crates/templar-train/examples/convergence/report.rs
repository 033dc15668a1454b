//! Tables and plots out of finished runs, into `CONVERGENCE.md`.
//!
//! Every figure is computed here from the cache, none is kept: a delta's bytes are counted by compressing again what a
//! few of its run's deltas were made of, so they are those of the codec as it is.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use templar_delta::{Header, compress};

use crate::cache::{Cache, Record};
use crate::data::Data;
use crate::plan::{self, BATCH, Config, Method, SEEDS, SEQUENCE, SPARSELOCO, Sparse};
use crate::plot::{Plot, Series};
use crate::run::Failure;

/// A finished run.
struct Measured {
    config: Config,
    record: Record,
    /// Bytes that one miner sends in a window: for AdamW, in as many steps.
    window_bytes: f64,
}

impl Measured {
    fn loss(&self) -> f64 {
        self.record.nanonats as f64 / 1e9
    }

    /// Bytes that a miner has sent after `windows`.
    fn bytes(&self, windows: u64) -> f64 {
        self.window_bytes * windows as f64
    }

    /// Tokens of the run after `windows`.
    fn tokens(&self, windows: u64) -> f64 {
        (self.config.tokens / self.config.windows() * windows) as f64
    }

    /// Held-out loss against what `x` makes of the windows done.
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
                let header = Header { run: recipe.run.hash(), window, miner: [0; 32] };
                let mut error = vec![0.0; values.len()];
                bytes += compress(&recipe.tensors, &recipe.compression, &header, &values, &mut error)?.len();
            }
            Ok(bytes as f64 / record.samples.len() as f64)
        }
    }
}

/// The finished runs of the plan, by name of the result.
pub(crate) struct Report<'a> {
    data: &'a Data,
    runs: BTreeMap<String, Measured>,
}

impl<'a> Report<'a> {
    /// Reads every result of the plan that there is.
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

    /// Every table with its name; a run that is not there has no row.
    pub(crate) fn tables(&self) -> Vec<(&'static str, String)> {
        let mut tables = vec![("setup", self.setup())];
        for section in plan::sections() {
            tables.push((section.name, self.table(&section.rows)));
        }
        tables.push(("seeds-small", self.seeds(&plan::seeded_small())));
        tables.push(("seeds", self.seeds(&plan::seeded())));
        tables
    }

    fn setup(&self) -> String {
        let config = Config::new(4, 30, Method::AdamW);
        let parameters = self.find(&config).map_or(0, |run| run.record.parameters);
        format!(
            "{parameters} parameters; {}; {} tokens a run, which is {:.2} epochs; {BATCH} sequences of {SEQUENCE} tokens \
             in a miner's inner step; dataset `{}`.\n",
            self.data.description,
            config.tokens,
            self.data.epochs(config.tokens),
            &self.data.id,
        )
    }

    fn table(&self, rows: &[(String, Config)]) -> String {
        let mut out = String::from(
            "| | held-out loss | to the first row | bytes of a window | bits a parameter | bytes of the run | of dense fp32 | ends in |\n\
             |---|---:|---:|---:|---:|---:|---:|---|\n",
        );
        let mut first = None;
        for (name, config) in rows {
            let Some(run) = self.find(config) else { continue };
            let (loss, parameters) = (run.loss(), run.record.parameters as f64);
            let first = *first.get_or_insert(loss);
            // Writing to a string does not fail.
            let _ = writeln!(
                out,
                "| {name} | {loss:.4} | {:+.4} | {:.0} | {:.4} | {:.0} | {} | `{}` |",
                loss - first,
                run.window_bytes,
                run.window_bytes * 8.0 / parameters,
                run.bytes(config.windows()),
                ratio(parameters * 4.0 / run.window_bytes),
                &run.record.hash[..10],
            );
        }
        out
    }

    /// The same over seeds: each run's difference to the first row's of the same seed.
    fn seeds(&self, rows: &[(&str, Config)]) -> String {
        let mut out = String::from("| |");
        for seed in 0..SEEDS {
            let _ = write!(out, " seed {seed} |");
        }
        out += " mean | mean difference | least | most |\n|---|";
        out += &"---:|".repeat(SEEDS as usize + 4);
        out.push('\n');
        let losses = |config: &Config| -> Option<Vec<f64>> {
            (0..SEEDS).map(|seed| Some(self.find(&config.seeded(seed))?.loss())).collect()
        };
        let Some(base) = rows.first().and_then(|(_, config)| losses(config)) else { return out };
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        for (name, config) in rows {
            let Some(found) = losses(config) else { continue };
            let differences: Vec<f64> = found.iter().zip(&base).map(|(found, base)| found - base).collect();
            let _ = write!(out, "| {name} |");
            for loss in &found {
                let _ = write!(out, " {loss:.4} |");
            }
            let least = differences.iter().copied().fold(f64::INFINITY, f64::min);
            let most = differences.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let _ = writeln!(out, " {:.4} | {:+.4} | {least:+.4} | {most:+.4} |", mean(&found), mean(&differences));
        }
        out
    }

    /// Every plot with its file's name; one of which nothing is there is left out.
    pub(crate) fn plots(&self) -> Vec<(&'static str, String)> {
        let sparse = |sparse: Sparse| Config::new(4, 30, sparse.method());
        let curves = |rows: &[(&str, Config)], x: fn(&Measured, u64) -> f64| -> Vec<Series> {
            rows.iter().filter_map(|(label, config)| Some(self.find(config)?.curve(label, x))).collect()
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
        let plots = [
            (
                "loss.svg",
                Plot {
                    title: "Held-out loss against tokens, four miners",
                    x_label: "tokens, all miners together",
                    is_log: false,
                    y_label: "held-out loss, nats",
                    y_max: 6.0,
                    series: tokens,
                },
            ),
            (
                "bytes.svg",
                Plot {
                    title: "Held-out loss against bytes sent, four miners",
                    x_label: "bytes that one miner has sent",
                    is_log: true,
                    y_label: "held-out loss, nats",
                    y_max: 6.0,
                    series: bytes,
                },
            ),
        ];
        plots.into_iter().filter(|(_, plot)| !plot.series.is_empty()).map(|(name, plot)| (name, plot.svg())).collect()
    }

    /// Puts the tables between their marks in `folder/CONVERGENCE.md` and the plots into `folder/convergence`.
    pub(crate) fn write(&self, folder: &Path) -> Result<(), Failure> {
        let path = folder.join("CONVERGENCE.md");
        let mut text = std::fs::read_to_string(&path)?;
        for (name, table) in self.tables() {
            let mark = format!("<!-- {name} -->\n");
            let (before, rest) = text.split_once(&mark).ok_or_else(|| format!("no mark for {name}"))?;
            let (_, after) = rest.split_once("<!-- end -->").ok_or_else(|| format!("no end of {name}"))?;
            text = format!("{before}{mark}{table}<!-- end -->{after}");
        }
        std::fs::write(&path, text)?;
        let plots = folder.join("convergence");
        std::fs::create_dir_all(&plots)?;
        for (name, svg) in self.plots() {
            std::fs::write(plots.join(name), svg)?;
        }
        Ok(())
    }
}

/// How many times fewer bytes than the dense vector.
fn ratio(ratio: f64) -> String {
    if ratio >= 1.0 { format!("{ratio:.0}×") } else { format!("1/{:.0}×", 1.0 / ratio) }
}
