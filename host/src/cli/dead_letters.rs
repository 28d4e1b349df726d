//! `tidegate dead-letters`: what could not be handled, as it was filed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::anyhow;
use serde_json::json;
use tidegate::config::Config;
use tidegate::pipeline::dead_letter::{Filed, Letter, read};
use tidegate::source::TopicPartition;

use super::exit::{Exit, UsageError, message};
use super::show::{one_line, time, wire};

/// How long a line is where nobody says.
const WIDTH: usize = 120;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Print the newest dead letters, one a line, oldest first: time of the record, pipeline, position, transform, fault
    /// and reason. Then how many there are of each fault, over all of them.
    #[command(after_help = super::exit::HELP)]
    List(List),
    /// Print all of the dead letters of one record: the reason, where it comes from, its headers, its key and its value.
    /// What is JSON is laid out over lines, its digits as they are.
    #[command(after_help = super::exit::HELP)]
    Show(Show),
}

#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// The configuration file.
    config: PathBuf,
    /// Of this pipeline alone.
    #[arg(long, value_name = "NAME")]
    pipeline: Option<String>,
    /// Of this fault alone: undecodable, no-key, no-before, unsent, refused, trapped, deadline, bad-answer, not-granted
    /// or store.
    #[arg(long, value_name = "FAULT")]
    fault: Option<String>,
    /// So many at most.
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
    /// Print a JSON object a line, nothing cut, and no count:
    /// {"time","pipeline","position","transform","digest","fault","stage","sink","reason"}.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Show {
    /// The configuration file.
    config: PathBuf,
    /// Where the record stood: TOPIC-PARTITION@OFFSET, as the log and `list` have it.
    position: String,
    /// Of this pipeline alone.
    #[arg(long, value_name = "NAME")]
    pipeline: Option<String>,
}

pub(super) fn dead_letters(command: &Command) -> anyhow::Result<Exit> {
    match command {
        Command::List(arguments) => {
            let config = Config::load(&arguments.config)?;
            check_pipeline(&config, arguments.pipeline.as_deref())?;
            list(arguments, &config)
        }
        Command::Show(arguments) => {
            let config = Config::load(&arguments.config)?;
            check_pipeline(&config, arguments.pipeline.as_deref())?;
            show(arguments, &config)
        }
    }
}

/// A name that is none of the file's is a slip of the pen, not an empty list.
fn check_pipeline(config: &Config, name: Option<&str>) -> anyhow::Result<()> {
    let Some(name) = name else { return Ok(()) };
    let known: Vec<_> = config.pipelines.iter().map(|pipeline| format!("`{}`", pipeline.name)).collect();
    if config.pipelines.iter().any(|pipeline| pipeline.name == *name) {
        return Ok(());
    }
    let cause = format!("{} has no pipeline `{name}`; it has {}", config.file.display(), known.join(", "));
    Err(UsageError(cause).into())
}

/// Reads the letters of a configuration, and says how much of what was found is none.
fn letters(config: &Config, mut each: impl FnMut(u64, Letter) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let (mut foreign, mut first) = (0_u64, String::new());
    read(config, |Filed { place, order, letter }| {
        match letter {
            Some(letter) => each(order, letter)?,
            None => {
                if foreign == 0 {
                    first = place;
                }
                foreign += 1;
            }
        }
        Ok(())
    })
    // What a client says may quote what came from a reference.
    .map_err(|error| match error.downcast::<io::Error>() {
        Ok(error) => error.into(),
        Err(error) => anyhow!("{}", config.redact(&message(&error))),
    })?;
    if foreign > 0 {
        writeln!(io::stderr().lock(), "{foreign} of what is filed there is no dead letter; the first is {first}")?;
    }
    Ok(())
}

fn list(arguments: &List, config: &Config) -> anyhow::Result<Exit> {
    let mut faults: BTreeMap<String, u64> = BTreeMap::new();
    // The newest, the oldest of them on top. Those of one moment are in the order of their records.
    let mut newest: BinaryHeap<Reverse<(u64, TopicPartition, u64, String)>> = BinaryHeap::new();
    let mut number = 0;
    letters(config, |order, letter| {
        let wanted = |wanted: &Option<String>, is: &str| wanted.as_ref().is_none_or(|wanted| wanted == is);
        if !wanted(&arguments.pipeline, &letter.pipeline) || !wanted(&arguments.fault, &letter.fault) {
            return Ok(());
        }
        number += 1;
        *faults.entry(letter.fault.clone()).or_default() += 1;
        let line = if arguments.json { as_json(&letter) } else { as_line(&letter) };
        newest.push(Reverse((order, letter.record.partition, letter.record.offset, line)));
        if newest.len() > arguments.limit {
            newest.pop();
        }
        Ok(())
    })?;
    let mut newest: Vec<_> = newest.into_iter().map(|Reverse(letter)| letter).collect();
    newest.sort();
    let mut output = io::BufWriter::new(io::stdout().lock());
    for (.., line) in &newest {
        writeln!(output, "{line}")?;
    }
    if !arguments.json {
        let shown = newest.len() as u64;
        let rest = if shown < number { format!(", the newest {shown} shown") } else { String::new() };
        let faults: Vec<_> = faults.iter().map(|(fault, count)| format!("{fault} {count}")).collect();
        let faults = if faults.is_empty() { String::new() } else { format!(" ({})", faults.join(", ")) };
        writeln!(output, "dead letters: {number}{faults}{rest}")?;
    }
    output.flush()?;
    Ok(Exit::Done)
}

fn as_line(letter: &Letter) -> String {
    let transform = if letter.transform.is_empty() { "-" } else { &letter.transform };
    let line = format!(
        "{} {} {} {transform} {} {}",
        time(letter.record.timestamp),
        letter.pipeline,
        letter.record.position(),
        letter.fault,
        letter.reason
    );
    let line = one_line(&line);
    match line.char_indices().nth(WIDTH) {
        None => line,
        Some(_) => line.chars().take(WIDTH - 1).chain(['…']).collect(),
    }
}

fn as_json(letter: &Letter) -> String {
    json!({
        "time": letter.record.timestamp.map(|_| time(letter.record.timestamp)),
        "pipeline": letter.pipeline,
        "position": letter.record.position(),
        "transform": letter.transform,
        "digest": letter.digest,
        "fault": letter.fault,
        "stage": letter.stage,
        "sink": letter.sink,
        "reason": letter.reason,
    })
    .to_string()
}

fn show(arguments: &Show, config: &Config) -> anyhow::Result<Exit> {
    let shape = arguments.position.rsplit_once('@').and_then(|(partition, offset)| {
        let (topic, number) = partition.rsplit_once('-')?;
        (!topic.is_empty() && number.parse::<u32>().is_ok() && offset.parse::<u64>().is_ok()).then_some(())
    });
    if shape.is_none() {
        let cause = format!("`{}` is no position; write it as `orders-0@17`", arguments.position);
        return Err(UsageError(cause).into());
    }
    let mut output = io::BufWriter::new(io::stdout().lock());
    let mut found = 0;
    letters(config, |_, letter| {
        let of_pipeline = arguments.pipeline.as_ref().is_none_or(|pipeline| *pipeline == letter.pipeline);
        if !of_pipeline || letter.record.position() != arguments.position {
            return Ok(());
        }
        if found > 0 {
            writeln!(output)?;
        }
        found += 1;
        print(&letter, &mut output)
    })?;
    output.flush()?;
    if found == 0 {
        return Err(anyhow!(
            "there is no dead letter of `{}`; `tidegate dead-letters list` shows those that there are",
            arguments.position
        ));
    }
    Ok(Exit::Done)
}

fn print(letter: &Letter, output: &mut impl Write) -> anyhow::Result<()> {
    let Letter { record, pipeline, transform, digest, fault, stage, sink, reason, omitted } = letter;
    writeln!(output, "position   {}", one_line(&record.position()))?;
    writeln!(output, "time       {}", time(record.timestamp))?;
    writeln!(output, "pipeline   {}", one_line(pipeline))?;
    for (name, value) in [("transform", transform), ("digest", digest), ("sink", sink)] {
        if !value.is_empty() {
            writeln!(output, "{name:<10} {}", one_line(value))?;
        }
    }
    writeln!(output, "stage      {}", one_line(stage))?;
    writeln!(output, "fault      {}", one_line(fault))?;
    writeln!(output, "reason     {}", wire(Some(reason.as_bytes())).replace('\n', "\n           "))?;
    for header in &record.headers {
        let value = header.value.as_deref().map_or("null".to_owned(), |value| one_line(&wire(Some(value))));
        writeln!(output, "header     {}: {value}", one_line(&header.name))?;
    }
    for (mark, size) in omitted {
        writeln!(output, "omitted    {} ({})", one_line(mark), one_line(size))?;
    }
    writeln!(output, "key        {}", wire(record.key.as_deref()))?;
    writeln!(output, "value      {}", wire(record.value.as_deref()))?;
    Ok(())
}
