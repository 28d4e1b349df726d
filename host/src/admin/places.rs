//! The places of connections, which bound how many there are.
//!
//! A connection that has not sent the head of a request has one that it may lose: to a newer one, when all are taken. The
//! peer with the most of them loses its oldest, so that nobody keeps others out by being many. With its head a connection
//! gets another place, which it keeps until it ends. Where those are taken it is refused at once, and probes have some of
//! their own.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::guard::Neighbour;

/// Connections that have not sent a head.
const WITHOUT_HEAD: usize = 128;
/// Requests at once.
const REQUESTS: usize = 64;
/// Requests at once, probes among them.
const WITH_PROBES: usize = 2 * REQUESTS;

/// All places.
#[derive(Debug, Clone, Default)]
pub(super) struct Places(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    /// The number of the connection that comes next.
    next: u64,
    /// The oldest first.
    without_head: VecDeque<Waiting>,
    requests: usize,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    whose: Neighbour,
    lost: Arc<Notify>,
}

/// The place of one connection, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    number: u64,
    lost: Arc<Notify>,
    /// It has one of the places for requests.
    request: Mutex<bool>,
}

impl Places {
    /// A place for a new connection. Another connection may lose its own for it.
    pub(super) fn enter(&self, whose: Neighbour) -> Place {
        let mut taken = self.lock();
        if taken.without_head.len() >= WITHOUT_HEAD {
            taken.dismiss();
        }
        let (number, lost) = (taken.next, Arc::new(Notify::new()));
        taken.next += 1;
        taken.without_head.push_back(Waiting { number, whose, lost: lost.clone() });
        Place { places: self.clone(), number, lost, request: Mutex::new(false) }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    /// Takes its place from the oldest connection of the peer that has the most.
    fn dismiss(&mut self) {
        let mut counts: HashMap<Neighbour, usize> = HashMap::new();
        for waiting in &self.without_head {
            *counts.entry(waiting.whose).or_default() += 1;
        }
        let most = counts.values().copied().max();
        let oldest = self.without_head.iter().position(|one| counts.get(&one.whose).copied() == most);
        if let Some(dismissed) = oldest.and_then(|place| self.without_head.remove(place)) {
            dismissed.lost.notify_one();
        }
    }

    fn leave(&mut self, number: u64) {
        if let Some(place) = self.without_head.iter().position(|one| one.number == number) {
            let _ = self.without_head.remove(place);
        }
    }
}

impl Place {
    /// The head of a request has come. False where there are too many requests already.
    pub(super) fn begin(&self, probe: bool) -> bool {
        let mut taken = self.places.lock();
        let mut request = self.request.lock().unwrap_or_else(PoisonError::into_inner);
        taken.leave(self.number);
        if !*request && taken.requests < if probe { WITH_PROBES } else { REQUESTS } {
            taken.requests += 1;
            *request = true;
        }
        *request
    }

    /// Returns when a newer connection has taken this place.
    pub(super) async fn lost(&self) {
        self.lost.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.leave(self.number);
        if *self.request.lock().unwrap_or_else(PoisonError::into_inner) {
            taken.requests -= 1;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::IpAddr;

    use futures_util::FutureExt;

    use super::*;

    fn from(last: u8) -> Neighbour {
        Neighbour::Address(IpAddr::from([10, 0, 0, last]))
    }

    fn is_lost(place: &Place) -> bool {
        place.lost().now_or_never().is_some()
    }

    #[test]
    fn full_house_dismisses_the_oldest_without_a_head() {
        let places = Places::default();
        let all: Vec<_> = (0..WITHOUT_HEAD).map(|_| places.enter(from(1))).collect();
        assert!(all[0].begin(false));
        let _fits = places.enter(from(1));
        assert!(all.iter().all(|place| !is_lost(place)));
        let _newer = places.enter(from(1));
        assert!(!is_lost(&all[0]), "it has sent its head");
        assert!(is_lost(&all[1]) && !is_lost(&all[2]));
    }

    #[test]
    fn peer_with_few_connections_keeps_them() {
        let places = Places::default();
        let quiet = places.enter(from(1));
        let loud: Vec<_> = (0..4 * WITHOUT_HEAD).map(|_| places.enter(from(2))).collect();
        assert!(!is_lost(&quiet));
        assert_eq!(loud.iter().filter(|place| is_lost(place)).count(), 3 * WITHOUT_HEAD + 1);
    }

    #[test]
    fn probes_have_places_that_other_requests_do_not_take() {
        let places = Places::default();
        let enter = |probe| {
            let place = places.enter(from(1));
            place.begin(probe).then_some(place)
        };
        let requests: Vec<_> = (0..REQUESTS).map(|_| enter(false).unwrap()).collect();
        assert!(enter(false).is_none());
        let probes: Vec<_> = (0..REQUESTS).map(|_| enter(true).unwrap()).collect();
        assert!(enter(true).is_none());
        drop(probes);
        assert!(enter(false).is_none() && enter(true).is_some());
        drop(requests);
        assert!(enter(false).is_some());
    }
}
