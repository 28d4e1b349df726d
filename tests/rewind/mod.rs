//! `tidegate rewind`: a store is filled anew from the start of the topics and put in the place of the old one, while the
//! pipeline runs and somebody reads. The real program between real servers.

mod elasticsearch;
mod postgres;
mod redis;
mod refused;
