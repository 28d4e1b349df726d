//! The transform that the benchmarks measure: `{table}:{id}` in a cache holds the columns that it reads, a third of
//! the table's or all of them.

use tidegate_sdk::prelude::*;
use tidegate_sdk::serde::{Deserialize, Serialize};

/// A third of the columns of an order.
#[row]
pub struct OrderThird {
    id: String,
    customer_id: String,
    status: String,
    fee: Option<Decimal<2>>,
}

/// All the columns of an order.
#[row]
pub struct Order {
    id: String,
    service_id: i32,
    service_type: String,
    customer_id: String,
    driver_id: Option<String>,
    status: String,
    points: Json,
    fee: Option<Decimal<2>>,
    note: Option<String>,
    receipt: Column<Option<String>>,
    created_at: ZonedTimestamp,
    updated_at: ZonedTimestamp,
}

/// A third of the columns of a company.
#[row]
pub struct CompanyThird {
    id: i64,
    name: String,
    industry: Option<String>,
    revenue: Option<Decimal<2>>,
}

/// All the columns of a company.
#[row]
pub struct Company {
    id: i64,
    name: String,
    description: Column<Option<String>>,
    industry: Option<String>,
    employee_count: Option<i32>,
    revenue: Option<Decimal<2>>,
    founded_on: Option<Date>,
    is_public: bool,
    tags: Option<Vec<Option<String>>>,
    attributes: Column<Option<Json>>,
    website: Option<String>,
    created_at: ZonedTimestamp,
    updated_at: Option<TimestampMicros>,
}

/// How many of the columns are read.
#[row]
#[derive(Copy)]
pub enum Reading {
    /// A third.
    #[serde(rename = "third")]
    Third,
    /// All.
    #[serde(rename = "all")]
    All,
}

/// How far a change is handled. What a part of the work costs is the difference of two stages.
#[row]
#[derive(Copy)]
pub enum Stage {
    /// As it came: the call and the lowering of its input are all there is.
    #[serde(rename = "call")]
    Call,
    /// Not read, but answered with a command that holds the row's text as it came: beside the call, this is what the
    /// answer costs.
    #[serde(rename = "answer")]
    Answer,
    /// When its row has been read.
    #[serde(rename = "read")]
    Read,
    /// When its command has been made: the whole transform.
    #[serde(rename = "write")]
    Write,
}

/// The settings.
#[settings]
pub struct Bench {
    reading: Reading,
    stage: Stage,
}

impl Transform for Bench {
    fn inputs(&self) -> Inputs {
        match self.reading {
            Reading::Third => Inputs::rows().columns_of::<OrderThird>("orders").columns_of::<CompanyThird>("company"),
            Reading::All => Inputs::rows().columns_of::<Order>("orders").columns_of::<Company>("company"),
        }
    }

    fn outputs(&self) -> Outputs {
        Outputs::new().cache("orders:*").cache("company:*")
    }

    fn apply(&self, change: &Change, out: &mut Commands) -> Result<(), Reject> {
        match self.stage {
            Stage::Call => return Ok(()),
            Stage::Answer => return out.cache_set_bytes("orders:0123456", change.row_text().unwrap_or_default(), 600),
            Stage::Read | Stage::Write => {}
        }
        match (change.table(), self.reading) {
            ("orders", Reading::Third) => self.cache::<OrderThird, String>(change, out),
            ("orders", Reading::All) => self.cache::<Order, String>(change, out),
            ("company", Reading::Third) => self.cache::<CompanyThird, i64>(change, out),
            ("company", Reading::All) => self.cache::<Company, i64>(change, out),
            _ => Ok(()),
        }
    }
}

impl Bench {
    fn cache<'a, R, K>(&self, change: &Change<'a>, out: &mut Commands) -> Result<(), Reject>
    where
        R: Serialize + Deserialize<'a>,
        K: Deserialize<'a> + std::fmt::Display,
    {
        let key = format!("{}:{}", change.table(), change.key::<K>()?);
        match (change.row::<R>()?, self.stage) {
            (_, Stage::Read) => Ok(()),
            (Some(row), _) => out.cache_set(key, &row, 600),
            (None, _) => out.cache_delete(key),
        }
    }
}

export!(Bench);
