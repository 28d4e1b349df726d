//! Mirrors the tables of a bookstore's two databases for analytics. Deletes are skipped: a row stays as it was last.

use tidegate_sdk::prelude::*;
use tidegate_sdk::serde::{Serialize, de::DeserializeOwned};

/// An order.
#[row]
struct Order {
    id: String,
    user_id: String,
    total: VariableDecimal,
    status: String,
    created_at: TimestampMillis,
}

/// A position of an order.
#[row]
struct OrderItem {
    id: String,
    order_id: String,
    book_id: String,
    quantity: i32,
    price_at_purchase: VariableDecimal,
}

/// A book. An update need not send its long texts.
#[row]
struct Book {
    id: String,
    title: Column<String>,
    author: Column<String>,
    price: VariableDecimal,
    description: Column<Option<String>>,
    cover_url: Column<Option<String>>,
    isbn: Option<String>,
    genre: Option<String>,
    published_year: Option<i32>,
    created_at: TimestampMillis,
}

/// What is in stock of a book.
#[row]
struct Stock {
    book_id: String,
    quantity: i32,
    reserved: i32,
    updated_at: Option<ZonedTimestamp>,
}

/// The settings: into which table the rows of each table of the source go.
#[settings]
pub struct BookstoreAnalytics {
    #[serde(default = "fact_orders")]
    orders: String,
    #[serde(default = "fact_order_items")]
    order_items: String,
    #[serde(default = "dim_books")]
    books: String,
    #[serde(default = "fact_inventory")]
    inventory: String,
}

fn fact_orders() -> String {
    "fact_orders".to_owned()
}

fn fact_order_items() -> String {
    "fact_order_items".to_owned()
}

fn dim_books() -> String {
    "dim_books".to_owned()
}

fn fact_inventory() -> String {
    "fact_inventory".to_owned()
}

impl Transform for BookstoreAnalytics {
    fn inputs(&self) -> Inputs {
        Inputs::rows()
            .columns_of::<Order>("orders")
            .columns_of::<OrderItem>("order_items")
            .columns_of::<Book>("books")
            .columns_of::<Stock>("inventory")
    }

    fn outputs(&self) -> Outputs {
        Outputs::new()
            .table(&self.orders, ["id"])
            .table(&self.order_items, ["id"])
            .table(&self.books, ["id"])
            .table(&self.inventory, ["book_id"])
    }

    fn apply(&self, change: &Change, out: &mut Commands) -> Result<(), Reject> {
        match change.table() {
            "orders" => mirror::<Order>(change, &self.orders, out),
            "order_items" => mirror::<OrderItem>(change, &self.order_items, out),
            "books" => mirror::<Book>(change, &self.books, out),
            "inventory" => mirror::<Stock>(change, &self.inventory, out),
            other => Err(Reject::refused(format!(
                "the table `{other}` is not mirrored: take its topic out of the pipeline's `topics`"
            ))),
        }
    }
}

fn mirror<T: DeserializeOwned + Serialize>(change: &Change, into: &str, out: &mut Commands) -> Result<(), Reject> {
    match change.row::<T>()? {
        Some(row) => out.row_upsert(into, &row),
        None => Ok(()),
    }
}

export!(BookstoreAnalytics);
