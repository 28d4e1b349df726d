//! One instance of a module in a store of its own: its start, its calls with their deadlines, and how a call failed.

use std::sync::Arc;
use std::time::Duration;

use wasmtime::{Store, Trap};

use super::TICK;
use super::bindings::exports::tidegate::transform::transformer as wit;
use super::bindings::tidegate::transform::log::{Host, Level};
use super::bindings::{Transform, TransformPre};
use super::describe::describe;
use super::error::LoadError;
use super::limits::{OutOfMemory, Quota, TableTooLarge, exceeded};
use super::log::GuestLog;
use crate::contract::Description;
use crate::printable::{TEXT_BYTES, printable};

/// What the host keeps beside an instance.
pub(super) struct State {
    quota: Quota,
    log: Arc<GuestLog>,
    /// The last error that the guest wrote during this call: a panic tells its message so.
    last_error: Option<String>,
}

impl Host for State {
    fn write(&mut self, level: Level, message: String) {
        let message = printable(&message, TEXT_BYTES);
        self.log.write(level, &message);
        if level == Level::Error {
            self.last_error = Some(message);
        }
    }
}

/// How instances of a module are made and bounded.
pub(super) struct Mold {
    pub(super) pre: TransformPre<State>,
    pub(super) log: Arc<GuestLog>,
    pub(super) memory_bytes: usize,
    /// Bytes that one call may hand to the host.
    pub(super) answer_bytes: usize,
    pub(super) start_deadline: Duration,
}

/// A started instance. After a failed call it must be dropped: a guest that was stopped half-way is in no state to go
/// on from.
pub(super) struct Instance {
    store: Store<State>,
    guest: Transform,
    calls: u64,
}

/// How a call failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The guest trapped. Holds the cause and the guest's last error message.
    Trapped(String),
    /// The guest ran over the deadline.
    Deadline,
    /// What the guest returned cannot be read.
    Unreadable(String),
}

impl Instance {
    /// Makes an instance and starts it with these settings.
    pub(super) fn start(mold: &Mold, module: &str, settings: &str) -> Result<(Self, Description), LoadError> {
        let state = State { quota: Quota::new(mold.memory_bytes), log: Arc::clone(&mold.log), last_error: None };
        let mut store = Store::new(mold.pre.engine(), state);
        store.limiter(|state| &mut state.quota);
        store.set_hostcall_fuel(mold.answer_bytes);
        // Armed before the instance exists: instantiating runs the module's own start function.
        store.set_epoch_deadline(ticks(mold.start_deadline));
        let failed = |store: &mut Store<State>, error: &wasmtime::Error| match failure(store, error) {
            Failure::Trapped(cause) => LoadError::Start { module: module.into(), cause },
            Failure::Unreadable(cause) => match exceeded(&cause) {
                Some(cause) => LoadError::Limit { module: module.into(), cause },
                None => LoadError::Mismatch { module: module.into(), cause },
            },
            Failure::Deadline => {
                let cause = format!("it did not answer within {:?}", mold.start_deadline);
                LoadError::Start { module: module.into(), cause }
            }
        };
        let guest = mold.pre.instantiate(&mut store).map_err(|error| failed(&mut store, &error))?;
        let answer = guest.tidegate_transform_transformer().call_start(&mut store, settings);
        let declared = answer
            .map_err(|error| failed(&mut store, &error))?
            .map_err(|reason| LoadError::Refused { module: module.into(), reason: printable(&reason, TEXT_BYTES) })?;
        let description =
            describe(declared).map_err(|cause| LoadError::Declaration { module: module.into(), cause })?;
        Ok((Self { store, guest, calls: 0 }, description))
    }

    /// How many batches it has handled.
    pub(super) fn calls(&self) -> u64 {
        self.calls
    }

    /// The memory that it holds, bytes.
    pub(super) fn memory(&self) -> usize {
        self.store.data().quota.memory()
    }

    /// Hands it one batch.
    pub(super) fn apply(
        &mut self,
        batch: wit::Batch<'_>,
        changes: &[wit::Change<'_>],
        deadline: Duration,
    ) -> Result<wit::Outcomes, Failure> {
        self.calls += 1;
        self.store.data_mut().last_error = None;
        self.store.set_epoch_deadline(ticks(deadline));
        let answer = self.guest.tidegate_transform_transformer().call_apply(&mut self.store, batch, changes);
        answer.map_err(|error| failure(&mut self.store, &error))
    }
}

/// The ticks after which a call that begins now has had at least this long.
fn ticks(deadline: Duration) -> u64 {
    u64::try_from(deadline.as_nanos().div_ceil(TICK.as_nanos())).unwrap_or(u64::MAX / 2) + 1
}

fn failure(store: &mut Store<State>, error: &wasmtime::Error) -> Failure {
    let cause = match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => return Failure::Deadline,
        Some(trap) => trap.to_string(),
        None => match (error.downcast_ref::<OutOfMemory>(), error.downcast_ref::<TableTooLarge>()) {
            (Some(memory), _) => memory.to_string(),
            (_, Some(table)) => table.to_string(),
            _ => return Failure::Unreadable(unreadable(error, store.hostcall_fuel())),
        },
    };
    Failure::Trapped(match store.data_mut().last_error.take() {
        Some(message) => format!("{message} ({cause})"),
        None => cause,
    })
}

/// Why what the guest handed to the host cannot be read.
fn unreadable(error: &wasmtime::Error, limit: usize) -> String {
    let cause = error.root_cause().to_string();
    // wasmtime keeps this error's type to itself.
    if cause.contains("fuel allocated for hostcalls") {
        return format!("it has more than {limit} bytes: make fewer or smaller commands, or raise the limit");
    }
    printable(&cause, TEXT_BYTES)
}
