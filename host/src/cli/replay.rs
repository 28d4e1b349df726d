//! `tidegate replay`: recorded events through one module or two, without any store.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use anyhow::Context;
use clap::ValueEnum;
use tidegate::command::meaning::{answer, quoted, rejected, to_json};
use tidegate::engine::{Batch, Compiler, Engine, Limits, Transform};
use tidegate::event::{Decoder, Event, Format, Options, Projection};
use tidegate::source::{Record, recorded};

use super::exit::{Exit, UsageError};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The module; given twice, the two are compared.
    #[arg(long = "module", value_name = "FILE", required = true)]
    modules: Vec<PathBuf>,
    /// The settings: JSON, or @FILE with JSON in it, both as they stand, without `${env:NAME}`. Given twice, the second
    /// is for the second module.
    #[arg(long, value_name = "JSON|@FILE", default_value = "{}")]
    settings: Vec<String>,
    /// How the records are laid out.
    #[arg(long, value_enum, default_value_t = Layout::DebeziumEnvelope)]
    format: Layout,
    /// Files of recorded events.
    #[arg(required = true)]
    events: Vec<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Layout {
    DebeziumEnvelope,
    DebeziumFlattened,
    Auto,
}

/// A module at work.
struct Player {
    transform: Transform,
    projection: Projection,
}

pub(super) fn replay(arguments: &Arguments) -> anyhow::Result<Exit> {
    if arguments.modules.len() > 2 || arguments.settings.len() > arguments.modules.len() {
        let cause = "give one `--module` or two, and not more `--settings` than modules";
        return Err(UsageError(cause.into()).into());
    }
    let engine = Engine::new(None, Compiler::this_program()?)?;
    let mut players = Vec::new();
    for (number, path) in arguments.modules.iter().enumerate() {
        let settings = arguments.settings.get(number).or(arguments.settings.first());
        players.push(Player::start(
            &engine,
            path,
            &settings.map_or_else(|| Ok("{}".to_owned()), |s| read_settings(s))?,
        )?);
    }
    let format = match arguments.format {
        Layout::DebeziumEnvelope => Format::Envelope,
        Layout::DebeziumFlattened => Format::Flattened,
        Layout::Auto => Format::Auto,
    };
    let mut decoder = Decoder::new(Options { format, ..Options::default() });
    let mut output = BufWriter::new(io::stdout().lock());
    let mut differ = false;
    for path in &arguments.events {
        let records = recorded::read(path).with_context(|| format!("cannot open `{}`", path.display()));
        for record in records.map_err(|error| UsageError(format!("{error:#}")))? {
            differ |= play(&record?, &mut decoder, &mut players, &mut output)?;
        }
    }
    output.flush()?;
    Ok(if differ { Exit::Different } else { Exit::Done })
}

/// Hands one record to the modules, prints what comes back, and says whether two of them differ.
fn play(
    record: &Record,
    decoder: &mut Decoder,
    players: &mut [Player],
    output: &mut impl Write,
) -> anyhow::Result<bool> {
    let place = format!(
        "\"topic\":{},\"partition\":{},\"offset\":{}",
        quoted(&record.partition.topic),
        record.partition.partition,
        record.offset
    );
    let change = match decoder.decode(record) {
        Ok(Event::Change(change)) => change,
        Ok(Event::Truncate) => {
            writeln!(output, "{{{place},\"truncate\":true}}")?;
            return Ok(false);
        }
        Ok(Event::Control(_)) => return Ok(false),
        Err(rejection) => {
            writeln!(output, "{{{place},{}}}", rejected(&rejection))?;
            return Ok(false);
        }
    };
    let batch = Batch {
        topic: &record.partition.topic,
        partition: record.partition.partition,
        table: &change.table,
        columns: change.columns.as_ref().map(|columns| columns.as_slice()),
    };
    let mut answers = Vec::new();
    for player in players {
        let projected = change.project(&mut player.projection);
        answers.extend(player.transform.apply(batch, &[projected])?);
    }
    if let [first, second] = answers.as_slice() {
        let (first, second) = (answer(first), answer(second));
        if first != second {
            writeln!(output, "{{{place},\"first\":{first},\"second\":{second}}}")?;
            return Ok(true);
        }
        return Ok(false);
    }
    for answer in &answers {
        match answer {
            Ok(commands) => {
                for command in commands {
                    writeln!(output, "{{{place},\"command\":{}}}", to_json(command))?;
                }
            }
            Err(rejection) => writeln!(output, "{{{place},{}}}", rejected(rejection))?,
        }
    }
    Ok(false)
}

fn read_settings(argument: &str) -> anyhow::Result<String> {
    let text = match argument.strip_prefix('@') {
        Some(path) => fs::read_to_string(path)
            .map_err(|error| UsageError(format!("cannot read the settings `{path}`: {error}")))?,
        None => argument.to_owned(),
    };
    // The message does not quote the settings, which may hold a secret.
    serde_json::from_str::<serde::de::IgnoredAny>(&text)
        .map_err(|error| UsageError(format!("the settings are no JSON: {error}")))?;
    Ok(text)
}

impl Player {
    fn start(engine: &Engine, path: &PathBuf, settings: &str) -> anyhow::Result<Self> {
        let wrong = |cause: String| UsageError(format!("`{}`: {cause}", path.display()));
        let bytes = fs::read(path).map_err(|error| wrong(format!("cannot read the module: {error}")))?;
        let name = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy();
        let module = engine.load(&name, &bytes, &Limits::default()).map_err(|error| wrong(error.to_string()))?;
        let transform = module.start(settings).map_err(|error| wrong(error.to_string()))?;
        let projection = Projection::new(&transform.description().inputs);
        Ok(Self { transform, projection })
    }
}
