//! `tidegate dead-letters`: what could not be handled, as it was filed.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::anyhow;
use hyper::Method;
use serde::de::DeserializeOwned;
use tidegate::config::Config;
use tidegate::pipeline::dead_letter::{
    self, Bytes, Foreign, Found, Handled, Listed, Report, Request, ShownLetter, Wanted, WholeLetter,
};

use super::client::{Content, NotRunning, admin, ask, encoded, send};
use super::exit::{Exit, UsageError, message};
use super::show::{one_line, wire};

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
    /// Have the running program handle dead letters again, by the modules that serve now: each record in its turn, between
    /// two batches, and only into the stores that lack it. A record after which another event of its key has written to a
    /// store is left alone there, so that nothing older comes over what is newer: `superseded`. A column that this record
    /// alone has changed then stays as it was. Prints a line for each record: its pipeline and position,
    /// and `applied`, `superseded`, `rejected`, `not-now` or `elsewhere` with the reason; then how many there are of each.
    /// `elsewhere` is of a partition that another process owns: ask that one too.
    ///
    /// A record without a key is never replayed, and of each partition the newest 500 letters alone. The letters stay
    /// where they are filed. Exits with 1 when a record was rejected again, or has still to be replayed.
    #[command(after_help = super::exit::HELP)]
    Replay(Again),
}

#[derive(Debug, clap::Args)]
pub(super) struct Again {
    /// The configuration file of the running program, which must have an `[admin]` block.
    config: PathBuf,
    /// Where the records stood: TOPIC-PARTITION@OFFSET, or TOPIC-PARTITION@OFFSET:CHECKSUM where several have stood there.
    /// All of them when none is named.
    positions: Vec<String>,
    /// Of this pipeline alone.
    #[arg(long, value_name = "NAME")]
    pipeline: Option<String>,
    /// Of this fault alone.
    #[arg(long, value_name = "FAULT")]
    fault: Option<String>,
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
    /// {"time","pipeline","position","checksum","transform","digest","fault","stage","sink","reason"}.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Show {
    /// The configuration file.
    config: PathBuf,
    /// Where the record stood: TOPIC-PARTITION@OFFSET, as the log and `list` have it. Where several have stood there, since
    /// the topic was made again, TOPIC-PARTITION@OFFSET:CHECKSUM is one of them.
    position: String,
    /// Of this pipeline alone.
    #[arg(long, value_name = "NAME")]
    pipeline: Option<String>,
}

pub(super) fn dead_letters(command: &Command) -> anyhow::Result<Exit> {
    match command {
        Command::List(arguments) => {
            let config = super::log::load(&arguments.config)?;
            check_pipeline(&config, arguments.pipeline.as_deref())?;
            list(arguments, &config)
        }
        Command::Show(arguments) => {
            let config = super::log::load(&arguments.config)?;
            check_pipeline(&config, arguments.pipeline.as_deref())?;
            show(arguments, &config)
        }
        Command::Replay(arguments) => {
            let config = super::log::load(&arguments.config)?;
            check_pipeline(&config, arguments.pipeline.as_deref())?;
            replay(arguments, &config)
        }
    }
}

fn replay(arguments: &Again, config: &Config) -> anyhow::Result<Exit> {
    if let Some(wrong) = arguments.positions.iter().find(|position| !dead_letter::is_position(position)) {
        return Err(UsageError(format!("`{wrong}` is no position; write it as `orders-0@17`")).into());
    }
    let admin = admin(config)?;
    let mut request = Request {
        pipeline: arguments.pipeline.clone(),
        fault: arguments.fault.clone(),
        positions: arguments.positions.clone(),
        from: BTreeMap::new(),
    };
    let mut counts = BTreeMap::new();
    let mut output = io::stdout().lock();
    loop {
        let content = Content::Text(serde_json::to_string(&request)?);
        let report: Report = serde_json::from_value(send(admin, Method::POST, "/v1/replays", content)?)?;
        for Handled { pipeline, position, outcome, reason, .. } in &report.records {
            writeln!(output, "{}", one_line(format!("{pipeline} {position} {outcome} {reason}").trim_end()))?;
            *counts.entry(outcome.clone()).or_insert(0_u64) += 1;
        }
        match report.next {
            Some(next) => request.from = next,
            None => break,
        }
    }
    let total: u64 = counts.values().sum();
    let each: Vec<_> = counts.iter().map(|(outcome, count)| format!("{outcome} {count}")).collect();
    let each = if each.is_empty() { String::new() } else { format!(" ({})", each.join(", ")) };
    writeln!(output, "records: {total}{each}")?;
    let left: u64 = ["rejected", "not-now", "elsewhere"].iter().filter_map(|outcome| counts.get(*outcome)).sum();
    Ok(if left > 0 { Exit::Failed } else { Exit::Done })
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

/// Asks the program that runs the configuration, where it says that it listens; else, and when it does not run, the
/// place where the letters are filed is read from here.
fn ask_or_read<T: DeserializeOwned>(
    config: &Config,
    path: &str,
    wanted: &Wanted,
    limit: Option<usize>,
    read: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    if let Some(admin) = &config.admin {
        let mut query = Vec::new();
        query.extend(wanted.pipeline.iter().map(|name| format!("pipeline={}", encoded(name))));
        query.extend(wanted.fault.iter().map(|fault| format!("fault={}", encoded(fault))));
        query.extend(limit.map(|limit| format!("limit={limit}")));
        match ask(admin, Method::GET, &format!("{path}?{}", query.join("&"))) {
            Err(error) if error.is::<NotRunning>() => {}
            answer => return Ok(serde_json::from_value(answer?)?),
        }
    }
    // What a client says may quote what came from a reference.
    read().map_err(|error| anyhow!("{}", config.redact(&message(&error))))
}

/// Says how much of what was found is no dead letter.
fn tell(foreign: &Foreign) -> anyhow::Result<()> {
    if foreign.count > 0 {
        let Foreign { count, first } = foreign;
        writeln!(io::stderr().lock(), "{count} of what is filed there is no dead letter; the first is {first}")?;
    }
    Ok(())
}

fn list(arguments: &List, config: &Config) -> anyhow::Result<Exit> {
    let wanted = Wanted { pipeline: arguments.pipeline.clone(), fault: arguments.fault.clone() };
    let read = || dead_letter::list(config, &wanted, arguments.limit, || Ok(()));
    // The program lists so many at most; for more the place itself is read.
    let listed = match arguments.limit {
        1..=1000 => ask_or_read(config, "/v1/dead-letters", &wanted, Some(arguments.limit), read)?,
        _ => read().map_err(|error| anyhow!("{}", config.redact(&message(&error))))?,
    };
    let Listed { total, faults, letters, foreign } = listed;
    tell(&foreign)?;
    let mut output = io::BufWriter::new(io::stdout().lock());
    for letter in &letters {
        match arguments.json {
            true => writeln!(output, "{}", serde_json::to_string(letter)?)?,
            false => writeln!(output, "{}", as_line(letter))?,
        }
    }
    if !arguments.json {
        let shown = letters.len() as u64;
        let rest = if shown < total { format!(", the newest {shown} shown") } else { String::new() };
        let faults: Vec<_> = faults.iter().map(|(fault, count)| format!("{fault} {count}")).collect();
        let faults = if faults.is_empty() { String::new() } else { format!(" ({})", faults.join(", ")) };
        writeln!(output, "dead letters: {total}{faults}{rest}")?;
    }
    output.flush()?;
    Ok(Exit::Done)
}

fn as_line(letter: &ShownLetter) -> String {
    let transform = if letter.transform.is_empty() { "-" } else { &letter.transform };
    let time = letter.time.as_deref().unwrap_or("-");
    let line = format!("{time} {} {} {transform} {} {}", letter.pipeline, letter.position, letter.fault, letter.reason);
    let line = one_line(&line);
    match line.char_indices().nth(WIDTH) {
        None => line,
        Some(_) => line.chars().take(WIDTH - 1).chain(['…']).collect(),
    }
}

fn show(arguments: &Show, config: &Config) -> anyhow::Result<Exit> {
    let position = &arguments.position;
    if !dead_letter::is_position(position) {
        return Err(UsageError(format!("`{position}` is no position; write it as `orders-0@17`")).into());
    }
    let wanted = Wanted { pipeline: arguments.pipeline.clone(), fault: None };
    let path = format!("/v1/dead-letters/{}", encoded(position));
    let found: Found =
        ask_or_read(config, &path, &wanted, None, || dead_letter::find(config, &wanted, position, || Ok(())))?;
    tell(&found.foreign)?;
    let mut output = io::BufWriter::new(io::stdout().lock());
    for (number, letter) in found.letters.iter().enumerate() {
        if number > 0 {
            writeln!(output)?;
        }
        print(letter, &mut output)?;
    }
    if found.more {
        writeln!(output, "\nmore letters of this record are left out: these are large")?;
    }
    output.flush()?;
    if found.letters.is_empty() {
        return Err(anyhow!(
            "there is no dead letter of `{position}`; `tidegate dead-letters list` shows those that there are"
        ));
    }
    Ok(Exit::Done)
}

fn print(whole: &WholeLetter, output: &mut impl Write) -> anyhow::Result<()> {
    let WholeLetter { letter, headers, omitted, key, value } = whole;
    writeln!(output, "position   {}", one_line(&letter.position))?;
    writeln!(output, "checksum   {}", one_line(&letter.checksum))?;
    writeln!(output, "time       {}", letter.time.as_deref().unwrap_or("-"))?;
    writeln!(output, "pipeline   {}", one_line(&letter.pipeline))?;
    for (name, value) in [("transform", &letter.transform), ("digest", &letter.digest), ("sink", &letter.sink)] {
        if !value.is_empty() {
            writeln!(output, "{name:<10} {}", one_line(value))?;
        }
    }
    writeln!(output, "stage      {}", one_line(&letter.stage))?;
    writeln!(output, "fault      {}", one_line(&letter.fault))?;
    writeln!(output, "reason     {}", wire(Some(letter.reason.as_bytes())).replace('\n', "\n           "))?;
    let bytes = |bytes: &Option<Bytes>| bytes.as_ref().and_then(Bytes::to_bytes);
    for (name, value) in headers {
        let value = bytes(value).map_or("null".to_owned(), |value| one_line(&wire(Some(&value))));
        writeln!(output, "header     {}: {value}", one_line(name))?;
    }
    for (mark, size) in omitted {
        writeln!(output, "omitted    {} ({})", one_line(mark), one_line(size))?;
    }
    writeln!(output, "key        {}", wire(bytes(key).as_deref()))?;
    writeln!(output, "value      {}", wire(bytes(value).as_deref()))?;
    Ok(())
}
