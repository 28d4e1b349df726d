//! What is told of the records that the fill could not handle.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;

use crate::sink::replace::Stands;

/// A line for those that the pipeline has met and filed before, and one for those that it will not meet any more, since
/// the fill was ahead of it. A file without letters is removed.
pub(super) fn tell(file: &Path, before: &[Stands]) -> anyhow::Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Letter {
        topic: String,
        partition: u32,
        offset: u64,
    }
    let shown = file.display();
    let text = match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.with_context(|| format!("cannot read {shown}"))?,
    };
    let letters: Vec<Letter> = text
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()
        .with_context(|| format!("cannot read {shown}"))?;
    if letters.is_empty() {
        remove(file)?;
        return Ok(Vec::new());
    }
    let is_ahead = |letter: &&Letter| {
        let of = |stands: &&Stands| {
            *stands.partition.topic == *letter.topic && stands.partition.partition == letter.partition
        };
        before.iter().find(of).and_then(|stands| stands.real.as_ref()).is_none_or(|real| letter.offset >= real.next)
    };
    let ahead = letters.iter().filter(is_ahead).count();
    let mut told = vec![format!("{} records could not be handled: {shown}", letters.len())];
    if ahead > 0 {
        told.push(format!(
            "{ahead} of them are newer than what the pipeline had handled, and are filed nowhere else: keep that file"
        ));
    }
    Ok(told)
}

/// After a fill that came to nothing: removes a file without letters, or says where they are.
pub(super) fn left(file: &Path) -> anyhow::Result<Option<String>> {
    match fs::metadata(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Ok(found) if found.len() == 0 => remove(file).map(|()| None),
        read => {
            read.with_context(|| format!("cannot read {}", file.display()))?;
            Ok(Some(format!("records that could not be handled are in {}", file.display())))
        }
    }
}

fn remove(file: &Path) -> anyhow::Result<()> {
    fs::remove_file(file).with_context(|| format!("cannot remove {}", file.display()))
}
