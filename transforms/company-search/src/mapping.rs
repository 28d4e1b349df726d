//! How Elasticsearch is to index each column.

use tidegate_sdk::json;
use tidegate_sdk::serde_json::Value;

use Field::{Boolean, Date, Document, Integer, Keyword, Long, Money, Name, Text};

/// What a column is to those who search.
#[derive(Clone, Copy)]
pub(crate) enum Field {
    /// Found by its words, and whole: to sort by, to filter by.
    Name,
    /// Found by its words.
    Text,
    /// Found whole.
    Keyword,
    Integer,
    Long,
    /// A decimal of scale 2.
    Money,
    Boolean,
    Date,
    /// JSON of any shape: kept, and not searched, since one path may hold a number here and text there.
    Document,
}

pub(crate) const COMPANY: [(&str, Field); 13] = [
    ("id", Long),
    ("name", Name),
    ("description", Text),
    ("industry", Keyword),
    ("employee_count", Integer),
    ("revenue", Money),
    ("founded_on", Date),
    ("is_public", Boolean),
    ("tags", Keyword),
    ("attributes", Document),
    ("website", Keyword),
    ("created_at", Date),
    ("updated_at", Date),
];

pub(crate) const CONTACT: [(&str, Field); 6] = [
    ("id", Integer),
    ("company_id", Long),
    ("full_name", Name),
    ("email", Keyword),
    ("phone", Keyword),
    ("is_primary", Boolean),
];

pub(crate) const JOB_POSTING: [(&str, Field); 7] = [
    ("company_id", Long),
    ("ref", Keyword),
    ("title", Name),
    ("body", Text),
    ("salary_min", Integer),
    ("remote", Boolean),
    ("posted_at", Date),
];

impl Field {
    /// The mapping. What a store could not index must not cost the document: a keyword beyond Lucene's 32,766 bytes, a
    /// date that is infinite, a decimal that is no number. Such a field is kept, and is not found.
    pub(crate) fn mapping(self) -> Value {
        let keyword = json!({"type": "keyword", "ignore_above": 8191});
        match self {
            Name => json!({"type": "text", "fields": {"keyword": keyword}}),
            Text => json!({"type": "text"}),
            Keyword => keyword,
            Integer => json!({"type": "integer"}),
            Long => json!({"type": "long"}),
            Money => json!({"type": "scaled_float", "scaling_factor": 100, "ignore_malformed": true}),
            Boolean => json!({"type": "boolean"}),
            Date => json!({"type": "date", "ignore_malformed": true}),
            Document => json!({"type": "object", "enabled": false}),
        }
    }
}
