//! What `deploy` offers to operators agrees with itself, with the image and with the program.
//!
//! No cluster and no systemd runs here: what is held is what can be known without one. Where systemd's own checker is
//! installed, it reads the unit.

mod kubernetes;
mod probe;
mod supply;
mod systemd;

use std::fs;

use tidegate_tests::{Site, root, text};

/// Where the image has the program.
const PROGRAM: &str = "/usr/bin/tidegate";
/// Where the deployments keep modules.
const MODULES: &str = "/etc/tidegate/modules";

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The references of a configuration of this kind, `env` or `file`: what stands behind the colon.
fn references(configuration: &str, kind: &str) -> Vec<String> {
    let begin = format!("${{{kind}:");
    configuration.split(&begin).skip(1).map(|rest| rest.split('}').next().unwrap().to_owned()).collect()
}

/// The program takes a configuration, with its modules from the folder of the guests and addresses for its references.
fn is_taken(configuration: &str) {
    let mut taken = configuration.replace(MODULES, "{guests}").replace("/var/cache/tidegate", ".");
    for kind in ["env", "file"] {
        for name in references(configuration, kind) {
            let value = match name.rsplit('/').next().unwrap() {
                "redis-url" => "redis://redis:6379",
                "warehouse-url" => "postgres://tidegate@postgres/warehouse",
                "admin-token" => "0123456789abcdef0123456789abcdef",
                "KAFKA_BROKERS" => "kafka:9092",
                "INSTANCE" => "one-machine",
                other => panic!("this test knows nothing of {other}"),
            };
            taken = taken.replace(&format!("${{{kind}:{name}}}"), value);
        }
    }
    let output = Site::new(&taken).start(&["check", "tidegate.toml"]).wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
}

fn parsed(configuration: &str) -> toml::Table {
    toml::from_str(configuration).unwrap()
}

/// What a configuration says about its end, seconds.
fn shutdown_seconds(configuration: &str) -> i64 {
    parsed(configuration)["engine"]["shutdown_seconds"].as_integer().unwrap()
}

fn listen(configuration: &str) -> String {
    parsed(configuration)["admin"]["listen"].as_str().unwrap().to_owned()
}

/// The modules that a configuration names.
fn modules(configuration: &str) -> Vec<String> {
    let configuration = parsed(configuration);
    let transforms = configuration["pipelines"].as_array().unwrap().iter();
    let transforms = transforms.flat_map(|pipeline| pipeline["transforms"].as_array().unwrap().clone());
    transforms.map(|transform| transform["module"].as_str().unwrap().to_owned()).collect()
}
