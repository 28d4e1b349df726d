//! Fills what a pipeline writes through one sink anew, from the start of its topics, into a fresh target beside the one in
//! use, and puts it in its place in one step. The pipeline may run meanwhile, in any number of processes.
//!
//! The fill is the same pipeline once more, under a group of its own, with this sink alone. When it has nearly come to
//! where the pipeline stands, the owners are held, the fill comes to where nobody has been beyond, and ends; then the
//! target is replaced ([`crate::sink::replace`]). Readers see the old data until then, and never an older state of
//! anything than they saw.
//!
//! Modules that differ from those that the pipeline runs by would go on writing what the fresh target is not made for. So
//! where the group's commits name different ones, the switch waits until nobody runs the pipeline, for a while. (A ledger
//! names what wrote last, which in an idle partition is what served before.)
//!
//! A truncate has no order against the changes of rows, and no module sees it: a fill that passed one would bring back
//! the rows from before it. So it ends there, unless it was told to go on.

mod letters;
mod reach;
mod target;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use tokio::runtime::{Builder, Runtime};

use self::reach::{Differs, Reach, as_held, has_another_owner, other_modules};
use self::target::Target;
use crate::config::{self, Config, OnTruncate};
use crate::engine::Engine;
use crate::pipeline::{Observed, Outcome, Pipelines, Stops};
use crate::sink::replace::{Stands, beside};
use crate::sink::{Sink, SinkError};

/// How often it is looked how far the fill has come.
const LOOK: Duration = Duration::from_millis(250);
/// How often it is told.
const TELL: Duration = Duration::from_secs(10);
/// So long after the end was asked for, a store that does not answer is waited for no more.
const LAST_WORD: Duration = Duration::from_secs(2);
/// Owners are held when the fill is so few offsets behind.
const NEAR: u64 = 1000;
/// How long owners are held for the fill to come up to them, before they may go on and it is tried once more.
const HELD: Duration = Duration::from_secs(30);

/// What is to be filled anew.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The pipeline.
    pub pipeline: String,
    /// The sink; none where the pipeline has one alone that can be filled anew.
    pub sink: Option<String>,
    /// The file for the dead letters of the fill.
    pub dead_letters: PathBuf,
    /// Whether to go on past truncates, which brings back the rows from before them.
    pub ignore_truncates: bool,
    /// How long to wait for the processes of the pipeline to be stopped, where they serve by other modules.
    pub patience: Duration,
}

/// What was done, a line each.
pub type Told = Vec<String>;

/// Removes what a rewind has left that was killed, and does nothing else.
///
/// # Errors
/// When the store cannot be reached, or another rewind is just putting its target in place.
pub fn abort(config: &Config, wish: &Wish, stops: &Stops) -> anyhow::Result<Told> {
    let (pipeline, sink) = choose(config, wish)?;
    let rewind = Rewind::open(config, pipeline, sink, stops, wish)?;
    let left = rewind.patiently("removing what was left", || rewind.target.discard())?;
    Ok(if left.is_empty() { vec!["nothing was left".into()] } else { removed(&left) })
}

/// Fills the target anew, and puts it in place.
///
/// # Errors
/// When the target is not replaced; the text says why. Then everything is as it was.
pub fn rewind(config: &Config, engine: Engine, wish: &Wish, stops: &Stops) -> anyhow::Result<Told> {
    let begun = Instant::now();
    let (pipeline, sink) = choose(config, wish)?;
    let rewind = Rewind::open(config, pipeline, sink, stops, wish)?;
    let left = rewind.patiently("removing what an earlier rewind left", || rewind.target.discard())?;
    let topics: Vec<_> = rewind.reach.look()?.topics.into_iter().collect();
    rewind.patiently("beginning", || rewind.target.begin(&topics))?;

    let run = getrandom::u32().context("the system gives no random number to name the group by")?;
    let mut fill =
        config.clone().into_rewind(&pipeline.name, sink, &beside(sink), &format!("{run:08x}"), &wish.dead_letters);
    let truncates = if wish.ignore_truncates { OnTruncate::Ignore } else { OnTruncate::RefuseFill };
    fill.pipelines.iter_mut().for_each(|one| one.on_truncate = truncates);
    let mut filled = rewind.fill_and_switch(&fill, engine);
    if filled.is_err() {
        // What cannot be removed now is by the next rewind.
        if let Err(error) = rewind.runtime.block_on(rewind.target.discard()) {
            tracing::warn!("the fresh target could not be removed: {error}");
        }
        if let Some(letters) = letters::left(&wish.dead_letters)? {
            filled = filled.context(letters);
        }
    }
    let Filled { outcome, before, told: done } = filled?;
    let summary = outcome.summary.pipelines.into_iter().next().unwrap_or_default();
    let mut told = removed(&left);
    told.push(format!(
        "sink `{sink}` of pipeline `{}` was filled with {} events of {} partitions in {} s",
        pipeline.name,
        summary.events.values().sum::<u64>(),
        before.iter().filter(|stands| stands.fresh.is_some()).count(),
        begun.elapsed().as_secs()
    ));
    told.extend(done);
    if let Some(truncates) = summary.events.get("truncate") {
        told.push(format!(
            "{truncates} truncates were passed: rows from before them are back, where the source has them no more"
        ));
    }
    told.extend(letters::tell(&wish.dead_letters, &before)?);
    Ok(told)
}

/// A fill that was put in place.
struct Filled {
    outcome: Outcome,
    /// Where the ledgers stood when the owners were held.
    before: Vec<Stands>,
    told: Told,
}

struct Rewind<'a> {
    pipeline: &'a config::Pipeline,
    sink: &'a str,
    stops: &'a Stops,
    patience: Duration,
    reach: Reach,
    target: Target,
    runtime: Runtime,
}

/// A fill while it runs.
type Fill<'scope> = ScopedJoinHandle<'scope, Outcome>;

impl<'a> Rewind<'a> {
    fn open(
        config: &Config,
        pipeline: &'a config::Pipeline,
        sink: &'a str,
        stops: &'a Stops,
        wish: &Wish,
    ) -> anyhow::Result<Self> {
        let target = target::open(config, pipeline, sink)?;
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let (reach, patience) = (Reach::of(config, pipeline)?, wish.patience);
        Ok(Self { pipeline, sink, stops, patience, reach, target, runtime })
    }

    fn fill_and_switch(&self, fill: &Config, engine: Engine) -> anyhow::Result<Filled> {
        let stops = Stops::default();
        let observed = Observed::new(fill);
        let sinks: BTreeMap<String, Arc<dyn Sink>> = [(beside(self.sink), self.target.fresh())].into();
        let mut pipelines = Pipelines::with_sinks(fill, engine, &stops, &observed, sinks)?;
        thread::scope(|scope| {
            let mut filling = Some(scope.spawn(|| pipelines.run()));
            let switched = self.switch(&mut filling, &stops);
            stops.set();
            if switched.is_err()
                && let Err(error) = self.runtime.block_on(self.target.release())
            {
                tracing::warn!("the pipeline is held for a while yet: {error}");
            }
            // Why the fill ended is why nothing was replaced.
            match filling.and_then(|filling| filling.join().ok()?.failures.pop()) {
                Some(failure) => Err(failure.context("nothing was replaced")),
                None => switched,
            }
        })
    }

    fn switch(&self, fill: &mut Option<Fill<'_>>, stops: &Stops) -> anyhow::Result<Filled> {
        loop {
            let Some(filling) = fill.as_ref() else { bail!("the fill has ended") };
            self.come_near(filling)?;
            self.wait_for_other_modules(filling)?;
            if let Some(before) = self.hold_and_come_up(filling)? {
                let outcome = self.end(fill, stops)?;
                tracing::info!("putting the fresh target in place");
                // It is not cut off: what came of it would be told by nobody.
                let put = || self.runtime.block_on(self.target.put_in_place());
                let told = self.retry("putting the fresh target in place", put)?;
                return Ok(Filled { outcome, before, told });
            }
            tracing::info!("the fill did not come up in time: the pipeline goes on, and is held again later");
        }
    }

    /// Waits until the fill is not far behind.
    fn come_near(&self, filling: &Fill<'_>) -> anyhow::Result<()> {
        let mut told = Instant::now();
        loop {
            let has_ended = filling.is_finished();
            let stands = self.stands()?;
            let behind = self.reach.look()?.behind(&stands, |real| real.next);
            if behind.is_some_and(|behind| behind <= NEAR) {
                return Ok(());
            }
            if told.elapsed() >= TELL {
                tracing::info!(pipeline = self.pipeline.name, sink = self.sink, behind, "filling");
                told = Instant::now();
            }
            self.rest(has_ended)?;
        }
    }

    /// Waits until nobody runs the pipeline, where it is served by other modules than the fill was made by.
    fn wait_for_other_modules(&self, filling: &Fill<'_>) -> anyhow::Result<()> {
        let (mut told, mut since) = (false, None);
        loop {
            let has_ended = filling.is_finished();
            let stands = self.stands()?;
            // What has written nothing yet names no modules.
            if self.reach.look()?.has_unwritten(&stands) {
                self.rest(has_ended)?;
                continue;
            }
            let Some(differs) = other_modules(&stands, &self.reach.serving(&stands)?) else { return Ok(()) };
            let members = self.reach.members()?;
            if members == 0 {
                return Ok(());
            }
            let Differs { partition, serving, filled } = differs;
            let patience = self.patience.as_secs();
            if since.get_or_insert_with(Instant::now).elapsed() > self.patience {
                bail!(
                    "{partition} is served by the modules {serving}, and the fill was made by {filled}: {members} processes \
                     have not been stopped within {patience} s, and nothing was replaced. Have the pipeline serve by the \
                     modules that this configuration names, or name here those that serve, and rewind again; or stop the \
                     processes when the next rewind says that it waits for that (`--wait-seconds`)"
                );
            }
            if !std::mem::replace(&mut told, true) {
                tracing::warn!(
                    pipeline = self.pipeline.name,
                    sink = self.sink,
                    %partition,
                    serving,
                    filled,
                    "the fill was made by other modules than the pipeline runs by: stop the {members} processes that run \
                     it within {patience} s, and the fresh target is put in place; then start them with these modules"
                );
            }
            self.rest(has_ended)?;
        }
    }

    /// Holds the owners, and waits until the fill is where nobody has been beyond. None where that takes too long.
    fn hold_and_come_up(&self, filling: &Fill<'_>) -> anyhow::Result<Option<Vec<Stands>>> {
        tracing::info!(pipeline = self.pipeline.name, sink = self.sink, "the fill is near: holding the pipeline");
        self.patiently("holding the pipeline", || self.target.hold())?;
        let since = Instant::now();
        let before = self.stands()?;
        // What is written to the topics from now on, nobody can have seen.
        let ends = self.reach.look()?;
        loop {
            let has_ended = filling.is_finished();
            let now = self.stands()?;
            if has_another_owner(&now, &before) {
                self.patiently("letting the pipeline go on", || self.target.release())?;
                return Ok(None);
            }
            let stands = as_held(now, &before);
            if ends.behind(&stands, |real| real.sent) == Some(0) {
                return Ok(Some(before));
            }
            if since.elapsed() > HELD {
                self.patiently("letting the pipeline go on", || self.target.release())?;
                return Ok(None);
            }
            self.rest(has_ended)?;
            self.patiently("holding the pipeline", || self.target.hold())?;
        }
    }

    /// Ends the fill while the owners are held.
    fn end(&self, fill: &mut Option<Fill<'_>>, stops: &Stops) -> anyhow::Result<Outcome> {
        stops.set();
        while fill.as_ref().is_some_and(|filling| !filling.is_finished()) {
            thread::sleep(LOOK);
            self.patiently("holding the pipeline", || self.target.hold())?;
        }
        let filling = fill.take().context("the fill has ended")?;
        let mut outcome = filling.join().map_err(|_| anyhow!("the fill failed unexpectedly: see the message above"))?;
        match outcome.failures.pop() {
            Some(failure) => Err(failure),
            None => Ok(outcome),
        }
    }

    fn stands(&self) -> anyhow::Result<Vec<Stands>> {
        self.patiently("looking at the ledgers", || self.target.stands())
    }

    /// Waits a moment, unless the fill had ended before what was seen last.
    ///
    /// # Errors
    /// When the fill cannot go on, or is to end.
    fn rest(&self, has_ended: bool) -> anyhow::Result<()> {
        if self.stops.are_set() {
            bail!("it was asked to end: nothing was replaced");
        }
        if has_ended {
            bail!("the fill has ended before it came to where the pipeline stands: nothing was replaced");
        }
        thread::sleep(LOOK);
        Ok(())
    }

    /// Tries until the store answers. One that stands still is waited for no more when the end was asked for.
    fn patiently<T, F>(&self, what: &str, attempt: impl Fn() -> F) -> anyhow::Result<T>
    where
        F: Future<Output = Result<T, SinkError>>,
    {
        let asked_to_end = async || {
            while !self.stops.are_set() {
                tokio::time::sleep(LOOK).await;
            }
            tokio::time::sleep(LAST_WORD).await;
            Err(SinkError::Retry("it gave no answer".into()))
        };
        self.retry(what, || {
            self.runtime.block_on(async {
                tokio::select! {
                    answer = attempt() => answer,
                    ended = asked_to_end() => ended,
                }
            })
        })
    }

    fn retry<T>(&self, what: &str, attempt: impl Fn() -> Result<T, SinkError>) -> anyhow::Result<T> {
        let mut told = false;
        loop {
            match attempt() {
                Ok(answer) => return Ok(answer),
                Err(SinkError::Stop(cause)) => bail!("sink `{}`: {cause}", self.sink),
                Err(SinkError::Retry(cause)) if self.stops.are_set() => {
                    bail!("sink `{}`: it was asked to end while {what}: {cause}", self.sink)
                }
                Err(SinkError::Retry(cause)) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!(sink = self.sink, cause, "waiting for the store, {what}");
                    }
                }
            }
            thread::sleep(LOOK);
        }
    }
}

/// The pipeline and its sink.
fn choose<'a>(config: &'a Config, wish: &Wish) -> anyhow::Result<(&'a config::Pipeline, &'a str)> {
    let names = || config.pipelines.iter().map(|one| format!("`{}`", one.name)).collect::<Vec<_>>().join(", ");
    let pipeline = config.pipelines.iter().find(|one| one.name == wish.pipeline);
    let pipeline = pipeline.ok_or_else(|| anyhow!("there is no pipeline `{}`; there is {}", wish.pipeline, names()))?;
    let mut bound: Vec<&str> = pipeline.sinks.values().map(String::as_str).collect();
    bound.sort_unstable();
    bound.dedup();
    let named = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let list = named(&bound);
    if let Some(sink) = &wish.sink {
        let chosen = bound.into_iter().find(|name| name == sink);
        let chosen =
            chosen.ok_or_else(|| anyhow!("pipeline `{}` has no sink `{sink}`; it has {list}", pipeline.name))?;
        return Ok((pipeline, chosen));
    }
    let can: Vec<&str> =
        bound.into_iter().filter(|name| config.sinks.get(*name).is_some_and(target::can_be_replaced)).collect();
    match can.as_slice() {
        [sink] => Ok((pipeline, sink)),
        [] => bail!("pipeline `{}` has no sink that can be filled anew; it has {list}", pipeline.name),
        several => {
            bail!("pipeline `{}` has several sinks: name one of {} by --sink", pipeline.name, named(several))
        }
    }
}

fn removed(left: &[String]) -> Told {
    left.iter().map(|what| format!("removed {what}, which a rewind left that did not come to its end")).collect()
}
