//! Holds a module's bytes against the contract, and makes a component of them.

use std::borrow::Cow;

use wasmparser::{Parser, Payload};
use wit_component::ComponentEncoder;
use wit_parser::decoding::DecodedWasm;
use wit_parser::{Resolve, World, WorldKey};

use super::compile::Refusal;
use super::{CONTRACT, PACKAGE};

/// What the host accepts, for messages.
pub(super) const ACCEPTED: &str = "0.1.x";
/// Names that one message lists at most.
pub(super) const LISTED: usize = 8;

/// The module as a component that asks for nothing but the log and exports the transformer.
pub(super) fn component(bytes: &[u8]) -> Result<Cow<'_, [u8]>, Refusal> {
    if !bytes.starts_with(b"\0asm") {
        return Err(Refusal::NotWasm);
    }
    let component = if Parser::is_component(bytes) { Cow::Borrowed(bytes) } else { Cow::Owned(wrap(bytes)?) };
    let decoded = wit_parser::decoding::decode(&component).map_err(|error| damaged(&error))?;
    let DecodedWasm::Component(resolve, world) = decoded else {
        return Err(Refusal::NoContract);
    };
    check_version(&resolve)?;
    check_world(&resolve, &resolve.worlds[world])?;
    Ok(component)
}

/// A core module as a component. The version is looked at first, since nothing else that is wrong would say so.
fn wrap(bytes: &[u8]) -> Result<Vec<u8>, Refusal> {
    // wit-component trusts the lengths of the sections, and panics where the bytes end before.
    for payload in Parser::new(0).parse_all(bytes) {
        payload.map_err(|error| damaged(&error.into()))?;
    }
    let (_, contract) = wit_component::metadata::decode(bytes).map_err(|error| damaged(&error))?;
    check_version(&contract.resolve)?;
    ComponentEncoder::default()
        .module(bytes)
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| diagnose(bytes, &error).unwrap_or_else(|error| damaged(&error)))
}

/// The contract's package must be named, in a version that this host speaks.
fn check_version(resolve: &Resolve) -> Result<(), Refusal> {
    let mut found = None;
    for package in resolve.package_names.keys() {
        if format!("{}:{}", package.namespace, package.name) != PACKAGE {
            continue;
        }
        let version = package.version.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
        if is_accepted(&version) {
            return Ok(());
        }
        found = Some(version);
    }
    Err(match found {
        Some(found) => Refusal::WrongVersion(found),
        None => Refusal::NoContract,
    })
}

/// 0.1.x: a patch of the contract changes no type.
fn is_accepted(version: &str) -> bool {
    version.strip_prefix("0.1.").is_some_and(|patch| !patch.is_empty() && patch.bytes().all(|b| b.is_ascii_digit()))
}

fn check_world(resolve: &Resolve, world: &World) -> Result<(), Refusal> {
    let name = |key: &WorldKey| match key {
        WorldKey::Name(name) => name.clone(),
        WorldKey::Interface(id) => resolve.id_of(*id).unwrap_or_default(),
    };
    let names: Vec<String> = world.imports.keys().map(name).filter(|name| !is_interface(name, "log")).collect();
    if !names.is_empty() {
        return Err(Refusal::Imports(shorten(names)));
    }
    if !world.exports.keys().map(name).any(|name| is_interface(&name, "transformer")) {
        let missing = vec![format!("{PACKAGE}/transformer@{CONTRACT}")];
        return Err(Refusal::Exports(missing));
    }
    Ok(())
}

/// Whether this is the name of an interface of the contract, in a version that the host speaks.
fn is_interface(name: &str, interface: &str) -> bool {
    name.strip_prefix(PACKAGE)
        .and_then(|rest| rest.strip_prefix('/')?.strip_prefix(interface)?.strip_prefix('@'))
        .is_some_and(is_accepted)
}

/// Why a core module could not be wrapped, in our own words where it is one of the usual reasons.
fn diagnose(bytes: &[u8], error: &anyhow::Error) -> anyhow::Result<Refusal> {
    let mut names = Vec::new();
    let mut missing = vec!["start", "apply"];
    for payload in Parser::new(0).parse_all(bytes) {
        match payload? {
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import?;
                    if !import.module.starts_with(PACKAGE) {
                        names.push(format!("{}::{}", import.module, import.name));
                    }
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let name = export?.name;
                    missing.retain(|wanted| !name.ends_with(&format!("#{wanted}")));
                }
            }
            _ => {}
        }
    }
    Ok(if !names.is_empty() {
        Refusal::Imports(shorten(names))
    } else if !missing.is_empty() {
        let missing = missing.iter().map(|name| format!("{PACKAGE}/transformer@{CONTRACT}#{name}")).collect();
        Refusal::Exports(missing)
    } else {
        Refusal::Mismatch(format!("{error:#}"))
    })
}

fn damaged(error: &anyhow::Error) -> Refusal {
    Refusal::Damaged(format!("{error:#}"))
}

fn shorten(mut names: Vec<String>) -> Vec<String> {
    if names.len() > LISTED {
        let more = names.len() - LISTED;
        names.truncate(LISTED);
        names.push(format!("{more} more"));
    }
    names
}
