//! The shared servers as containers, where a Docker engine answers.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Addresses, ports, quietly};
use crate::console;

/// The containers of `tests/services/compose.yml`. They are taken down when the value is dropped.
#[derive(Debug)]
pub(super) struct Containers {
    file: PathBuf,
    ports: Vec<(&'static str, u16)>,
}

/// The servers, as the file names the variables of their ports.
const PORTS: [&str; 6] =
    ["POSTGRES_PORT", "KAFKA_PORT", "CONNECT_PORT", "REDIS_PORT", "ELASTICSEARCH_PORT", "OPENSEARCH_PORT"];

/// Whether an engine answers that understands Compose. The client alone may be installed, so the engine is asked.
pub(super) fn answers() -> bool {
    let succeeds = |arguments: &[&str]| {
        let output = Command::new("docker").args(arguments).output();
        output.is_ok_and(|output| output.status.success() && !output.stdout.trim_ascii().is_empty())
    };
    succeeds(&["version", "--format", "{{.Server.Version}}"]) && succeeds(&["compose", "version"])
}

impl Containers {
    /// Starts them and waits until all are healthy.
    ///
    /// # Errors
    /// When an image cannot be had, or a server does not become healthy.
    pub(super) fn up(file: &Path) -> anyhow::Result<Self> {
        let ports = PORTS.into_iter().zip(ports::free(PORTS.len())?).collect();
        // Made first, so that it is taken down, too, when only a part of it comes up.
        let containers = Self { file: file.to_owned(), ports };
        quietly(containers.compose().args(["up", "--detach", "--wait"]))?;
        Ok(containers)
    }

    pub(super) fn addresses(&self) -> Addresses {
        let port = |name| self.ports.iter().find(|(known, _)| *known == name).map_or(0, |(_, port)| *port);
        Addresses {
            postgres: format!("postgres://postgres@127.0.0.1:{}", port("POSTGRES_PORT")),
            kafka: format!("127.0.0.1:{}", port("KAFKA_PORT")),
            connect: Some(format!("http://127.0.0.1:{}", port("CONNECT_PORT"))),
            redis: format!("redis://127.0.0.1:{}", port("REDIS_PORT")),
            elasticsearch: format!("http://127.0.0.1:{}", port("ELASTICSEARCH_PORT")),
            opensearch: Some(format!("http://127.0.0.1:{}", port("OPENSEARCH_PORT"))),
        }
    }

    fn compose(&self) -> Command {
        let mut command = Command::new("docker");
        command.args(["compose", "--project-name", "tidegate-test", "--file"]).arg(&self.file);
        command.envs(self.ports.iter().map(|(name, port)| (name, port.to_string())));
        command
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        if let Err(error) = quietly(self.compose().args(["down", "--volumes"])) {
            console::complain(format_args!("warning: {error:#}"));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use super::{Containers, PORTS};

    const FILE: &str = include_str!("../../../tests/services/compose.yml");

    #[test]
    fn the_file_has_each_server_with_its_port_on_loopback_and_a_health_check() {
        for (name, variable) in
            ["postgres", "kafka", "connect", "redis", "elasticsearch", "opensearch"].into_iter().zip(PORTS)
        {
            let (_, service) = FILE.split_once(&format!("\n  {name}:\n")).unwrap();
            let service: Vec<&str> = service.lines().take_while(|line| line.starts_with("    ")).collect();
            assert!(service.iter().any(|line| line.starts_with("    image: ")), "{name}");
            assert!(service.contains(&"    healthcheck:"), "{name}");
            let published = format!("- \"127.0.0.1:${{{variable}}}:");
            assert_eq!(FILE.matches(&published).count(), 1, "{name}");
        }
        let variables = FILE.split("${").skip(1).map(|rest| rest.split_once('}').unwrap().0);
        for variable in variables {
            assert!(PORTS.contains(&variable), "nobody sets {variable}");
        }
    }

    /// The versions of the containers are those that run without Docker.
    #[test]
    fn the_images_have_the_versions_of_the_jars() {
        let poms = include_str!("../../../tests/services/pom.xml");
        for (image, property) in [
            ("apache/kafka:", "kafka.version"),
            ("quay.io/debezium/connect:", "debezium.version"),
            ("docker.elastic.co/elasticsearch/elasticsearch:", "elasticsearch.version"),
            ("opensearchproject/opensearch:", "opensearch.version"),
        ] {
            let (_, version) = poms.split_once(&format!("<{property}>")).unwrap();
            let (version, _) = version.split_once('<').unwrap();
            assert!(FILE.contains(&format!("    image: {image}{version}\n")), "{image}{version}");
        }
    }

    #[test]
    fn tests_are_told_the_ports_that_the_file_is_given() {
        let ports = PORTS.into_iter().zip(1..).collect();
        let containers = std::mem::ManuallyDrop::new(Containers { file: Path::new("compose.yml").into(), ports });
        let addresses = containers.addresses();
        assert_eq!(addresses.postgres, "postgres://postgres@127.0.0.1:1");
        assert_eq!(addresses.kafka, "127.0.0.1:2");
        assert_eq!(addresses.opensearch.as_deref(), Some("http://127.0.0.1:6"));
        let given: Vec<_> = containers.compose().get_envs().map(|(name, _)| name.to_owned()).collect();
        assert_eq!(given.len(), PORTS.len());
    }
}
