//! Keeps search documents of companies, contacts and job postings in step with their tables.

mod mapping;

use std::collections::{BTreeMap, BTreeSet};

use tidegate_sdk::prelude::*;
use tidegate_sdk::serde::{Serialize, de::DeserializeOwned};

/// A company. An update need not send its long values.
#[row]
struct Company {
    id: i64,
    name: Column<String>,
    description: Column<Option<String>>,
    industry: Option<String>,
    employee_count: Option<i32>,
    revenue: Option<Decimal<2>>,
    founded_on: Option<Date>,
    is_public: bool,
    tags: Column<Option<Vec<Option<String>>>>,
    attributes: Column<Option<Json>>,
    website: Column<Option<String>>,
    created_at: ZonedTimestamp,
    updated_at: Option<TimestampMicros>,
}

/// A person at a company.
#[row]
struct Contact {
    id: i32,
    company_id: i64,
    full_name: Column<String>,
    email: Column<Option<String>>,
    phone: Column<Option<String>>,
    is_primary: bool,
}

/// An open position at a company.
#[row]
struct JobPosting {
    company_id: i64,
    r#ref: String,
    title: Column<String>,
    body: Column<Option<String>>,
    salary_min: Option<i32>,
    remote: Option<bool>,
    posted_at: ZonedTimestamp,
}

/// The settings.
#[settings]
pub struct CompanySearch {
    /// Into how many shards a new index is split.
    #[serde(default = "one")]
    shards: u32,
    /// The analyzer that splits text into terms: one that Elasticsearch brings along.
    #[serde(default = "standard")]
    analyzer: String,
    #[serde(default = "company")]
    company: Target,
    #[serde(default = "contact")]
    contact: Target,
    #[serde(default = "job_posting")]
    job_posting: Target,
}

/// Where the rows of a table go.
#[settings]
struct Target {
    /// The index.
    index: String,
    /// The columns that become a field of another name, with that name.
    renames: BTreeMap<String, String>,
}

impl Target {
    fn new<const N: usize>(index: &str, renames: [(&str, &str); N]) -> Self {
        let renames = renames.map(|(column, field)| (column.to_owned(), field.to_owned())).into();
        Self { index: index.to_owned(), renames }
    }

    /// The name of the field that a column becomes.
    fn field<'a>(&'a self, column: &'a str) -> &'a str {
        self.renames.get(column).map_or(column, String::as_str)
    }

    /// Each rename must be of a column, and each column its own field.
    fn check(&self, table: &str, columns: &[(&str, mapping::Field)]) -> Result<(), String> {
        if let Some(unknown) = self.renames.keys().find(|name| !columns.iter().any(|(column, _)| column == name)) {
            return Err(format!("setting `{table}.renames`: the table has no column `{unknown}`"));
        }
        let mut fields = BTreeSet::new();
        match columns.iter().map(|(column, _)| self.field(column)).find(|field| !fields.insert(*field)) {
            Some(field) => Err(format!("setting `{table}.renames`: two columns become the field `{field}`")),
            None => Ok(()),
        }
    }
}

fn one() -> u32 {
    1
}

fn standard() -> String {
    "standard".to_owned()
}

fn company() -> Target {
    Target::new("company", [("name", "company_name"), ("description", "about")])
}

fn contact() -> Target {
    Target::new("contact", [("full_name", "name")])
}

fn job_posting() -> Target {
    Target::new("job_posting", [("body", "description")])
}

impl CompanySearch {
    fn definition(&self, target: &Target, columns: &[(&str, mapping::Field)]) -> impl Serialize + use<> {
        let fields: BTreeMap<_, _> =
            columns.iter().map(|(column, field)| (target.field(column), field.mapping())).collect();
        json!({
            "settings": {
                "number_of_shards": self.shards,
                "analysis": {"analyzer": {"default": {"type": self.analyzer}}},
            },
            "mappings": {"properties": fields},
        })
    }
}

impl Transform for CompanySearch {
    fn check(&self) -> Result<(), String> {
        if self.shards == 0 {
            return Err("setting `shards`: an index has at least 1".to_owned());
        }
        self.company.check("company", &mapping::COMPANY)?;
        self.contact.check("contact", &mapping::CONTACT)?;
        self.job_posting.check("job_posting", &mapping::JOB_POSTING)
    }

    fn inputs(&self) -> Inputs {
        Inputs::rows()
            .columns_of::<Company>("company")
            .columns_of::<Contact>("contact")
            .columns_of::<JobPosting>("job_posting")
    }

    fn outputs(&self) -> Outputs {
        Outputs::new()
            .index(&self.company.index, self.definition(&self.company, &mapping::COMPANY))
            .index(&self.contact.index, self.definition(&self.contact, &mapping::CONTACT))
            .index(&self.job_posting.index, self.definition(&self.job_posting, &mapping::JOB_POSTING))
    }

    fn apply(&self, change: &Change, out: &mut Commands) -> Result<(), Reject> {
        match change.table() {
            "company" => document::<Company>(change, &self.company, change.key::<i64>()?.to_string(), out),
            "contact" => document::<Contact>(change, &self.contact, change.key::<i32>()?.to_string(), out),
            "job_posting" => {
                let (company_id, reference) = change.key::<(i64, String)>()?;
                document::<JobPosting>(change, &self.job_posting, format!("{company_id}:{reference}"), out)
            }
            other => Err(Reject::refused(format!(
                "the table `{other}` has no index: take its topic out of the pipeline's `topics`"
            ))),
        }
    }
}

fn document<T: DeserializeOwned + Serialize>(
    change: &Change,
    target: &Target,
    id: String,
    out: &mut Commands,
) -> Result<(), Reject> {
    match change.row::<T>()? {
        Some(row) => out.document_index(&target.index, id, &Renamed::new(&row, &target.renames)),
        None => out.document_delete(&target.index, id),
    }
}

export!(CompanySearch);
