//! `tidegate modules`: which modules serve, what was offered, and having others serve.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow};
use hyper::Method;
use serde_json::Value;

use super::client::{Content, admin, ask, encoded, send};
use super::exit::Exit;
use super::history;
use super::pipelines::Named;
use super::show::one_line;

/// How often to ask what has become of an upload.
const ASK_EVERY: Duration = Duration::from_millis(200);

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Print each transform on a line: pipeline, transform, and the digest of the module that serves. Below it stands
    /// what was offered for it since the program started, the newest first: number, state, digest, where it comes from,
    /// what its comparison came to, and why it was refused or rolled back.
    #[command(after_help = super::exit::HELP)]
    List(List),
    /// Offer a module for a transform of the running program, and print what becomes of it.
    ///
    /// It is verified, compiled, started with the transform's settings, and held against grants and stores beside the
    /// stream. Then it serves, or is compared with what serves first. It lasts until the program ends, which begins
    /// with the transform's file again: put the module there too, once it has proven itself.
    #[command(after_help = super::exit::HELP)]
    Upload(Upload),
    /// Print the events that an offered module answers differently, up to 20: the position, then on a line each what the
    /// serving module answers, and what the offered one does.
    #[command(after_help = super::exit::HELP)]
    Differences(Numbered),
    /// Have an offered module serve that is being compared or waits for a word, whatever its comparison has come to.
    #[command(after_help = super::exit::HELP)]
    Promote(Numbered),
    /// Drop an offered module that is being compared or waits for a word.
    #[command(after_help = super::exit::HELP)]
    Discard(Numbered),
    /// Print from which offset on which modules made what the stores hold, a line each: pipeline, sink, partition,
    /// offset, time, and the modules' digests in the order of the transforms. What a sink holds of an event was made
    /// by those of the sink's last line for its partition whose offset is not above the event's.
    ///
    /// It is kept beside the ledgers, and outlives the program. Sinks of messages keep no ledger, and have no line.
    #[command(after_help = super::exit::HELP)]
    History(history::Arguments),
    /// Have the modules of a pipeline serve again that served before, at once. Once more brings back those that were left.
    #[command(after_help = super::exit::HELP)]
    RollBack(Named),
}

#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// The configuration file of the running program.
    config: PathBuf,
    /// Print what the program answers, as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Upload {
    /// The configuration file of the running program.
    config: PathBuf,
    /// The pipeline.
    pipeline: String,
    /// The transform.
    transform: String,
    /// The module, a .wasm file.
    module: PathBuf,
    /// Whether it is compared with what serves first, and who decides after that: `no`, `by-rule`, or `by-hand`. Left
    /// out, the transform's configuration says so.
    #[arg(long, value_name = "HOW")]
    shadow: Option<String>,
    /// At how many events it is compared.
    #[arg(long)]
    events: Option<u64>,
    /// How many seconds it is compared, from the first event on, where so many events do not come.
    #[arg(long)]
    seconds: Option<u64>,
    /// Wait until the comparison has ended too.
    #[arg(long)]
    wait: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Numbered {
    /// The configuration file of the running program.
    config: PathBuf,
    /// The number of the offer, as `tidegate modules list` prints it.
    offer: u64,
}

pub(super) fn modules(command: &Command) -> anyhow::Result<Exit> {
    match command {
        Command::List(arguments) => list(arguments),
        Command::Upload(arguments) => upload(arguments),
        Command::Differences(arguments) => differences(arguments),
        Command::Promote(numbered) => decide(numbered, "promote"),
        Command::Discard(numbered) => decide(numbered, "discard"),
        Command::History(arguments) => history::history(arguments),
        Command::RollBack(named) => roll_back(named),
    }
}

fn list(arguments: &List) -> anyhow::Result<Exit> {
    let config = super::log::load(&arguments.config)?;
    let answer = ask(admin(&config)?, Method::GET, "/v1/modules")?;
    let mut output = io::stdout().lock();
    if arguments.json {
        writeln!(output, "{answer}")?;
        return Ok(Exit::Done);
    }
    for module in answer["modules"].as_array().into_iter().flatten() {
        let of = |name: &str| module[name].as_str().unwrap_or_default();
        let line = format!("{} {} sha256:{}", of("pipeline"), of("transform"), of("digest"));
        writeln!(output, "{}", one_line(&line))?;
        for offer in module["offers"].as_array().into_iter().flatten() {
            writeln!(output, "  {}", one_line(&line_of(offer)))?;
        }
    }
    Ok(Exit::Done)
}

fn upload(arguments: &Upload) -> anyhow::Result<Exit> {
    let config = super::log::load(&arguments.config)?;
    let admin = admin(&config)?;
    let module = &arguments.module;
    let bytes = fs::read(module).with_context(|| format!("cannot read the module {}", module.display()))?;
    let mut query = Vec::new();
    query.extend(arguments.shadow.as_ref().map(|how| format!("shadow={}", encoded(how))));
    query.extend(arguments.events.map(|events| format!("events={events}")));
    query.extend(arguments.seconds.map(|seconds| format!("seconds={seconds}")));
    let (pipeline, transform) = (encoded(&arguments.pipeline), encoded(&arguments.transform));
    let path = format!("/v1/modules/{pipeline}/{transform}?{}", query.join("&"));
    let mut offer = send(admin, Method::POST, &path, Content::Module(bytes.into()))?;
    let Some(id) = offer["id"].as_u64() else {
        writeln!(io::stdout().lock(), "just this module serves already")?;
        return Ok(Exit::Done);
    };
    while offer["state"] == "checking" || (arguments.wait && offer["state"] == "shadow") {
        thread::sleep(ASK_EVERY);
        offer = ask(admin, Method::GET, &format!("/v1/offers/{id}"))?;
    }
    tell(&offer)
}

fn differences(numbered: &Numbered) -> anyhow::Result<Exit> {
    let config = super::log::load(&numbered.config)?;
    let offer = ask(admin(&config)?, Method::GET, &format!("/v1/offers/{}", numbered.offer))?;
    let mut output = io::stdout().lock();
    for difference in offer["differences"].as_array().into_iter().flatten() {
        let of = |name: &str| one_line(difference[name].as_str().unwrap_or_default());
        writeln!(output, "{}\n  serving   {}\n  candidate {}", of("position"), of("serving"), of("candidate"))?;
    }
    Ok(Exit::Done)
}

fn decide(numbered: &Numbered, what: &str) -> anyhow::Result<Exit> {
    let config = super::log::load(&numbered.config)?;
    let path = format!("/v1/offers/{}/{what}", numbered.offer);
    let offer = ask(admin(&config)?, Method::POST, &path)?;
    writeln!(io::stdout().lock(), "{}", one_line(&line_of(&offer)))?;
    Ok(Exit::Done)
}

fn roll_back(named: &Named) -> anyhow::Result<Exit> {
    let config = super::log::load(&named.config)?;
    let path = format!("/v1/pipelines/{}/roll-back", encoded(&named.pipeline));
    let pipeline = ask(admin(&config)?, Method::POST, &path)?;
    let mut output = io::stdout().lock();
    for transform in pipeline["transforms"].as_array().into_iter().flatten() {
        let of = |name: &str| transform[name].as_str().unwrap_or_default();
        let line = format!("{} {} sha256:{}", named.pipeline, of("name"), of("digest"));
        writeln!(output, "{}", one_line(&line))?;
    }
    Ok(Exit::Done)
}

/// Prints an offer; one that came to nothing is an error.
fn tell(offer: &Value) -> anyhow::Result<Exit> {
    let line = one_line(&line_of(offer));
    if ["refused", "rolled-back"].iter().any(|state| offer["state"] == *state) {
        return Err(anyhow!("{line}"));
    }
    writeln!(io::stdout().lock(), "{line}")?;
    Ok(Exit::Done)
}

fn line_of(offer: &Value) -> String {
    let text = |name: &str| offer[name].as_str().unwrap_or_default();
    let id = offer["id"].as_u64().unwrap_or_default();
    let mut line = format!("{id} {} sha256:{} from={}", text("state"), text("digest"), text("from"));
    let comparison = &offer["comparison"];
    for name in ["events", "same", "different", "newly_rejected", "no_longer_rejected", "missed"] {
        if let Some(count) = comparison[name].as_u64() {
            line.push_str(&format!(" {name}={count}"));
        }
    }
    if !text("reason").is_empty() {
        line.push_str(&format!("; {}", text("reason")));
    }
    line
}
