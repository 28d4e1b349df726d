//! company-search: the indexes hold each living row under its renamed fields, and nothing else.

use super::check::Verdict;
use super::recorded::{Change, Images};
use super::source::Source;
use super::store::Store;
use super::value::Form;

/// The tables; each has an index of the same name.
const TABLES: [&str; 3] = ["company", "contact", "job_posting"];

/// Table, column, and the field that the column becomes, as the settings in demo/tidegate.toml have it.
const RENAMES: [(&str, &str, &str); 4] = [
    ("company", "name", "company_name"),
    ("company", "description", "about"),
    ("contact", "full_name", "name"),
    ("job_posting", "body", "description"),
];

pub(super) fn check(verdict: &mut Verdict, store: &Store, source: &Source, changes: &[Change]) -> anyhow::Result<()> {
    let mut documents = store.documents(verdict.system)?;
    for index in TABLES {
        let count = documents.keys().filter(|(other, _)| other == index).count();
        verdict.holds.push(format!("{count} documents in {index}"));
        let table = source.table(index)?;
        let images = Images::follow(changes, index, false);
        for row in &table.rows {
            let identity = table.identity(row);
            let key = format!("{index} {identity}");
            let body = documents.remove(&(index.to_owned(), identity.clone()));
            if verdict.must_be_absent(&key, images.is_incomplete(&identity), body.is_some()) {
                continue;
            }
            let Some(body) = body else {
                verdict.differs(&key, None, "the living row", "nothing");
                continue;
            };
            if let Some(found) = verdict.object(&key, &body) {
                verdict.row(&key, &table.columns, (row, &found), Form::Json, |column| field(index, column));
            }
        }
    }
    let left = documents.iter().map(|((index, id), body)| (format!("{index} {id}"), body.as_bytes()));
    verdict.nothing_else(left);
    Ok(())
}

/// The field that a column becomes.
pub fn field(table: &str, column: &str) -> String {
    let renamed = RENAMES.iter().find(|(of, from, _)| *of == table && *from == column);
    renamed.map_or(column, |(_, _, into)| into).to_owned()
}
