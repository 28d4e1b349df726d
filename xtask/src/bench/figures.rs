//! What criterion left on disk: for each benchmark, how long one event takes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;

/// Nanoseconds an event by group, function and parameter.
#[derive(Debug, Default)]
pub(super) struct Figures(BTreeMap<(String, String, String), f64>);

#[derive(Deserialize)]
struct Benchmark {
    group_id: String,
    function_id: Option<String>,
    value_str: Option<String>,
    throughput: Option<Throughput>,
}

#[derive(Deserialize)]
enum Throughput {
    Elements(u64),
    ElementsAndBytes {
        elements: u64,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Sample {
    iters: Vec<f64>,
    times: Vec<f64>,
}

impl Figures {
    /// Reads the results of the last run below criterion's folder.
    pub(super) fn read(folder: &Path) -> anyhow::Result<Self> {
        let mut figures = Self::default();
        figures.read_below(folder)?;
        Ok(figures)
    }

    fn read_below(&mut self, folder: &Path) -> anyhow::Result<()> {
        let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() && path.file_name().is_some_and(|name| name == "new") {
                self.add(&path)?;
            } else if path.is_dir() {
                self.read_below(&path)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, folder: &Path) -> anyhow::Result<()> {
        let benchmark: Benchmark = json(&folder.join("benchmark.json"))?;
        let sample: Sample = json(&folder.join("sample.json"))?;
        let elements = match benchmark.throughput {
            Some(Throughput::Elements(elements) | Throughput::ElementsAndBytes { elements }) => elements,
            Some(Throughput::Other) | None => return Ok(()),
        };
        // The quickest sample: other work on the machine can only add.
        let quickest = sample.times.iter().zip(&sample.iters).map(|(time, count)| time / count).min_by(f64::total_cmp);
        let Some(nanos) = quickest else { return Ok(()) };
        let id =
            (benchmark.group_id, benchmark.function_id.unwrap_or_default(), benchmark.value_str.unwrap_or_default());
        #[allow(clippy::cast_precision_loss)] // some thousands
        self.0.insert(id, nanos / elements as f64);
        Ok(())
    }

    /// Nanoseconds an event; none where the benchmark was not run.
    pub(super) fn get(&self, group: &str, function: &str, parameter: &str) -> Option<f64> {
        self.0.get(&(group.to_owned(), function.to_owned(), parameter.to_owned())).copied()
    }

    /// The benchmarks of a group in the order of their names, with nanoseconds an event.
    pub(super) fn group<'a>(&'a self, group: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.0.iter().filter(move |((of, ..), _)| of == group).map(|((_, name, _), nanos)| (name.as_str(), *nanos))
    }
}

fn json<T: serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let shown = path.display();
    let text = fs::read(path).with_context(|| format!("cannot read {shown}"))?;
    serde_json::from_slice(&text).with_context(|| format!("{shown} is not what criterion writes"))
}
