//! What the transform of a case makes of records, worked out in this process.

use std::path::PathBuf;

use tidegate::command::check::Checker;
use tidegate::command::grants::Grants;
use tidegate::command::{Command, Port};
use tidegate::contract::Description;
use tidegate::engine::{Batch, Compiler, Engine, Limits, Transform};
use tidegate::event::{Decoder, Event, Options, Projection};
use tidegate::source::Record;

use super::stores::Case;

pub(crate) struct Commands {
    transform: Transform,
    decoder: Decoder,
    projection: Projection,
    checker: Checker,
    table: &'static str,
    port: Port,
}

/// The module of a transform, as `cargo xtask guests` builds it.
pub(crate) fn module(name: &str) -> PathBuf {
    let folder = std::env::var_os("TIDEGATE_GUESTS");
    let folder = folder.expect("TIDEGATE_GUESTS names the folder of the modules: run `cargo xtask bench`");
    PathBuf::from(folder).join(format!("{}.wasm", name.replace('-', "_")))
}

impl Commands {
    pub(crate) fn new(case: &Case) -> Self {
        let bytes = std::fs::read(module(case.transform)).unwrap();
        let module =
            Engine::new(None, Compiler::Here).unwrap().load(case.transform, &bytes, &Limits::default()).unwrap();
        let settings: toml::Table = case.settings.parse().unwrap();
        let transform = module.start(&serde_json::to_string(&settings).unwrap()).unwrap();
        let all = || vec!["*".to_owned()];
        let grants = Grants { cache: all(), tables: all(), documents: all(), messages: all(), ..Grants::default() };
        Self {
            decoder: Decoder::new(Options { format: case.format, ..Options::default() }),
            projection: Projection::new(&transform.description().inputs),
            checker: Checker::new(transform.description(), &grants).unwrap(),
            transform,
            table: case.table,
            port: case.port,
        }
    }

    pub(crate) fn description(&self) -> &Description {
        self.transform.description()
    }

    /// The commands of one record through the port that is measured.
    pub(crate) fn of(&mut self, record: &Record) -> Vec<Command> {
        let change = match self.decoder.decode(record).unwrap() {
            Event::Change(change) => change,
            other => panic!("{} is {other:?}", record.position()),
        };
        let change = change.project(&mut self.projection);
        let batch = Batch { topic: &record.partition.topic, partition: 0, table: self.table, columns: None };
        let outcome = self.transform.apply(batch, &[change]).unwrap().remove(0).unwrap();
        let checked = outcome.into_iter().map(|command| self.checker.check(command).unwrap());
        checked.filter(|command| command.port() == self.port).collect()
    }
}
