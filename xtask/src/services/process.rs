//! A server as a process of ours: started, awaited, ended by its id, and never left behind.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::{identity, ports, wait};

/// How long a server may take to be ready, on a machine that is busy with other things.
const START: Duration = Duration::from_secs(120);
/// How long it may take to end by itself before it is killed.
const END: Duration = Duration::from_secs(30);
/// How often a server is given other ports when somebody took one between the search and the start.
const TRIES: usize = 4;

/// How a server is started, and how one knows that it is ready.
pub(super) struct Launch {
    /// The program, as an absolute path or as found on the PATH.
    pub(super) program: OsString,
    pub(super) arguments: Vec<OsString>,
    /// The user to run it as where we are root.
    pub(super) user: Option<&'static str>,
    /// The signal that asks it to end in good order.
    pub(super) end: &'static str,
    /// The signal that ends it at once; the system sends it too when this process goes.
    pub(super) abort: &'static str,
    /// Whether it serves.
    pub(super) ready: Ready,
}

/// How one knows that a server serves.
pub(super) enum Ready {
    /// It wrote this to its log.
    Logged(&'static str),
    /// A GET of this path on its first port is answered by 200.
    Http(&'static str),
    /// This command succeeds.
    Command(PathBuf, Vec<String>),
}

/// A running server. It is ended at once when the value is dropped, and by the system when this process ends in any
/// other way.
pub struct Running {
    name: &'static str,
    ports: Vec<u16>,
    url: String,
    launch: Launch,
    log: PathBuf,
    child: Option<Child>,
}

impl Running {
    /// Finds free ports, has `prepare` write what the server needs with them and say how it is started, and waits
    /// until it is ready. `url` makes the address that clients take from the first port.
    pub(super) fn start(
        name: &'static str,
        folder: &Path,
        count: usize,
        url: impl Fn(u16) -> String,
        prepare: impl Fn(&[u16]) -> anyhow::Result<Launch>,
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let log = folder.join("server.log");
        let mut tries = TRIES;
        loop {
            tries -= 1;
            let ports = ports::free(count)?;
            let launch = prepare(&ports)?;
            let url = url(ports[0]);
            let mut running = Self { name, ports, url, launch, log: log.clone(), child: None };
            match running.spawn() {
                Ok(()) => return Ok(running),
                Err(_) if tries > 0 && running.lost_its_port() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// What clients connect to: a URL, or `host:port` of a Kafka broker.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where clients connect to, on 127.0.0.1.
    pub fn address(&self) -> SocketAddr {
        self.addresses()[0]
    }

    /// All that the server listens on; the server's type says what the others are for.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.ports.iter().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, *port))).collect()
    }

    /// The id of its process; none while it is stopped.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// The file with what the server printed since its first start.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Asks the server to end, and waits for that; kills it after half a minute. Nothing happens when it does not
    /// run. Its data and ports stay for [`Running::restart`].
    ///
    /// # Errors
    /// When the system does not let its process be ended.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.end_by(self.launch.end)
    }

    /// Ends the server as a crash would: SIGKILL to it and its helpers. It is gone when this answers.
    ///
    /// # Errors
    /// When the system does not let its process be ended.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let helpers = identity::descendants(child.id());
        // The id is still the server's: an ended child keeps its id until it was waited for.
        child.kill().and_then(|()| child.wait()).with_context(|| format!("cannot kill {}", self.name))?;
        for helper in &helpers {
            helper.kill()?;
        }
        let gone = wait::until(END, || Ok(!helpers.iter().any(identity::Identity::is_alive)))?;
        if gone { Ok(()) } else { bail!("a process of {} outlives SIGKILL: see {}", self.name, self.log.display()) }
    }

    /// Starts the server again on the same ports and data, after [`Running::stop`] when it runs, and waits until it
    /// is ready.
    ///
    /// # Errors
    /// When it cannot be ended, or does not become ready: the message holds the end of its log.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.stop()?;
        self.spawn()
    }

    /// Starts the process, and waits until the server is ready. Nothing is left running when that fails.
    fn spawn(&mut self) -> anyhow::Result<()> {
        let shown = self.log.display().to_string();
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.with_context(|| format!("cannot write {shown}"))?;
        let begin = log.metadata().with_context(|| format!("cannot read {shown}"))?.len();
        let errors = log.try_clone().with_context(|| format!("cannot write {shown}"))?;
        let mut command = self.launch.command();
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        let child = spawn_for_good(command);
        let child = child.with_context(|| format!("cannot start {}: is setpriv (util-linux) installed?", self.name))?;
        self.child = Some(child);
        let ready = self.await_ready(begin);
        if ready.is_err() {
            self.kill()?;
        }
        ready
    }

    fn await_ready(&mut self, begin: u64) -> anyhow::Result<()> {
        let name = self.name;
        let ready = wait::until(START, || {
            if let Some(child) = &mut self.child
                && let Some(status) = child.try_wait().with_context(|| format!("cannot wait for {name}"))?
            {
                self.child = None;
                bail!("{name} ended as it started ({status}); the end of its log:\n{}", tail(&self.log, begin));
            }
            Ok(match &self.launch.ready {
                Ready::Logged(line) => read_from(&self.log, begin).contains(line),
                Ready::Http(path) => wait::answers(self.ports[0], path),
                Ready::Command(program, arguments) => {
                    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
                    output.with_context(|| format!("cannot run {}", program.display()))?.status.success()
                }
            })
        })?;
        if !ready {
            let (limit, tail) = (START.as_secs(), tail(&self.log, begin));
            bail!("{name} was not ready after {limit} s; the end of its log:\n{tail}");
        }
        Ok(())
    }

    fn lost_its_port(&self) -> bool {
        let log = read_from(&self.log, 0);
        log.contains("ddress already in use") || log.contains("BindException")
    }

    fn end_by(&mut self, signal: &str) -> anyhow::Result<()> {
        let Some(child) = &mut self.child else { return Ok(()) };
        identity::send(signal, child.id())?;
        // Not while waiting for Ctrl-C, which is why a server is ended, too.
        for _ in 0..END.as_millis() / 10 {
            if child.try_wait().with_context(|| format!("cannot wait for {}", self.name))?.is_some() {
                self.child = None;
                return Ok(());
            }
            thread::sleep(Duration::from_millis(10));
        }
        self.kill()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = self.end_by(self.launch.abort).and_then(|()| self.kill()) {
            crate::console::complain(format_args!("warning: {error:#}"));
        }
    }
}

impl Launch {
    /// The command, under a `setpriv` that has the system end the server when this process ends. It becomes the
    /// server, so that the id of the process is the server's.
    fn command(&self) -> Command {
        let mut command = setpriv(self.user);
        command.args(["--pdeathsig", self.abort]).arg(&self.program).args(&self.arguments);
        // Not in the terminal's group: Ctrl-C is for us, and we end the servers in order.
        command.process_group(0).current_dir("/");
        command
    }
}

/// A `setpriv` that runs what follows as this user where we are root.
pub(super) fn setpriv(user: Option<&str>) -> Command {
    let mut command = Command::new("setpriv");
    if let Some(user) = user.filter(|_| is_root()) {
        // What the user may not do, root's folders above the data may ask for: those of temporary files, or /root.
        command.args(["--reuid", user, "--regid", user, "--init-groups"]);
        command.args(["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]);
    }
    command
}

/// Whether this program runs as root.
pub(super) fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output();
    output.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// Spawns from a thread that lives as long as this process: the system sends the parent's death signal when the
/// *thread* that spawned ends, and those of tests end early.
fn spawn_for_good(command: Command) -> io::Result<Child> {
    type Order = (Command, mpsc::Sender<io::Result<Child>>);
    static ORDERS: OnceLock<Mutex<mpsc::Sender<Order>>> = OnceLock::new();
    let orders = ORDERS.get_or_init(|| {
        let (sender, orders) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, reply) in orders {
                // Who ordered it waits for the answer.
                let _ = reply.send(command.spawn());
            }
        });
        Mutex::new(sender)
    });
    let (reply, answer) = mpsc::channel();
    let sent = orders.lock().unwrap_or_else(PoisonError::into_inner).send((command, reply));
    let gone = || io::Error::other("the thread that starts servers is gone");
    sent.map_err(|_| gone())?;
    answer.recv().map_err(|_| gone())?
}

fn read_from(log: &Path, begin: u64) -> String {
    let mut bytes = Vec::new();
    let read = File::open(log).and_then(|mut file| {
        file.seek(SeekFrom::Start(begin))?;
        file.read_to_end(&mut bytes)
    });
    match read {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => format!("({} cannot be read: {error})", log.display()),
    }
}

/// The last lines of a log, from a place on.
fn tail(log: &Path, begin: u64) -> String {
    let text = read_from(log, begin);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
