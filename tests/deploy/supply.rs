//! What is shipped is what is checked: targets, images, and the code that the compiler does not vouch for.

use std::fs;
use std::path::Path;

use tidegate_tests::root;

use super::read;

#[test]
fn licences_are_checked_for_the_targets_that_are_shipped() {
    assert!(read("Dockerfile").contains("target=\"$(uname -m)-unknown-linux-musl\""));
    for machine in ["x86_64", "aarch64"] {
        assert!(read("deny.toml").contains(&format!("\"{machine}-unknown-linux-musl\"")), "{machine}");
    }
}

/// A digest, or a tag that names one version to its last part.
#[test]
fn every_image_has_an_exact_version() {
    let files =
        ["Dockerfile", "docker-compose.yml", "deploy/kubernetes/deployment.yaml", "deploy/kubernetes/sidecar.yaml"];
    let mut found = 0;
    for file in files {
        for line in read(file).lines() {
            let line = line.trim().trim_start_matches("- ");
            let Some(image) = line.strip_prefix("FROM ").or_else(|| line.strip_prefix("image: ")) else { continue };
            let image = image.split_whitespace().next().unwrap();
            let version = image.rsplit_once(':').map(|(_, version)| version).unwrap_or_default();
            let numbers =
                version.split(['-', '.']).filter(|part| part.bytes().all(|byte| byte.is_ascii_digit())).count();
            let exact = image == "scratch" || image.contains("@sha256:") || numbers >= 2;
            assert!(exact, "{file}: {image}");
            found += 1;
        }
    }
    assert!(found > 8, "{found}");
}

#[test]
fn every_place_of_unsafe_is_named_in_the_security_notes() {
    let security = read("SECURITY.md");
    let mut places = Vec::new();
    for folder in ["host", "guest-sdk", "transforms", "xtask", "tests"] {
        look(&root().join(folder), &mut places);
    }
    assert!(places.len() > 3, "{places:?}");
    for place in places {
        assert!(security.contains(&format!("`{place}`")), "SECURITY.md does not name {place}, which has unsafe code");
    }
}

/// The files that allow unsafe code, by their paths from the root.
fn look(folder: &Path, places: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().is_none_or(|name| name != "target") {
                look(&path, places);
            }
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let allows = |line: &str| line.trim_start().starts_with('#') && line.contains("unsafe_code");
            if text.lines().any(allows) {
                places.push(path.strip_prefix(root()).unwrap().to_string_lossy().into_owned());
            }
        }
    }
}
