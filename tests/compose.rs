//! The files of the Docker system agree with each other, and do on real servers what they are for.
//!
//! No engine is asked: what is held here is what a machine without one can know. Where the Docker client has Compose,
//! Compose reads the file as well.

mod databases;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use tidegate_tests::{Site, root, text};

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn compose() -> Value {
    serde_saphyr::from_str(&read("docker-compose.yml")).unwrap()
}

fn services(compose: &Value) -> &serde_json::Map<String, Value> {
    compose["services"].as_object().unwrap()
}

fn strings(list: &Value) -> Vec<&str> {
    list.as_array().map_or_else(Vec::new, |list| list.iter().map(|item| item.as_str().unwrap()).collect())
}

/// A variable that a service gets, with the default of each `${NAME:-default}` put in.
fn variable(service: &Value, name: &str) -> Option<String> {
    let mut value = service["environment"][name].as_str()?.to_owned();
    while let Some(start) = value.find("${") {
        let end = start + value[start..].find('}').unwrap();
        let (_, default) = value[start + 2..end].split_once(":-").unwrap_or_else(|| panic!("{name} has no default"));
        value = format!("{}{default}{}", &value[..start], &value[end + 1..]);
    }
    Some(value)
}

/// The names of all `${env:NAME}` in a text.
fn references(text: &str) -> Vec<&str> {
    text.split("${env:").skip(1).map(|rest| rest.split('}').next().unwrap()).collect()
}

/// A connector: its name and its settings.
struct Connector {
    name: String,
    settings: Value,
}

impl Connector {
    fn setting(&self, name: &str) -> &str {
        self.settings[name].as_str().unwrap_or_else(|| panic!("{} has no `{name}`", self.name))
    }

    /// `schema.table` of each table that it reads.
    fn tables(&self) -> Vec<&str> {
        self.setting("table.include.list").split(',').collect()
    }

    fn topics(&self) -> Vec<String> {
        self.tables().iter().map(|table| format!("{}.{table}", self.setting("topic.prefix"))).collect()
    }
}

fn connectors() -> Vec<Connector> {
    let folder = fs::read_dir(root().join("deploy/compose/connectors")).unwrap();
    let files = folder.map(|entry| entry.unwrap().path());
    files
        .map(|path| Connector {
            name: path.file_stem().unwrap().to_str().unwrap().to_owned(),
            settings: serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap(),
        })
        .collect()
}

fn pipelines() -> Vec<toml::Value> {
    let configuration: toml::Table = toml::from_str(&read("deploy/compose/tidegate.toml")).unwrap();
    configuration["pipelines"].as_array().unwrap().clone()
}

#[test]
fn compose_reads_the_file_where_it_is_installed() {
    let installed = Command::new("docker").args(["compose", "version"]).stderr(Stdio::null()).output();
    if installed.is_ok_and(|output| output.status.success()) {
        let read = Command::new("docker").args(["compose", "config", "--quiet"]).current_dir(root()).output().unwrap();
        assert!(read.status.success(), "{}", text(&read));
    }
}

#[test]
fn what_is_mounted_or_built_exists() {
    let compose = compose();
    for (name, service) in services(&compose) {
        for mount in strings(&service["volumes"]) {
            let from = mount.split(':').next().unwrap();
            if from.starts_with('.') {
                assert!(root().join(from).exists(), "{name} mounts {from}, which is not there");
                assert!(mount.ends_with(":ro"), "{name} may write {from}");
            } else {
                assert!(
                    compose["volumes"].get(from).is_some(),
                    "{name} mounts the volume {from}, which nobody declares"
                );
            }
        }
        if let Some(folder) = service["build"].as_str() {
            assert!(root().join(folder).join("Dockerfile").is_file(), "{name} is built from {folder}");
        }
    }
}

#[test]
fn a_service_waits_for_what_can_be_waited_for() {
    let compose = compose();
    let services = services(&compose);
    for (name, service) in services {
        let Some(waits) = service["depends_on"].as_object() else { continue };
        for (other, how) in waits {
            let awaited =
                services.get(other).unwrap_or_else(|| panic!("{name} waits for {other}, which is no service"));
            match how["condition"].as_str().unwrap() {
                "service_healthy" => assert!(awaited.get("healthcheck").is_some(), "{other} has no health check"),
                "service_completed_successfully" => assert!(awaited.get("restart").is_none(), "{other} never ends"),
                other => panic!("{name} waits for `{other}`, which says nothing of being ready"),
            }
        }
    }
}

#[test]
fn every_service_is_pinned_bounded_and_reached_from_this_machine_alone() {
    let compose = compose();
    let mut taken = BTreeSet::new();
    for (name, service) in services(&compose) {
        let (_, version) = service["image"].as_str().unwrap().rsplit_once(':').unwrap();
        let numbers = version.split('.').take_while(|part| part.starts_with(|first: char| first.is_ascii_digit()));
        assert!(numbers.count() >= 2, "{name} is not pinned by `{version}`");
        assert!(service["mem_limit"].is_string(), "{name} may take all memory");
        for port in strings(&service["ports"]) {
            assert!(port.starts_with("127.0.0.1:"), "{name} opens {port} to the network");
            assert!(taken.insert(port.split(':').nth(1).unwrap()), "{port} is taken twice");
        }
    }
}

#[test]
fn every_host_is_a_service() {
    let compose = compose();
    let services = services(&compose);
    let mut hosts: Vec<String> = connectors().iter().map(|one| one.setting("database.hostname").to_owned()).collect();
    let configuration: toml::Table = toml::from_str(&read("deploy/compose/tidegate.toml")).unwrap();
    let sinks = configuration["sinks"].as_table().unwrap().values().flat_map(|sink| sink.as_table().unwrap().values());
    for block in sinks.chain([&configuration["source"]["kafka"]]) {
        let address = block.get("url").or_else(|| block.get("brokers")).unwrap().as_str().unwrap();
        let address = match references(address).first() {
            Some(name) => variable(&services["tidegate"], name).unwrap_or_else(|| panic!("{name} is not set")),
            None => address.to_owned(),
        };
        let authority = address.split("://").last().unwrap().split('/').next().unwrap();
        hosts.push(authority.rsplit('@').next().unwrap().split(':').next().unwrap().to_owned());
    }
    assert_eq!(hosts.len(), 6 + 7, "a host for each connector, each sink and the source: {hosts:?}");
    for host in hosts {
        assert!(services.contains_key(&host), "{host} is no service");
    }
}

#[test]
fn every_variable_is_set_and_every_password_known_to_both_sides() {
    let compose = compose();
    let services = services(&compose);
    for name in references(&read("deploy/compose/tidegate.toml")) {
        assert!(variable(&services["tidegate"], name).is_some(), "tidegate is not given {name}");
    }
    let connect = &services["connect"];
    for connector in connectors() {
        for name in references(connector.setting("database.password")) {
            assert_eq!(variable(connect, name), variable(&services["postgres"], name), "{name}");
            let allowed = variable(connect, "CONNECT_CONFIG_PROVIDERS_ENV_PARAM_ALLOWLIST_PATTERN");
            assert_eq!(allowed.as_deref(), Some(name), "Connect may not read {name}");
        }
    }
    let password = variable(&services["postgres"], "TIDEGATE_PASSWORD").unwrap();
    let url = variable(&services["tidegate"], "ANALYTICS_URL").unwrap();
    assert!(url.starts_with(&format!("postgres://tidegate:{password}@")), "{url}");
}

#[test]
fn every_topic_that_is_read_comes_from_a_connector_and_every_topic_of_a_connector_is_read() {
    let read = pipelines().iter().flat_map(|pipeline| topics_of(&pipeline["topics"])).collect::<BTreeSet<_>>();
    let written = connectors().iter().flat_map(Connector::topics).collect::<BTreeSet<_>>();
    assert_eq!(read, written);
}

/// The broker makes no topic by itself.
#[test]
fn every_topic_that_is_written_is_made() {
    let compose = compose();
    let made = compose["services"]["topics"]["command"][0].as_str().unwrap();
    let configuration: toml::Table = toml::from_str(&read("deploy/compose/tidegate.toml")).unwrap();
    let mut written = topics_of(&toml::Value::Array(vec![configuration["dead_letters"]["kafka"]["topic"].clone()]));
    for pipeline in pipelines() {
        for transform in pipeline["transforms"].as_array().unwrap() {
            written.extend(transform["grants"].get("messages").map_or_else(Vec::new, topics_of));
        }
    }
    assert_eq!(written.len(), 2);
    for topic in written {
        assert!(made.contains(&format!("--topic {topic} ")), "nobody makes the topic {topic}");
    }
}

fn topics_of(list: &toml::Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|topic| topic.as_str().unwrap().to_owned()).collect()
}

/// The pipelines are those of the demo: only where events come from and where commands go is another.
#[test]
fn the_pipelines_are_those_of_the_demo() {
    let demo: toml::Table = toml::from_str(&read("demo/tidegate.toml")).unwrap();
    let plain = |pipeline: &toml::Value| {
        let mut pipeline = pipeline.as_table().unwrap().clone();
        pipeline.remove("sinks").unwrap();
        for transform in pipeline["transforms"].as_array_mut().unwrap() {
            let module = transform["module"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
            transform.as_table_mut().unwrap().insert("module".to_owned(), module.into());
        }
        pipeline
    };
    let live: Vec<_> = pipelines().iter().map(plain).collect();
    assert_eq!(live, demo["pipelines"].as_array().unwrap().iter().map(plain).collect::<Vec<_>>());
}

/// The configuration is right, its modules take their settings, and its grants hold what they write.
#[test]
fn tidegate_takes_the_configuration() {
    let compose = compose();
    let file = read("deploy/compose/tidegate.toml");
    let mut configuration = file.clone();
    for name in references(&file) {
        let value = variable(&compose["services"]["tidegate"], name).unwrap();
        configuration = configuration.replace(&format!("${{env:{name}}}"), &value);
    }
    let configuration = configuration.replace("/usr/share/tidegate/modules", "{guests}");
    let site = Site::new(&configuration.replace("/var/cache/tidegate", "compiled"));
    let output = site.start(&["check", "tidegate.toml"]).wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
}

/// A step of the Dockerfile: its instruction and the rest, with continued lines joined and options taken away.
fn steps() -> Vec<(String, Vec<String>)> {
    let dockerfile = read("Dockerfile");
    let code: Vec<_> = dockerfile.lines().filter(|line| !line.starts_with('#')).collect();
    let joined = code.join("\n").replace("\\\n", " ");
    let steps = joined.lines().filter(|line| !line.is_empty()).map(|line| {
        let (instruction, rest) = line.split_once(' ').unwrap();
        let words = rest.split_whitespace().skip_while(|word| word.starts_with("--mount"));
        (instruction.to_owned(), words.map(ToOwned::to_owned).collect())
    });
    steps.collect()
}

/// What the Dockerfile copies from the repository.
fn copied() -> Vec<String> {
    let steps =
        steps().into_iter().filter(|(instruction, words)| instruction == "COPY" && !words[0].starts_with("--from"));
    steps.flat_map(|(_, mut words)| words.drain(..words.len() - 1).collect::<Vec<_>>()).collect()
}

#[test]
fn what_the_dockerfile_copies_exists_and_is_not_ignored() {
    let ignored = read(".dockerignore");
    let rules: Vec<_> = ignored.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    assert_eq!(rules[0], "*", "this test knows rules of the form: nothing but");
    let kept: BTreeSet<_> = rules[1..].iter().map(|rule| rule.strip_prefix('!').unwrap().to_owned()).collect();
    let copied = copied();
    for path in &copied {
        assert!(root().join(path).exists(), "{path} is copied and does not exist");
    }
    assert_eq!(copied.into_iter().collect::<BTreeSet<_>>(), kept, "what is copied is what is not ignored");
}

#[test]
fn the_dockerfile_copies_every_member_of_the_workspace() {
    let workspace: toml::Table = toml::from_str(&read("Cargo.toml")).unwrap();
    for member in workspace["workspace"]["members"].as_array().unwrap() {
        let folder = member.as_str().unwrap().split('/').next().unwrap().to_owned();
        assert!(copied().contains(&folder), "{folder} is not copied: cargo does not read the workspace without it");
    }
}

/// The image holds each module that the configuration names, under the name that cargo gives it.
#[test]
fn every_module_is_in_the_image() {
    let into = steps().into_iter().find(|(_, words)| words.contains(&"/out/modules".to_owned()) && words.len() == 3);
    let folder = into.unwrap().1.pop().unwrap();
    for pipeline in pipelines() {
        for transform in pipeline["transforms"].as_array().unwrap() {
            let module = Path::new(transform["module"].as_str().unwrap());
            assert_eq!(module.parent(), Some(Path::new(&folder)));
            let package = module.file_stem().unwrap().to_str().unwrap().replace('_', "-");
            assert!(root().join("transforms").join(&package).is_dir(), "no transform is called {package}");
        }
    }
}

#[test]
fn every_script_is_one_that_a_shell_can_read() {
    let mut scripts = vec![read("deploy/compose/register-connectors.sh")];
    scripts.extend(steps().into_iter().filter(|step| step.0 == "RUN").map(|(_, words)| words.join(" ")));
    let compose = compose();
    scripts.push(compose["services"]["topics"]["command"][0].as_str().unwrap().replace("$$", "$"));
    assert_eq!(scripts.len(), 1 + 4 + 1);
    for script in scripts {
        let read = Command::new("bash").args(["-n", "-c", &script]).output().unwrap();
        assert!(read.status.success() && read.stderr.is_empty(), "{script}\n{}", text(&read));
    }
}

/// The commands of the guide name services that there are, and addresses that are open.
#[test]
fn the_guide_speaks_of_services_and_ports_that_there_are() {
    let compose = compose();
    let guide = read("docs/compose.md");
    let mut named = Vec::new();
    for line in guide.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        if let ["docker", "compose", "exec", service, ..] = words[..] {
            named.push(service);
        }
        let row: Vec<_> = line.split('|').map(str::trim).collect();
        if let ["", service, _, address, ""] = row[..]
            && let Some(service) = service.strip_prefix('`').and_then(|rest| rest.strip_suffix('`'))
        {
            named.push(service);
            let port = address.rsplit(':').next().unwrap();
            let open = strings(&compose["services"][service]["ports"]);
            assert!(open.iter().all(|open| open.split(':').nth(1) == Some(port)), "{service}: {open:?}, not {port}");
            assert_eq!(open.is_empty(), address.is_empty(), "{service}");
        }
    }
    for service in &named {
        assert!(services(&compose).contains_key(*service), "{service} is no service");
    }
    assert!(services(&compose).keys().all(|service| named.contains(&service.as_str())), "the guide leaves one out");
}
