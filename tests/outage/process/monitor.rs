//! Every value that the entries of a Redis were set to, in order, as Redis tells them.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use ::redis::Commands as _;

use super::super::support::{unique, until};

/// Looks on from its start.
pub(super) struct Monitor {
    client: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Monitor {
    pub(super) fn of(url: &str) -> Self {
        let mut client = Command::new("redis-cli").args(["-u", url, "MONITOR"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(client.stdout.take().unwrap()).lines();
        assert_eq!(said.next().unwrap().unwrap(), "OK");
        let lines = Arc::new(Mutex::new(Vec::new()));
        thread::spawn({
            let lines = lines.clone();
            move || said.map_while(Result::ok).for_each(|line| lines.lock().unwrap().push(line))
        });
        Self { client, lines }
    }

    /// By key, the statuses of the values that it was set to.
    pub(super) fn statuses(&self, connection: &mut ::redis::Connection) -> BTreeMap<String, Vec<String>> {
        // What it is told of this, it was told of everything before.
        let marker = unique("marker");
        let _: Option<String> = connection.get(&marker).unwrap();
        until("the monitor to come so far", || {
            self.lines.lock().unwrap().iter().any(|line| line.contains(&marker)).then_some(())
        });
        let mut statuses: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in &*self.lines.lock().unwrap() {
            let Some((_, rest)) = line.split_once("\"SET\" \"") else { continue };
            let (key, value) = rest.split_once("\" \"").unwrap();
            let status = value.split_once(r#"\"status\":\""#).unwrap_or_else(|| panic!("{line}")).1;
            statuses.entry(key.to_owned()).or_default().push(status.split('\\').next().unwrap().to_owned());
        }
        statuses
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}
