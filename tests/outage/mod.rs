//! What happens when something is away, wrong or changed: the real program between real servers. Each trouble is told
//! once, with the pipeline, the place and the remedy; nothing is drained into the dead letters; and when the cause is
//! gone, the stream goes on and ends in the store where an untroubled run ends.

mod ahead;
mod breaker;
mod elasticsearch;
mod exactly_once;
mod fatal;
mod kafka;
mod login;
mod lost_partition;
mod messages;
mod postgres;
mod process;
mod producer;
mod redis;
mod replay;
pub(crate) mod support;
