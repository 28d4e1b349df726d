//! What each pipeline was like over the last hour, so that who looks after an incident still sees it.
//!
//! Each pipeline has a ring of samples, about a hundred kilobytes when it is full. They are lost when the program ends.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State as Shared};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::MissedTickBehavior;

use super::answer::{Answer, Json, wrong_query};
use super::{State, pipelines};
use crate::pipeline::ObservedPipeline;
use crate::source::status::Lag;

/// How often a sample is taken.
const EVERY: Duration = Duration::from_secs(2);
/// How many are kept: an hour.
const KEPT: usize = 1800;

/// The samples of all pipelines, in the order of the configuration.
#[derive(Debug)]
pub(super) struct Samples(Box<[Mutex<VecDeque<Sample>>]>);

/// A pipeline at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Sample {
    /// Milliseconds since 1970.
    time: u64,
    state: &'static str,
    /// Events that are durable, since the program began.
    events: u64,
    dead_letters: u64,
    lag: Option<u64>,
    seconds_behind: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    since: Option<u64>,
}

impl Samples {
    /// None yet, of so many pipelines.
    pub(super) fn new(pipelines: usize) -> Self {
        Self((0..pipelines).map(|_| Mutex::default()).collect())
    }

    fn add(&self, place: usize, sample: Sample) {
        let Some(samples) = self.0.get(place) else { return };
        let mut samples = samples.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.len() == KEPT {
            samples.pop_front();
        }
        samples.push_back(sample);
    }

    /// Those of the pipeline at this place that are later than this, the oldest first.
    fn since(&self, place: usize, time: Option<u64>) -> Vec<Sample> {
        let Some(samples) = self.0.get(place) else { return Vec::new() };
        let samples = samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.iter().filter(|sample| time.is_none_or(|time| sample.time > time)).copied().collect()
    }
}

impl Sample {
    fn of(pipeline: &ObservedPipeline, time: u64) -> Self {
        let (lag, seconds_behind) = behind(&pipeline.source.lags());
        Self {
            time,
            state: pipeline.state().name(),
            events: pipeline.events.counts().map(|(_, count)| count).sum(),
            dead_letters: pipeline.dead_letters.counts().map(|(_, count)| count).sum(),
            lag,
            seconds_behind,
        }
    }
}

/// How far a pipeline is behind: the offsets that are left in all its partitions, and the seconds of the one that is the
/// most behind. The offsets are none where one's end is not known, or where there is no partition: a pipeline that has not
/// begun is not at the end.
pub(super) fn behind(lags: &[Lag]) -> (Option<u64>, Option<f64>) {
    let offsets = lags.iter().map(|lag| lag.offsets).sum();
    (if lags.is_empty() { None } else { offsets }, lags.iter().filter_map(|lag| lag.seconds).max_by(f64::total_cmp))
}

/// Takes samples for as long as it is polled.
pub(super) async fn keep(state: Arc<State>) {
    let mut ticks = tokio::time::interval(EVERY);
    // A machine that slept has nothing to make up for.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let now = u64::try_from(now).unwrap_or(u64::MAX);
        for (place, pipeline) in state.observed.pipelines().iter().enumerate() {
            state.samples.add(place, Sample::of(pipeline, now));
        }
    }
}

/// The samples of a pipeline.
pub(super) async fn list(
    Shared(state): Shared<Arc<State>>,
    Path(name): Path<String>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Answer {
    let Query(asked) = asked.map_err(|error| wrong_query(&error))?;
    let place = state.observed.pipelines().iter().position(|pipeline| pipeline.name == name);
    let place = place.ok_or_else(pipelines::unknown)?;
    let samples = state.samples.since(place, asked.since);
    Ok(Json(json!({ "every_seconds": EVERY.as_secs(), "kept": KEPT, "samples": samples })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::TopicPartition;

    #[test]
    fn an_hour_is_kept_and_the_oldest_goes_first() {
        let samples = Samples::new(1);
        let beyond = KEPT as u64 + 3;
        for time in 1..=beyond {
            let (events, dead_letters, lag, seconds_behind) = (0, 0, None, None);
            samples.add(0, Sample { time, state: "running", events, dead_letters, lag, seconds_behind });
        }
        let times = |since| samples.since(0, since).iter().map(|sample| sample.time).collect::<Vec<_>>();
        assert_eq!(times(None), (4..=beyond).collect::<Vec<_>>());
        assert_eq!(times(Some(beyond - 2)), [beyond - 1, beyond]);
        assert!(times(Some(beyond)).is_empty());
    }

    #[test]
    fn the_lag_is_known_where_every_end_is_and_time_is_that_of_the_last_partition() {
        let partition = TopicPartition { topic: "orders".into(), partition: 0 };
        let lag = |offsets, seconds| Lag { partition: partition.clone(), next: 0, end: offsets, offsets, seconds };
        assert_eq!(behind(&[]), (None, None));
        assert_eq!(behind(&[lag(Some(3), Some(1.5)), lag(Some(4), Some(0.5))]), (Some(7), Some(1.5)));
        assert_eq!(behind(&[lag(Some(3), Some(1.5)), lag(None, None)]), (None, Some(1.5)));
    }
}
