//! The manifests: names, paths, ports and keys that stand in two places are the same in both.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{MODULES, PROGRAM, is_taken, listen, modules, read, references, shutdown_seconds};

const MANIFESTS: [&str; 2] = ["deploy/kubernetes/sidecar.yaml", "deploy/kubernetes/deployment.yaml"];

/// A file: its Deployment, the container of tidegate in it, and its configuration.
struct Manifest {
    file: &'static str,
    documents: Vec<Value>,
    pod: Value,
    container: Value,
    configuration: String,
}

fn manifests() -> Vec<Manifest> {
    MANIFESTS.into_iter().map(Manifest::read).collect()
}

impl Manifest {
    fn read(file: &'static str) -> Self {
        let text = read(file);
        let documents = text.split("\n---\n").skip(1).map(|text| serde_saphyr::from_str(text).unwrap());
        let documents: Vec<Value> = documents.collect();
        let of = |kind: &str| documents.iter().find(|one| one["kind"] == kind).unwrap();
        let pod = of("Deployment")["spec"]["template"]["spec"].clone();
        let containers = ["initContainers", "containers"].map(|list| pod[list].as_array().cloned().unwrap_or_default());
        let container = containers.concat().into_iter().find(|one| one["name"] == "tidegate").unwrap();
        let configuration = of("ConfigMap")["data"]["tidegate.toml"].as_str().unwrap().to_owned();
        Self { file, pod, container, configuration, documents }
    }

    /// By mount path: the volume, and whether it may be written.
    fn mounts(&self) -> BTreeMap<String, (Value, bool)> {
        let volumes = self.pod["volumes"].as_array().unwrap();
        let mounts = self.container["volumeMounts"].as_array().unwrap().iter();
        let mounts = mounts.map(|mount| {
            let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]);
            let volume = volume.unwrap_or_else(|| panic!("{}: {mount} mounts no volume", self.file));
            (mount["mountPath"].as_str().unwrap().to_owned(), (volume.clone(), mount["readOnly"] != true))
        });
        mounts.collect()
    }

    /// The volume that a path lies in, and whether it may be written.
    fn volume(&self, path: &str) -> (Value, bool) {
        let found =
            self.mounts().into_iter().find(|(mount, _)| path == mount || path.starts_with(&format!("{mount}/")));
        found.unwrap_or_else(|| panic!("{}: nothing is mounted for {path}", self.file)).1
    }

    fn probes(&self) -> impl Iterator<Item = &Value> {
        ["startupProbe", "livenessProbe", "readinessProbe"].into_iter().map(|name| &self.container[name])
    }
}

#[test]
fn what_is_mounted_is_a_volume_and_every_volume_is_mounted() {
    for manifest in manifests() {
        let mounted: BTreeSet<_> =
            manifest.mounts().values().map(|(volume, _)| volume["name"].as_str().unwrap().to_owned()).collect();
        let volumes = manifest.pod["volumes"].as_array().unwrap();
        assert_eq!(mounted.len(), volumes.len(), "{}: {mounted:?}", manifest.file);
        for (path, (volume, may_write)) in manifest.mounts() {
            assert_eq!(may_write, volume.get("emptyDir").is_some(), "{}: {path}", manifest.file);
        }
    }
}

#[test]
fn the_configuration_is_taken_and_its_paths_are_mounted() {
    for manifest in manifests() {
        let configuration = &manifest.configuration;
        is_taken(configuration);
        let place = manifest.container["args"][1].as_str().unwrap();
        let (volume, _) = manifest.volume(place);
        let map = manifest.documents.iter().find(|one| one["kind"] == "ConfigMap").unwrap();
        assert_eq!(volume["configMap"]["name"], map["metadata"]["name"], "{}", manifest.file);

        for module in modules(configuration) {
            assert!(module.starts_with(MODULES) && manifest.volume(&module).0.get("configMap").is_some(), "{module}");
        }
        let cache = super::parsed(configuration)["engine"]["cache"].as_str().unwrap().to_owned();
        assert!(manifest.volume(&cache).1, "{}: {cache}", manifest.file);
        if let Some(socket) = listen(configuration).strip_prefix("unix:") {
            assert!(manifest.volume(socket).1, "{}: {socket}", manifest.file);
        }
        for name in references(configuration, "env") {
            let variables = manifest.container["env"].as_array().unwrap();
            assert!(variables.iter().any(|one| one["name"] == name.as_str()), "{}: {name}", manifest.file);
        }
    }
}

/// What the files do not hold, the guide has the operator make: with these names and keys.
#[test]
fn the_guide_makes_the_secrets_and_modules_that_are_mounted() {
    let guide = read("docs/deploying.md").replace("\\\n", " ");
    let made = |kind: &str, name: &Value| {
        let begin = format!("kubectl create {kind} {} ", name.as_str().unwrap());
        let line = guide.lines().find(|line| line.contains(&begin));
        line.unwrap_or_else(|| panic!("the guide has no `{begin}`")).to_owned()
    };
    for manifest in manifests() {
        for secret in references(&manifest.configuration, "file") {
            let (volume, _) = manifest.volume(&secret);
            let key = secret.rsplit('/').next().unwrap();
            let line = made("secret generic", &volume["secret"]["secretName"]);
            assert!(line.contains(&format!("={key}=")) || line.contains(&format!("/{key} ")), "{key}: {line}");
        }
        for module in modules(&manifest.configuration) {
            let line = made("configmap", &manifest.volume(&module).0["configMap"]["name"]);
            assert!(line.contains(module.rsplit('/').next().unwrap()), "{module}: {line}");
        }
    }
}

/// The kubelet asks the address of the Pod, which neither a socket nor a loopback address answers.
#[test]
fn probes_ask_where_the_program_listens() {
    for manifest in manifests() {
        let listen = listen(&manifest.configuration);
        let mut asked = Vec::new();
        for probe in manifest.probes() {
            if let Some(command) = probe["exec"]["command"].as_array() {
                let [program, word, what, address] = &command[..] else { panic!("{command:?}") };
                assert_eq!((program, word, address), (&PROGRAM.into(), &"probe".into(), &listen.as_str().into()));
                asked.push(what.as_str().unwrap().to_owned());
            } else {
                let port = probe["httpGet"]["port"].as_str().unwrap();
                let port = manifest.container["ports"].as_array().unwrap().iter().find(|one| one["name"] == port);
                assert_eq!(listen, format!("0.0.0.0:{}", port.unwrap()["containerPort"]));
                let path = probe["httpGet"]["path"].as_str().unwrap();
                asked.push(path.trim_start_matches('/').trim_end_matches('z').to_owned());
            }
        }
        assert_eq!(asked, ["live", "live", "ready"], "{}", manifest.file);
    }
}

#[test]
fn a_pod_is_given_time_to_end_and_no_more_rights_than_it_needs() {
    let dockerfile = read("Dockerfile");
    for manifest in manifests() {
        let grace = manifest.pod["terminationGracePeriodSeconds"].as_i64().unwrap();
        assert!(grace >= shutdown_seconds(&manifest.configuration) + 10, "{}", manifest.file);

        let own = &manifest.container["securityContext"];
        let of = |name: &str| if own[name].is_null() { &manifest.pod["securityContext"][name] } else { &own[name] };
        let user = format!("USER {0}:{0}\n", of("runAsUser"));
        assert!(dockerfile.contains(&user), "the image's user is another one than {user}");
        for name in ["runAsNonRoot", "readOnlyRootFilesystem"] {
            assert_eq!(*of(name), true, "{}: {name}", manifest.file);
        }
        assert_eq!(*of("allowPrivilegeEscalation"), false);
        assert_eq!(of("capabilities")["drop"][0], "ALL");
        assert_eq!(of("seccompProfile")["type"], "RuntimeDefault");
        assert!(manifest.container["resources"]["limits"]["memory"].is_string());
        assert_eq!(manifest.pod["automountServiceAccountToken"], false);
    }
}

#[test]
fn the_image_is_the_one_that_compose_builds_and_its_program_is_where_it_is_looked_for() {
    let compose: Value = serde_saphyr::from_str(&read("docker-compose.yml")).unwrap();
    for manifest in manifests() {
        assert_eq!(manifest.container["image"], compose["services"]["tidegate"]["image"]);
    }
    assert!(read("Dockerfile").contains(&format!("/out/tidegate {PROGRAM}\n")));
}

/// An init container that is always restarted is a sidecar; without that the application would wait for its end.
#[test]
fn the_sidecar_is_one() {
    let sidecar = Manifest::read(MANIFESTS[0]);
    assert_eq!(sidecar.pod["initContainers"][0]["restartPolicy"], "Always");
    assert_eq!(sidecar.pod["initContainers"][0]["name"], "tidegate");
}

#[test]
fn selectors_fit_the_pods() {
    for manifest in manifests() {
        let deployment = manifest.documents.iter().find(|one| one["kind"] == "Deployment").unwrap();
        let labels = &deployment["spec"]["template"]["metadata"]["labels"];
        for document in &manifest.documents {
            let selector = &document["spec"]["selector"]["matchLabels"];
            assert!(selector.is_null() || selector == labels, "{}: {selector}", manifest.file);
        }
    }
}

/// Whoever reaches the port of a Pod can open connections to it.
#[test]
fn admin_port_of_a_pod_is_open_to_the_monitoring_alone() {
    let mut found = 0;
    for manifest in manifests() {
        let listen = listen(&manifest.configuration);
        let Some(port) = listen.strip_prefix("0.0.0.0:") else {
            assert!(listen.starts_with("unix:"), "{}: {listen}", manifest.file);
            continue;
        };
        let of = |kind: &str| manifest.documents.iter().find(|one| one["kind"] == kind);
        let policy = &of("NetworkPolicy").unwrap_or_else(|| panic!("{} has no NetworkPolicy", manifest.file))["spec"];
        assert_eq!(policy["podSelector"], of("Deployment").unwrap()["spec"]["selector"], "{}", manifest.file);
        assert_eq!(policy["policyTypes"], serde_json::json!(["Ingress"]));
        for rule in policy["ingress"].as_array().unwrap() {
            assert!(rule["from"].as_array().is_some_and(|from| !from.is_empty()), "{rule}");
            assert_eq!(rule["ports"][0]["port"].to_string(), port);
        }
        found += 1;
    }
    assert_eq!(found, 1);
}
