//! How deep a module's types nest, found out without going down with them.
//!
//! What reads the types of a component reads those within them by recursion, and two bytes are enough to nest them once
//! more: without a bound a few kilobytes overflow any stack. (Types that refer to each other by number, and instructions,
//! are bounded or read without recursion.)

use wasmparser::{
    BinaryReader, BinaryReaderError, ComponentAlias, ComponentExternName, ComponentImport, ComponentType,
    ComponentTypeRef, CoreType, Parser, Payload,
};

use super::refusal::Refusal;

/// So deep may components and their types nest. Bindings nest them three or four deep.
pub(in crate::engine) const DEEPEST: usize = 100;

/// Custom sections whose names begin so hold a component with the contract's types.
const CONTRACT_SECTION: &str = "component-type";

/// Refuses bytes that nest too deep. Other faults are left for those who read them.
pub(super) fn check(bytes: &[u8]) -> Result<(), Refusal> {
    walk(
        bytes,
        |section, contract| if section.starts_with(CONTRACT_SECTION) { walk(contract, |_, _| Ok(())) } else { Ok(()) },
    )
}

/// Walks a module or component, and gives its own custom sections, not those of what is within it, to `custom`.
fn walk(bytes: &[u8], custom: impl Fn(&str, &[u8]) -> Result<(), Refusal>) -> Result<(), Refusal> {
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        // What comes behind a fault is read by nobody.
        let Ok(payload) = payload else { break };
        match payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } if depth == DEEPEST => {
                return Err(Refusal::TooDeep);
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentTypeSection(section) => {
                let range = section.range();
                types(BinaryReader::new(bytes.get(range.clone()).unwrap_or_default(), range.start))?;
            }
            Payload::CustomSection(section) if depth == 0 => custom(section.name(), section.data())?,
            _ => {}
        }
    }
    Ok(())
}

/// The types of a section. A fault in them ends the walk: their reader will meet it at the same place.
fn types(mut reader: BinaryReader<'_>) -> Result<(), Refusal> {
    // How many entries are still to come at each level.
    let Ok(count) = reader.read_var_u32() else { return Ok(()) };
    let mut levels = vec![count];
    while let Some(left) = levels.last_mut() {
        if *left == 0 {
            levels.pop();
            continue;
        }
        *left -= 1;
        let is_top = levels.len() == 1;
        match entry(&mut reader, is_top) {
            Ok(None) => {}
            Ok(Some(inner)) if levels.len() < DEEPEST => levels.push(inner),
            Ok(Some(_)) => return Err(Refusal::TooDeep),
            Err(_) => break,
        }
    }
    Ok(())
}

/// Reads one entry: of a section it is a type, within a type a declaration. Answers how many entries it has itself.
fn entry(reader: &mut BinaryReader<'_>, is_top: bool) -> Result<Option<u32>, BinaryReaderError> {
    let kind = if is_top { 0x01 } else { reader.read_u8()? };
    match kind {
        0x00 => reader.read::<CoreType<'_>>().map(|_| None),
        0x01 => {
            let mut ahead = reader.clone();
            if !matches!(ahead.read_u8()?, 0x41 | 0x42) {
                return reader.read::<ComponentType<'_>>().map(|_| None);
            }
            let count = ahead.read_var_u32()?;
            *reader = ahead;
            Ok(Some(count))
        }
        0x02 => reader.read::<ComponentAlias<'_>>().map(|_| None),
        0x03 => reader.read::<ComponentImport<'_>>().map(|_| None),
        // An export. Whatever else it may be is no type, and its reader says so.
        _ => {
            reader.read::<ComponentExternName<'_>>()?;
            reader.read::<ComponentTypeRef>().map(|_| None)
        }
    }
}
